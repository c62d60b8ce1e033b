"""All numbers of one model: those of running it, known again, never replaced."""

import json
from dataclasses import asdict, replace

import pytest
from made_records import made_records

from earlyexit import load_detector
from earlyexit.data.coco import coco_split
from earlyexit.evaluation import collect
from earlyexit.evaluation.coco import coco_metrics, detect_all
from earlyexit.study.finished import check_model, describe_data, model_path, write_model
from earlyexit.study.measure import measure, policy_rows
from earlyexit.study.plan import Training, training_of
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
