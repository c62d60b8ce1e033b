"""Results as files, and the finished study that comes with the package."""

import json
from pathlib import Path

import pytest
from made_study import made_models

from earlyexit.files import write_table
from earlyexit.study import finished, open_study
from earlyexit.study.finished import Study, gpu_times
from earlyexit.study.measure import load_models, model_path, write_model
from earlyexit.study.tables import Models, accuracy_table

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = {
    "command": "earlyexit study --seeds 3",
    "commit": "abc1234",
    "date": "2026-01-02",
    "machine": "made up",
    "seeds": [0, 1, 2],
    "seconds": {"training": 5400.0, "images": 1800.0},
    "models": [{"name": "proposed-0"}, {"name": "baseline-0"}],
    "data": {split: {"images": n} for split, n in (("train", 4748), ("calibration", 1175), ("test", 2011))},
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "results" / "scenes"
    folder.mkdir(parents=True)
    for name in ("sweep", "accuracy"):
        write_table(folder / f"{name}.csv", accuracy_table(Models(made_models())))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "study_summary.json").write_text(json.dumps({"claims": [{"name": "full depth", "holds": "yes"}]}))
    return folder


def test_a_study_gives_its_tables_claims_and_story(folder):
    study = Study(folder)
    last = [row for row in study.table("accuracy") if (row["model"], row["exit"]) == ("proposed", 4)]
    assert [row["accuracy"] for row in last] == [64]  # 50 + the gain of 10 + the exit, see made_study
    assert study.claim("full depth")["holds"] == "yes"
    for part in (
        "2 models",
        "2,011 test",
        "earlyexit study --seeds 3",
        "2026-01-02, commit abc1234",
        "2.0 process hours",
    ):
        assert part in str(study)


def test_what_is_not_there_is_named(folder, tmp_path):
    study = Study(folder)
    with pytest.raises(ValueError, match="accuracy, sweep, got 'curves'"):
        study.table("curves")
    with pytest.raises(ValueError, match="full depth, got 'no such'"):
        study.claim("no such")
    with pytest.raises(ValueError, match="no finished study"):
        Study(tmp_path)


def test_pairs_have_the_same_seeds():
    found = made_models()
    del found["baseline-1"]
    first, second = Models(found).pairs("proposed", "baseline")
    assert [m["name"] for m in first] == ["proposed-0", "proposed-2"]
    assert [m["name"] for m in second] == ["baseline-0", "baseline-2"]


def test_load_models_names_a_broken_file(tmp_path):
    write_model(model_path(tmp_path, "proposed-0"), made_models()["proposed-0"])
    assert load_models(tmp_path)["proposed-0"]["repeats"] == 2
    (tmp_path / "models" / "proposed-1.json").write_text("{")
    with pytest.raises(ValueError, match="proposed-1.json"):
        load_models(tmp_path)


def test_results_of_the_package_are_complete_and_need_no_network(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study = open_study()
    assert len(study.table("sweep")) == 2 * 2 * 34 and len(study.summary["claims"]) >= 19
    assert study.table("beyond_fresh") and len(load_models(study.folder)) == 18
    assert "sources" not in study.manifest and study.manifest["seeds"] == [0, 1, 2]
    with pytest.raises(ValueError, match="coco_single' holds no finished study"):
        open_study("coco_single")


def test_package_data_matches_every_file_of_the_results():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["earlyexit"]
    package = ROOT / "earlyexit"
    matched = {path for pattern in project for path in package.glob(pattern)}
    assert all(any(package.glob(pattern)) for pattern in project)
    folders = (package / "study" / name for name in ("results", "paper_data"))
    missing = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert missing and missing <= matched


def test_times_on_a_gpu_say_how_they_came_about(monkeypatch, tmp_path):
    found = gpu_times()
    assert found["device"] != "CPU" and found["command"].startswith("python benchmarks/gpu.py")
    assert {row["dtype"] for row in found["policies"]} == {"float32", "bfloat16"}
    for row in found["latency"]:
        assert 0 < row["median_ms"] <= row["p95_ms"] and row["batch_size"] in (1, 16, 64)
    for row in found["policies"]:
        assert row["low"] <= row["time"] <= row["high"] and abs(row["share"] - row["asked"]) < 0.03
        assert sum(row["exits"].values()) == row["images"]
    monkeypatch.setattr(finished, "RESULTS", tmp_path)
    assert gpu_times() is None
