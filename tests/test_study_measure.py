"""All numbers of one model: those of running it, known again, never replaced; and which times are kept.

Nothing here reads a clock.
"""

import json
from dataclasses import asdict, replace

import pytest
import torch
from made_records import made_records

from earlyexit import count_macs, dyn_retinanet_nano, load_detector
from earlyexit.data.coco import coco_split
from earlyexit.evaluation import collect, cost
from earlyexit.evaluation.coco import coco_metrics, detect_all
from earlyexit.evaluation.cost import same_size
from earlyexit.study import measure as module
from earlyexit.study.findings import policy_rows
from earlyexit.study.measure import (
    check_model,
    describe_data,
    latency_table,
    measure,
    model_path,
    time_ratio,
    times_of_budgets,
    times_of_exits,
    write_model,
)
from earlyexit.study.plan import Training, training_of
from earlyexit.study.tables import times_tables
from earlyexit.training.settings import TrainSettings
from earlyexit.weights import read_about, save_weights


@pytest.fixture(scope="module")
def measured(single, tmp_path_factory):
    """The results of the trained model of the package, as if it were of the study, and where its run lies."""
    run, out = tmp_path_factory.mktemp("runs") / "proposed-0", tmp_path_factory.mktemp("results")
    run.mkdir()
    save_weights(load_detector("scenes")[0], run / "model.safetensors", about=read_about("scenes"))
    settings = TrainSettings(str(single), str(run), epochs=1)
    (run / "settings.json").write_text(json.dumps({"settings": asdict(settings)}))
    (run / "log.csv").write_text("epoch,seconds\n1,2.5\n2,3.5\n")
    with pytest.MonkeyPatch.context() as patch:  # counting takes seconds and is tested elsewhere
        patch.setattr(collect, "count_macs", lambda model, size: {k: {"total": float(k)} for k in (1, 2, 3, 4)})
        path = measure(training_of(run, "proposed"), out, repeats=2)
    return json.loads(path.read_text()), run, out


def test_measured_numbers_are_those_of_running_the_model(measured, single):
    result, run, _ = measured
    model, test = load_detector(run / "model.safetensors")[0], coco_split(single, "test")
    found = [row for one in detect_all(model, test, None, 4, 8) for row in one.found]
    direct = coco_metrics(test, found)["mAP"]
    assert direct > 10 and result["fillers"]["downsample"]["forced"][3]["mAP"] == pytest.approx(direct, abs=5e-4)
    setting = result["fillers"]["zero"]["sweep"][9]
    model.neck.filler = "zero"
    limits = [float("inf") if t is None else t for t in setting["thresholds"]]
    rows = detect_all(model, test, limits, None, 1)
    direct = coco_metrics(test, [row for one in rows for row in one.found])["mAP"]
    assert setting["mAP"] == pytest.approx(direct, abs=5e-4)
    taken = [row.exit for row in rows]
    assert setting["gmacs"] == pytest.approx(sum(taken) / len(taken)) and setting["gmacs_full"] == 4
    assert setting["realised"] == pytest.approx([taken.count(k) / len(test) for k in (1, 2, 3, 4)], abs=1e-5)
    assert len(result["difficulty"]["exits_taken"]) == len(test) == result["data"]["test"]["images"]
    assert result["seconds"]["training"] == 6


def test_measured_model_is_known_again_and_never_replaced(measured, single):
    _, run, out = measured
    path, data = model_path(out, "proposed-0"), describe_data(single)
    settings = training_of(run, "proposed").settings
    assert check_model(path, settings, data, 2)
    assert check_model(path, replace(settings, out="elsewhere", workers=3), data, 2)
    assert not check_model(path.with_name("other.json"), settings, data, 2)
    with pytest.raises(ValueError, match="epochs was 1, is 7"):
        check_model(path, replace(settings, epochs=7), data, 2)
    other = {**data, "test": {**data["test"], "images": 99}}
    with pytest.raises(ValueError, match="'images': 99"):
        check_model(path, settings, other, 2)
    with pytest.raises(ValueError, match="repeats was 2, is 3"):
        check_model(path, settings, data, 3)
    old = json.loads(path.read_text())
    write_model(path, {**old, "settings": {**old["settings"], "sandwich": False}})
    assert check_model(path, settings, data, 2)
    write_model(path, {**old, "settings": {**old["settings"], "sandwich": True}})
    with pytest.raises(ValueError, match="was made with sandwich=True, which no longer exists"):
        check_model(path, settings, data, 2)


def test_fresh_images_leave_by_the_thresholds_that_were_found():
    records = made_records(images=60, objects=(1,), crowds=0, seed=4)
    never = {"budget": 1.0, "thresholds": (None, None, None)}
    second = {"budget": 0.35, "thresholds": (None, 0.0, None)}
    rows = policy_rows(records, {"score_scales": [(1.0, 0.0)] * 4, "budgets": [never, second]})
    by_policy = {row.pop("policy"): row for row in rows}
    assert by_policy["budget 1.00"] == by_policy["exit 4"] and by_policy["exit 4"]["kept"] == 1.0
    assert by_policy["budget 0.35"] == by_policy["exit 2"] != by_policy["exit 4"]
    assert by_policy["exit 1"]["images"] == 60


