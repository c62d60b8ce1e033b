"""What the two benchmarks of choosing compute, on records whose answer is known; their times mean nothing here."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fitting import planted

import earlyexit
from earlyexit.data import coco_split
from earlyexit.data.scenes import export_scenes
from earlyexit.evaluation.records import at_exits
from earlyexit.files import read_table, write_json
from earlyexit.model import load_detector
from earlyexit.model.exits import worth_features
from earlyexit.study.opponents import Choosing, open_run

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def clock():
    return runpy.run_path(str(FOLDER / "choosing_clock.py"))


@pytest.fixture(scope="module")
def learning():
    return runpy.run_path(str(FOLDER / "choice_training.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a few scenes and a run."""
    folder = tmp_path_factory.mktemp("choosing")
    export_scenes(folder / "data", {"train": 24, "calibration": 32, "test": 48}, workers=1)
    (folder / "run").mkdir()
    weights = Path(earlyexit.__file__).parent / "weights" / "scenes-many.safetensors"
    shutil.copy(weights, folder / "run" / "model.safetensors")
    write_json(folder / "run" / "settings.json", {"settings": {"exits": [3], "seed": 0}})
    return folder


def test_exits_of_the_large_detector(clock):
    """Together 62 % of the GMACs, and early ones among each other as they were."""
    gmacs = (1.0, 2.0, 4.0, 10.0)
    exits = np.array(clock["planned_exits"]((0.1, 0.2, 0.3, 0.4), gmacs, 6000))
    assert np.array(gmacs)[exits - 1].mean() == pytest.approx(6.2, abs=0.01)
    counts = np.bincount(exits, minlength=5)[1:]
    assert counts[1] / counts[0] == pytest.approx(2, abs=0.02) and counts[2] / counts[0] == pytest.approx(3, abs=0.02)


def test_images_that_cost_what_all_cost(clock):
    run = Choosing("mine", planted(2)[0], planted(1)[0], unit=4.0)
    choices = [torch.arange(300) % 2 * 3 + 1, torch.where(torch.arange(300) < 60, 1, 4)]
    some = clock["images_like_all"]([clock["Mixture"](run, {}, exits) for exits in choices], 30)
    for exits, share in zip(choices, (0.5, 0.2), strict=True):
        taken = exits[some].double()
        assert (taken == 1).double().mean() == pytest.approx(share, abs=0.04)
    assert len(set(some)) == 30


def test_mixtures_are_of_the_best_size(clock):
    """Of two detectors that differ in their cost alone: the cheap one, but for the share of the first one's own."""
    run = Choosing("mine", planted(2)[0], planted(1)[0], unit=4.0)
    halved = (records.priced((0.5 * records.gmacs.mean(1)).tolist()) for records in (run.calibration, run.test))
    cheap = Choosing("cheap", *halved, unit=2.0)
    found = clock["mixtures"]([run, cheap])
    names = [one.run.name for one in found.values()]
    assert names[:2] == ["cheap", "cheap"] and names[-1] == "mine"
    for share, one in found.items():
        spent = at_exits(one.run.test.gmacs, one.exits).mean()
        assert spent < 1.1 * (clock["SHARE"] if share == "own" else share) * 4


def test_gain_at_the_same_time(clock):
    """A mixture as good as full depth, in the time of exit 1 and in that of full depth."""
    run = Choosing("mine", planted(2)[0], planted(1)[0], unit=4.0)
    own, theirs = [(run, 1), (run, 4)], np.array([[1.0, 1.1, 0.9], [4.0, 4.1, 3.9]])
    mixed = [clock["Mixture"](run, {}, run.test.all_at(4))]
    gain = lambda ours: clock["time_gain"](mixed, np.array([ours]), own, theirs, 5)  # noqa: E731
    least = clock["row_of"](run.test, [run.test.all_at(1)], 2)["mAP"]
    assert gain([1.0, 1.0, 1.0])["mean"] == pytest.approx(100 - least, abs=0.1)
    assert gain([4.0, 4.1, 3.9]) == {"mean": 0, "low": 0, "high": 0}
    noisy, calm = gain([2.0, 3.0, 2.5]), gain([2.5, 2.5, 2.5])
    assert noisy["high"] - noisy["low"] > 1.5 * (calm["high"] - calm["low"])


