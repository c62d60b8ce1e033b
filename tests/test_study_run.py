"""The study from end to end, in small: measuring a model, going on, tables, manifest, the command."""

import json
import sys
from dataclasses import asdict, replace

import pytest
from made_study import made_models
from test_study_tables import costs

from earlyexit import cli, load_detector
from earlyexit.data import coco_split, keep_single_objects
from earlyexit.data.scenes import export_scenes
from earlyexit.evaluation import coco_metrics, detect_all
from earlyexit.records import collect
from earlyexit.settings import TrainSettings
from earlyexit.study import costs as costs_module
from earlyexit.study import manifest, runner
from earlyexit.study.costs import compute_table, latency_table, same_size
from earlyexit.study.files import read_table, write_table
from earlyexit.study.limits import first_images
from earlyexit.study.manifest import check_manifest, source_hashes
from earlyexit.study.measure import measure, training_of
from earlyexit.study.plan import plan
from earlyexit.study.results import check_model, describe_data, load_models, model_path, write_model
from earlyexit.weights import read_about, save_weights


@pytest.fixture(autouse=True)
def quick_fingerprint(monkeypatch):
    """The real one takes seconds and has tests of its own."""
    monkeypatch.setattr(manifest, "fingerprint", lambda: {"zero, scores": 7.0})


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Scenes of 64 pixels with one object each."""
    out = tmp_path_factory.mktemp("single")
    for path in export_scenes(out, {"train": 8, "calibration": 8, "test": 16}, size=64, workers=1).values():
        path.write_text(json.dumps(keep_single_objects(json.loads(path.read_text()))))
    return out


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
    write_model(out / "old.json", {**old, "settings": {**old["settings"], "sandwich": False}})
    assert check_model(out / "old.json", settings, data, 2)
    write_model(out / "old.json", {**old, "settings": {**old["settings"], "sandwich": True}})
    with pytest.raises(ValueError, match="was made with sandwich=True, which no longer exists"):
        check_model(out / "old.json", settings, data, 2)


@pytest.fixture
def finished(single, tmp_path):
    """A folder of results with every model measured; only tables are left to write."""
    for name, model in made_models().items():
        write_model(model_path(tmp_path, name), {**model, "data": describe_data(single)})
    for name, rows in zip(("compute", "latency"), costs(), strict=True):
        write_table(tmp_path / f"{name}.csv", rows)
    return tmp_path


def test_study_goes_on_from_the_results_alone(finished, single, monkeypatch):
    """Nothing is trained or measured where the models' files are there, as on another machine."""
    monkeypatch.setattr(runner, "run_jobs", lambda *_: pytest.fail("there is nothing to run"))
    lines = []
    trainings = plan("scenes", single, "nowhere")
    assert runner.run_study(trainings, "scenes", finished, repeats=2, say=lines.append) == []
    assert lines[0] == "18 models, 18 of them measured already"
    rows = read_table(finished / "sweep.csv")
    (last,) = (r for r in rows if (r["model"], r["filler"], r["index"]) == ("proposed", "downsample", 34))
    assert (last["mAP"], last["seeds"]) == (30, 3)
    summary = json.loads((finished / "study_summary.json").read_text())
    assert summary["claims"][0]["ours"]["mean"] == 10
    story = json.loads((finished / "manifest.json").read_text())
    assert story["seconds"]["training"] == 1800 and story["seeds"] == [0, 1, 2]
    before = {path.name: path.read_bytes() for path in finished.glob("*.csv")}
    runner.run_study(trainings, "scenes", finished, repeats=2, say=lines.append)
    assert {path.name: path.read_bytes() for path in finished.glob("*.csv")} == before and len(before) == 10


def test_failed_models_leave_tables_of_the_others(finished, single, monkeypatch):
    (finished / "models" / "grid-theta1-lambda1.json").unlink()
    asked = []
    monkeypatch.setattr(runner, "run_jobs", lambda jobs, *_: asked.extend(jobs) or [job.name for job in jobs])
    trainings = plan("scenes", single, finished / "runs")
    assert runner.run_study(trainings, "scenes", finished, repeats=2, say=lambda _: 0) == ["grid-theta1-lambda1"]
    assert [word for word, _ in asked[0].steps] == ["training", "measuring"]
    assert len(read_table(finished / "theta.csv")) == 9 * 34
    assert "best_theta" in json.loads((finished / "study_summary.json").read_text())["left_out"]


def test_manifest_names_what_changed(tmp_path):
    package = tmp_path / "package"
    (package / "study").mkdir(parents=True)
    for name, text in {"neck.py": "a = 1\n", "losses.py": "b = 1\n", "cli.py": "c = 1\n"}.items():
        (package / name).write_text(text)
    (tmp_path / "manifest.json").write_text(json.dumps({"sources": source_hashes(package)}))
    assert check_manifest(tmp_path, package) == []
    (package / "losses.py").write_bytes(b"b = 1\r\n")  # as git may write it on Windows
    (package / "cli.py").write_text("c = 2\n")  # decides no result
    assert check_manifest(tmp_path, package) == []
    (package / "neck.py").write_text("a = 2\n")
    (package / "new.py").write_text("")
    assert check_manifest(tmp_path, package) == ["neck.py", "new.py"]
    (package / "losses.py").unlink()
    assert "losses.py" in check_manifest(tmp_path, package)
    with pytest.raises(ValueError, match="no manifest.json"):
        check_manifest(package)


