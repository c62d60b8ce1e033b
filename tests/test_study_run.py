"""The study from end to end: going on, tables, manifest, the commands; and the sample that says whether it holds."""

import json
import sys

import pytest
import torch
from made_study import made_costs, made_early, made_models

from earlyexit import cli
from earlyexit.data.coco import first_images
from earlyexit.evaluation.policies import exit_proportions
from earlyexit.files import read_table, write_table
from earlyexit.study import open_study, run
from earlyexit.study.measure import describe_data, model_path, write_model
from earlyexit.study.plan import plan
from earlyexit.study.run import check_numbers, differing

FINGERPRINT = run.fingerprint  # the tests of commands put a quick one in its place


@pytest.fixture(autouse=True)
def quick_fingerprint(monkeypatch):
    """The real one takes seconds and has tests of its own."""
    monkeypatch.setattr(run, "fingerprint", lambda: {"zero, scores": 7.0})


@pytest.fixture
def finished(single, tmp_path):
    """A folder of results with every model measured; only tables are left to write."""
    for name, model in made_models().items():
        write_model(model_path(tmp_path, name), {**model, "data": describe_data(single)})
    for name, rows in zip(("compute", "latency"), made_costs(), strict=True):
        write_table(tmp_path / f"{name}.csv", rows)
    return tmp_path


def test_study_goes_on_from_the_results_alone(finished, single, monkeypatch):
    """Nothing is trained or measured where the models' files are there, as on another machine."""
    monkeypatch.setattr(run, "run_jobs", lambda *_: pytest.fail("there is nothing to run"))
    lines = []
    trainings = plan("scenes", single, "nowhere")
    assert run.run_study(trainings, "scenes", finished, repeats=2, say=lines.append) == []
    assert lines[0] == "18 models, 18 of them measured already"
    rows = read_table(finished / "sweep.csv")
    (last,) = (r for r in rows if (r["model"], r["filler"], r["index"]) == ("proposed", "downsample", 34))
    assert (last["mAP"], last["seeds"]) == (30, 3)
    summary = json.loads((finished / "study_summary.json").read_text())
    assert summary["claims"][0]["ours"]["mean"] == 10
    story = json.loads((finished / "manifest.json").read_text())
    assert story["seconds"]["training"] == 1800 and story["seeds"] == [0, 1, 2]
    tables = {path.name: path.read_bytes() for path in finished.glob("*.csv")}
    run.run_study(trainings, "scenes", finished, repeats=2, say=lines.append)
    assert {path.name: path.read_bytes() for path in finished.glob("*.csv")} == tables and len(tables) == 10


def test_the_manifest_is_of_the_code_that_measured(finished, single, monkeypatch):
    """A new claim, say, needs new verdicts; a new sample beside old numbers would hide that the code has moved on."""
    path, lines = finished / "manifest.json", []

    def told(count=None):
        """The manifest's sample after the study of the first `count` models."""
        run.run_study(plan("scenes", single, "nowhere")[:count], "scenes", finished, repeats=2, say=lines.append)
        return json.loads(path.read_text())["fingerprint"]["zero, scores"]

    assert told() == 7
    (finished / "study_summary.json").unlink()
    monkeypatch.setattr(run, "fingerprint", lambda: {"zero, scores": 8.0})
    assert told() == 7 and lines[-1].endswith("its manifest.json stays, since the models do")
    assert json.loads((finished / "study_summary.json").read_text())["claims"]
    assert told(6) == 8  # of other models
    monkeypatch.setattr(run, "fingerprint", lambda: {"zero, scores": 9.0})
    (finished / "latency.csv").rename(finished / "latency")
    monkeypatch.setattr(run, "_costs", lambda *_: made_costs())
    assert told(6) == 9  # measured anew
    (finished / "latency").rename(finished / "latency.csv")
    monkeypatch.setattr(run, "fingerprint", lambda: {"zero, scores": 10.0})
    assert told(6) == 9
    path.write_text("{broken")
    assert told(6) == 10


