"""Every benchmark runs with its smallest size and writes what its JSON has; its times mean nothing here."""

import json
import runpy
import sys
from pathlib import Path

import made_class
import pytest
import torch
import torchvision

import earlyexit
from earlyexit import dyn_retinanet_nano
from earlyexit.data import keep_single_objects
from earlyexit.data.scenes import export_scenes
from earlyexit.evaluation import collect, cost
from earlyexit.study.finished import RESULTS

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a benchmark in this process and gives what it wrote, and what it should have."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    threads = torch.get_num_threads()

    def run(name, *options, kept=None):
        path = tmp_path / f"{name}.json"
        script = str(FOLDER / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [script, *map(str, options), "--json", str(path)])
        runpy.run_path(script, run_name="__main__")
        kept = json.loads((kept or FOLDER / f"{name}.json").read_text())
        return json.loads(path.read_text()), kept

    yield run
    torch.set_num_threads(threads)


def numbers(value):
    """All numbers in a result, however deep."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    return [value] if isinstance(value, float) else []


def test_inference(run):
    found, kept = run("inference", "--size", "64,96", "--repeats", 1, "--threads", 1)
    assert list(found["seconds"]) == list(kept["seconds"]) and set(kept) <= set(found)
    assert found["ratio"]["torchvision retinanet_resnet50_fpn_v2"] == 1
    assert min(numbers(found)) > 0


def test_training(run):
    found, kept = run("training", "--images", 24, "--threads", 1)
    assert set(found) == set(kept) and found["images_per_second"] > 0 and 16 <= found["images"] < 40


def test_homework(run, monkeypatch):
    """Of a class of one, who is right in everything."""

    def make_class(folder, times):
        made_class.hand_in(folder, "perfect")
        return {("perfect", exercise): (10, "right") for exercise in made_class.ALL}

    monkeypatch.setattr(made_class, "make_class", make_class)
    found, kept = run("homework", "--times", 1, "--jobs", 1)
    assert set(found) == set(kept) and found["not as expected"] == []
    assert (found["students"], found["marks"]) == (1, {"10.0": len(made_class.ALL)})
    assert found["seconds a student"] > 0


def test_compiled(run, monkeypatch):
    """Without the compiler, which takes minutes."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    found, kept = run("compiled", "--batch", 2, "--repeats", 1)
    assert set(found) == set(kept) and set(found["milliseconds"]) == {"folded", "compiled"}
    for rows in found["milliseconds"].values():
        assert {name: len(row) for name, row in rows.items()} == {"batch1": 4, "batch2": 4}


def test_evaluation(run, tmp_path):
    for path in export_scenes(tmp_path / "data", {"test": 8, "calibration": 8}, size=64, workers=1).values():
        path.write_text(json.dumps(keep_single_objects(json.loads(path.read_text()))))
    options = ["--data", tmp_path / "data", "--workers", 1, "--sample", 1, "--repeats", 1]
    found, kept = run("evaluation", *options)
    assert set(found) == set(kept) and set(found["seconds"]) == set(kept["seconds"])
    assert found["published"]["passes"] == 2 * 34 * 2 and found["published"]["sampled_images"] == 68
    assert min(numbers(found)) >= 0


def test_gpu(run, monkeypatch):
    """On a CPU, with small detectors in place of the large ones, and without counting multiply-adds."""
    for module in (cost, collect):
        monkeypatch.setattr(module, "count_macs", lambda *_: {k: {"total": k / 4} for k in (1, 2, 3, 4)})
    monkeypatch.setattr(earlyexit, "dyn_retinanet_regnet_y_800mf", dyn_retinanet_nano, raising=False)
    peer = lambda num_classes, weights, weights_backbone, **sides: dyn_retinanet_nano(num_classes, **sides)  # noqa: E731
    monkeypatch.setattr(torchvision.models.detection, "retinanet_resnet50_fpn_v2", peer)
    small = ["--device", "cpu", "--size", "64,64", "--batches", 2, "--repeats", 1, "--rounds", 1, "--scenes", 12]
    small += ["--images", 8]
    found, kept = run("gpu", *small, kept=RESULTS / "gpu" / "times.json")
    assert set(found) == set(kept) and found["device"] == "CPU"
    for name in ("latency", "policies"):
        assert [set(row) for row in found[name][:1]] == [set(row) for row in kept[name][:1]]
        made = {(row["model"], row["dtype"], row.get("exit")) for row in found[name]}
        assert made == {(row["model"], row["dtype"], row.get("exit")) for row in kept[name]}
    assert min(row["median_ms"] for row in found["latency"]) > 0
    for row in found["policies"]:
        mean = sum(int(exit) / 4 * count for exit, count in row["exits"].items()) / row["images"]
        assert row["share"] == pytest.approx(mean, abs=1e-4) and row["time"] > 0
    in_turn = [row["share"] for row in found["policies"] if row["model"] != "nano"]
    assert in_turn == pytest.approx([0.62, 0.62, 0.5, 0.5], abs=0.02)


def test_preparation(run, tmp_path):
    found, kept = run("preparation", "--share", 0.01, "--only", "read_xml")
    assert set(found["read_xml"]) == set(kept["read_xml"]) and found["read_xml"]["files"] == 200
    assert found["read_xml"]["objects"] == 500


@pytest.mark.parametrize("name", ["read_and_filter", "read_for_training", "open_photos"])
def test_what_preparation_measures(tmp_path, name):
    """In this process; that each has its own is tested with one of them."""
    script = runpy.run_path(str(FOLDER / "preparation.py"))
    script["MEASUREMENTS"][name][0](tmp_path, 0.01)
    found, kept = script["measure"](name, tmp_path), json.loads((FOLDER / "preparation.json").read_text())
    assert set(found) == set(kept[name])
    counted = [what for what in ("images", "files") if what in found]
    assert [found[what] for what in counted] == [round(kept[name][what] / 100) for what in counted]