def test_the_clock(clock, folder, monkeypatch):
    """All of it, on few images and with a small detector as the large one."""
    small = lambda **options: earlyexit.dyn_retinanet_nano(5, **options).eval()  # noqa: E731
    monkeypatch.setitem(clock["main"].__globals__, "paper_detector", small)
    out = folder / "out"
    out.mkdir()
    write_json(out / "choosing_summary.json", {"mine": {"kept": 1}, "exit1_mmacs": 2})
    (folder / "again").symlink_to(folder / "run")
    runs = [folder / "run", folder / "again", "--static", folder / "run", "--static", folder / "again"]
    few = ["--images", 16, "--photos", 3, "--size", "64,96", "--rounds", 2, "--repeats", 2]
    options = [*runs, "--data", folder / "data", "--out", out, "--name", "mine", *few]
    monkeypatch.setattr(sys, "argv", ["choosing_clock.py", *map(str, options)])
    clock["main"]()
    summary = json.loads((out / "choosing_summary.json").read_text())
    assert set(summary["mine"]["time_gain"]) == {"batch1", "batch16"} and summary["mine"]["kept"] == 1
    assert set(summary["time_ratio"]) == {"small", "small batch16", "large"} and summary["exit1_mmacs"] == 2
    rows = read_table(out / "choosing_clock.csv")
    assert [row["detector"] for row in rows[:9]][-4:] == ["run own", "run full", "run", "again"]
    assert min(row["ms"] for row in rows) > 0


def test_losses_of_single_images(learning, folder):
    """Their mean is the loss of the batch."""
    model = load_detector(folder / "run")[0].eval()
    dataset = coco_split(folder / "data", "train")
    pictures, targets = zip(*(dataset[i] for i in range(6)), strict=True)
    batch, inside = model.transform(list(pictures), [dict(target) for target in targets])
    for reached in model.backbone.exits(batch.tensors):
        outputs, anchors, _ = model.outputs_at(reached, batch)
        whole = sum(model.compute_loss(inside, outputs, [anchors] * 6).values())
        found = learning["losses_at"](model, reached, batch, inside)
        torch.testing.assert_close(found.mean(), whole)


def test_objects_by_size(learning):
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 25], [0, 0, 100, 100], [1, 1, 6, 81]])
    assert learning["sizes_of"](boxes).tolist() == [1, 2, 0, 0, 1]


def test_all_ways_find_what_can_be_known(learning):
    """A latent tells who gains; logits, numbers and sizes of objects tell nothing."""
    (test, _), (calibration, _), (train, deep) = planted(1), planted(2), planted(3)
    noise = 0.2 * torch.randn(300, generator=torch.Generator().manual_seed(0))
    losses = torch.stack([1.5 + deep.float() + noise, torch.ones(300)], 1)
    learnt = worth_features(train.exit(1)), losses, torch.ones(300, 5)
    rows = learning["compare"](Choosing("mine", calibration, test, unit=4.0), learnt, seeds=1, repeats=3)
    ways = {row["rule"]: row["way"] for row in rows}
    assert min(ways[name] for name in ("worth", "gain head", "DynamicDet's loss", "boosted trees")) > 0.6, ways
    assert ways["worth and gain head"] > 0.6 and max(ways["max softmax"], ways["true number and sizes"]) < 0.4


def test_what_training_images_say(learning, folder):
    features, losses, sizes = learning["training_images"](folder / "run", folder / "data", 20)
    model, dataset = load_detector(folder / "run")[0].eval(), coco_split(folder / "data", "train")
    assert len(features) == len(losses) == len(sizes) == 20 and losses.min() > 0
    assert sizes.sum(1).tolist() == [len(dataset[i][1]["boxes"]) for i in range(20)]
    run = open_run(folder / "run", folder / "data", folder / "kept")
    assert features.shape[1] == worth_features(run.test.exit(1)).shape[1] and model.num_classes == 20