def test_manifest_covers_what_decides_and_its_exceptions_exist():
    names = source_hashes()
    assert {"detector.py", "fitting.py", "data/scenes/composition.py", "records/matching.py"} <= set(names)
    assert {"study/plan.py", "study/curves.py", "weights/scenes-pretrained.safetensors"} <= set(names)
    assert not {"cli.py", "study/plots.py", "data/single.py"} & set(names)
    assert [name for name in manifest._DECIDES_NOTHING if not (manifest.PACKAGE / name).exists()] == []


def test_first_images_are_a_data_set_of_their_own(single, tmp_path):
    made = first_images(single, tmp_path / "few", 3)
    whole, few = coco_split(single, "test"), coco_split(made, "test")
    assert few.ids == whole.ids[:3] and few.classes == whole.classes
    assert (few[2][0] == whole[2][0]).all()
    with pytest.raises(ValueError, match="limit 0"):
        first_images(single, tmp_path / "none", 0)


def test_images_of_one_size_are_found(single):
    images = same_size(coco_split(single, "test"), most=2)
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data", "coco_single"], "--folder is missing"),
        (["--data", "voc", "--folder", "x"], "'voc'"),
        (["--epochs-factor", "0.2"], "--out of its own"),
        (["--out", "nowhere", "--check"], "no manifest.json"),
        (["--folder", "nowhere", "--out", "o"], "no image folder"),
        (["--folder", "MANY", "--out", "o"], "images with exactly one object"),
        (["--folder", "FEW", "--out", "o"], "at least 3 images in 'test'"),
    ],
)
def test_command_refuses_in_one_line(options, said, folder, single, tmp_path, capsys, monkeypatch):
    """The images of `folder` have several objects."""
    monkeypatch.chdir(tmp_path)
    if "MANY" in options:
        monkeypatch.setattr("earlyexit.study.runner.SPLITS", ("train",))
    places = {"MANY": lambda: folder, "FEW": lambda: first_images(single, tmp_path / "few", 2)}
    options = [str(places[option]()) if option in places else option for option in options]
    monkeypatch.setattr(sys, "argv", ["earlyexit", "study", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in line
    assert not list(tmp_path.glob("o/*"))


def test_check_says_which_files_changed(finished, single, capsys, monkeypatch):
    runner.run_study(plan("scenes", single, "nowhere"), "scenes", finished, repeats=2, say=lambda _: 0)
    path = finished / "manifest.json"
    story = json.loads(path.read_text())
    monkeypatch.setattr(sys, "argv", ["earlyexit", "study", "--out", str(finished), "--check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and "as it is" in capsys.readouterr().out
    story["sources"]["detector.py"] = "0"
    path.write_text(json.dumps(story))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert not ended.value.code and "  detector.py\n" in said and "still the same" in said
    story["fingerprint"]["zero, scores"] += 1
    path.write_text(json.dumps(story))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "other numbers come out of it: zero, scores\n" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"sources": 3, "fingerprint": {}}'])
def test_check_names_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json' is damaged"):
        check_manifest(tmp_path)


def test_load_models_names_a_broken_file(finished):
    (finished / "models" / "proposed-1.json").write_text("{")
    with pytest.raises(ValueError, match="proposed-1.json"):
        load_models(finished)


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

    monkeypatch.setattr(costs_module, "measure_latency", timed)
    monkeypatch.setattr(costs_module, "paper_detector", lambda: nano)
    rows = {
        (r["model"], r["batch_size"], r["exit"]): r for r in latency_table(nano, coco_split(single, "test"), rounds=3)
    }
    assert len(rows) == 6 and ("regnet_y_800mf", 16, 1) not in rows
    row = rows["nano", 16, 1]
    assert (row["median_ms"], row["time_saved"], row["gmacs_saved"], row["rounds"]) == (7, 30, 50, 3)
    assert row["high"] - 30 == pytest.approx(4.303 * 10 / 3**0.5, abs=0.006)
    assert (row["low"], rows["nano", 1, 4]["time_saved"]) == (pytest.approx(60 - row["high"], abs=0.011), 0)


def test_compute_table_has_every_part_under_both_fillers(nano, monkeypatch):
    def count(model, size):
        base = size[0] + (1000 if model.neck.filler == "zero" else 0)
        return {exit: {"neck": exit, "total": base + exit} for exit in (1, 2, 3, 4)}

    monkeypatch.setattr(costs_module, "paper_detector", lambda: nano)
    monkeypatch.setattr(costs_module, "count_macs", count)
    rows = compute_table(nano)
    total = {(r["model"], r["filler"], r["exit"]): r["gmacs"] for r in rows if r["part"] == "total"}
    assert len(rows) == 2 * 2 * 4 * 2
    assert (total["nano", "zero", 3], total["regnet_y_800mf", "downsample", 1]) == (1131, 801)
    assert nano.neck.filler == "downsample"