def test_unknown_group_is_named(tmp_path):
    with pytest.raises(ValueError, match="baseline, .*ablation, got 'later'"):
        measure(Training("a", "later", TrainSettings("data", str(tmp_path))), tmp_path)


def test_images_of_one_size_are_found(single):
    images = same_size(coco_split(single, "test"), most=2)
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 2


def test_latency_of_rounds_has_an_interval(single, nano, monkeypatch):
    """Exit 1 takes 8, 7 and 6 ms in three rounds, exit 4 always 10."""
    times = iter([8.0, 8.0, 7.0, 7.0, 6.0, 6.0])

    def timed(model, images, *, batch_sizes=(1, 16), repeats, warmup):
        first = next(times)
        same = {"p95_ms": 20.0, "repeats": repeats, "height": 128, "width": 128, "threads": 1, "device": "cpu"}
        exits = {1: (first, 1.0), 4: (10.0, 2.0)}
        rows = [
            {"batch_size": b, "exit": e, "median_ms": t, "gmacs": g} for b in batch_sizes for e, (t, g) in exits.items()
        ]
        return [{**row, **same} for row in rows]

    monkeypatch.setattr(module, "measure_latency", timed)
    monkeypatch.setattr(module, "paper_detector", lambda: nano)
    rows = {
        (r["model"], r["batch_size"], r["exit"]): r for r in latency_table(nano, coco_split(single, "test"), rounds=3)
    }
    assert len(rows) == 6 and ("regnet_y_800mf", 16, 1) not in rows
    row = rows["nano", 16, 1]
    assert (row["median_ms"], row["time_saved"], row["gmacs_saved"], row["rounds"]) == (7, 30, 50, 3)
    assert row["high"] - 30 == pytest.approx(4.303 * 10 / 3**0.5, abs=0.006)
    assert (row["low"], rows["nano", 1, 4]["time_saved"]) == (pytest.approx(60 - row["high"], abs=0.011), 0)


def test_time_ratio_takes_turns():
    calls = []
    found = time_ratio(
        lambda batch: calls.append(("early", len(batch))),
        lambda batch: calls.append(("full", len(batch))),
        [torch.zeros(1)] * 5,
        2,
        rounds=3,
    )
    assert calls == [("early", 2), ("full", 2)] * (2 + 2 * 3)  # two to warm up, then two batches in each round
    assert found["low"] <= found["mean"] <= found["high"]
    with pytest.raises(ValueError, match="one batch of 16"):
        time_ratio(len, len, [], 16)


def stages_run(run, device):
    """A clock that never goes wrong: a call takes as many seconds as the exits that its images reach."""
    return sum(found["exit"] for found in run())


def test_times_of_budgets_are_those_of_their_thresholds(monkeypatch):
    # The export has tests of its own and takes half a minute.
    monkeypatch.setattr(module, "export_onnx", lambda model, folder, size: None)
    monkeypatch.setattr(module, "OnnxDetector", lambda folder, model: model)
    monkeypatch.setattr(cost, "seconds", stages_run)
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned", min_size=64, max_size=64).eval()
    rows = [
        {"budget": b, "share": b - 0.01, "kept": 0.9, "thresholds": t}
        for b, t in ((0.4, (0.0, None, None)), (1.0, (None, None, None)))
    ]
    first, never = times_of_budgets(model, [torch.rand(3, 64, 64)] * 16, rows, rounds=3)
    assert set(first["times"]) == {"batch1", "batch16", "onnx batch1", "onnx batch16"}
    assert first["share"] == pytest.approx(0.39) and never["budget"] == 1.0
    for name, ratio in first["times"].items():  # all leave at exit 1 of 4, and nobody early
        assert ratio == {"mean": 0.25, "low": 0.25, "high": 0.25, "ms": 1000, "ms_full": 4000}, name
        assert never["times"][name] == {"mean": 1, "low": 1, "high": 1, "ms": 4000, "ms_full": 4000}, name
    table = times_tables({"budgets": [first, never], "exits": []})["beyond_times"]
    assert len(table) == 8 and table[0]["runs"] == "batch1" and table[0]["ms"] == first["times"]["batch1"]["ms"]


def test_times_of_exits_stand_beside_their_compute(monkeypatch):
    monkeypatch.setattr(cost, "seconds", stages_run)
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned").eval()
    rows = times_of_exits(model, (128, 160), rounds=2)
    macs = count_macs(model, (128, 160))
    assert [row["share"] for row in rows] == [macs[k]["total"] / macs[4]["total"] for k in (1, 2, 3, 4)]
    assert [(row["time"], row["ms"]) for row in rows] == [(k / 4, 1000 * k) for k in (1, 2, 3, 4)]
    assert model.transform.min_size == (128,)  # the model is as it was
    (row,) = times_tables({"budgets": [], "exits": [{"detector": "nano", **rows[0]}]})["beyond_clock"]
    assert row["detector"] == "nano" and row["share"] == round(rows[0]["share"], 4) and row["width"] == 160