def test_failed_models_leave_tables_of_the_others(finished, single, monkeypatch):
    (finished / "models" / "grid-theta1-lambda1.json").unlink()
    asked = []
    monkeypatch.setattr(run, "run_jobs", lambda jobs, *_: asked.extend(jobs) or [job.name for job in jobs])
    trainings = plan("scenes", single, finished / "runs")
    assert run.run_study(trainings, "scenes", finished, repeats=2, say=lambda _: 0) == ["grid-theta1-lambda1"]
    assert [word for word, _ in asked[0].steps] == ["training", "measuring"]
    assert len(read_table(finished / "theta.csv")) == 9 * 34
    assert "best_theta" in json.loads((finished / "study_summary.json").read_text())["left_out"]


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
        monkeypatch.setattr(run, "SPLITS", ("train",))
    places = {"MANY": lambda: folder, "FEW": lambda: first_images(single, tmp_path / "few", 2)}
    options = [str(places[option]()) if option in places else option for option in options]
    monkeypatch.setattr(sys, "argv", ["earlyexit", "study", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in line
    assert not list(tmp_path.glob("o/*"))


def test_check_says_whether_the_numbers_are_still_the_same(finished, single, capsys, monkeypatch):
    run.run_study(plan("scenes", single, "nowhere"), "scenes", finished, repeats=2, say=lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["earlyexit", "study", "--out", str(finished), "--check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert not ended.value.code and "is of the code as it is" in line
    path = finished / "manifest.json"
    story = json.loads(path.read_text())
    story["fingerprint"]["zero, scores"] += 1
    path.write_text(json.dumps(story))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1 and line.endswith("other numbers come out: zero, scores")


def test_check_without_a_folder_takes_the_results_of_the_package(monkeypatch, tmp_path, capsys):
    before = open_study().manifest["fingerprint"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "fingerprint", lambda: before)
    monkeypatch.setattr(sys, "argv", ["earlyexit", "study", "--check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and "scenes is of the code as it is" in capsys.readouterr().out


def test_beyond_goes_on_from_a_first_training_that_was_measured(finished, single, monkeypatch):
    """Old results count: of a model whose first half is there, only the second is left; and nothing is done twice."""
    asked = []
    monkeypatch.setattr(run, "run_jobs", lambda jobs, *_: asked.extend(jobs) or [])
    (training,) = plan("scenes", single, finished / "runs", many=single, seeds=(0,))[:1]
    assert run.run_study([training], "scenes", finished, say=lambda _: 0) == []
    words = ["training early-0", "measuring"]
    assert [word for word, _ in asked[0].steps] == ["training", "measuring", *words]
    assert all("earlyexit.study.measure" in step for word, step in asked[0].steps if word == "measuring")
    ratios = dict.fromkeys(("batch1", "batch16"), {"mean": 0.6, "low": 0.5, "high": 0.8, "ms": 1.0, "ms_full": 2.0})
    times = {"budgets": [{"budget": 0.62, "share": 0.6, "kept": 0.9, "times": ratios}], "exits": [{"exit": 1}]}
    write_model(finished / "beyond" / "times.json", times)
    write_model(model_path(finished / "beyond", "joint-0"), {**made_early("joint-0"), "group": "joint"})
    run.run_study([training], "scenes", finished, say=lambda _: 0)
    assert [word for word, _ in asked[1].steps] == words
    write_model(model_path(finished / "beyond", "early-0"), made_early("early-0"))
    monkeypatch.setattr(run, "run_jobs", lambda *_: pytest.fail("there is nothing to run"))
    lines = []
    assert run.run_study([training], "scenes", finished, say=lines.append) == []
    assert lines[0] == "1 models, 1 of them measured already" and "reached      time_ratio batch1" in lines
    assert [row["model"] for row in read_table(finished / "beyond_exits.csv")[::4]] == ["joint-0", "early-0"]
    summary = json.loads((finished / "beyond_summary.json").read_text())
    assert summary["proposed_full_depth_map"]["mean"] == 30 and summary["reached"]["full_depth_map"]
    assert len(json.loads((finished / "beyond" / "manifest.json").read_text())["models"]) == 2


def test_differing_names_what_is_new_gone_or_other():
    before = {"loss": 1.0, "gone": 2.0, "random, mAP": 50.0}
    assert differing(before, {"loss": 1.001, "new": 3.0, "random, mAP": 51.0}) == ["gone", "new"]
    assert differing(before, {"loss": 1.02, "gone": 2.0, "random, mAP": 54.0}) == ["loss", "random, mAP"]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def now():
    """The numbers of this code, with one thread as those that are compared."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    found = FINGERPRINT()
    torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    return found


def test_results_of_the_study_are_of_this_code(now):
    assert differing(open_study().manifest["fingerprint"], now) == []
    assert {name.split(",")[0] for name in now} == {"calibration", "downsample", "zero", *run.SAMPLED}


@pytest.mark.usefixtures("one_thread")
def test_another_rule_gives_another_fingerprint(now, monkeypatch, tmp_path):
    shares = exit_proportions()
    monkeypatch.setattr("earlyexit.evaluation.scores.exit_proportions", lambda: shares.flip(1))
    other = run._measured(run._sampled(tmp_path))
    differ = differing({name: now[name] for name in other}, other)
    assert differ and all("index" in name for name in differ)  # nothing but what depends on the rule


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"fingerprint": 3}'])
def test_check_names_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json' is damaged"):
        check_numbers(tmp_path)
