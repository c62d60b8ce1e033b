"""What can be watched while a training runs: validation, pictures, TensorBoard."""

import csv
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from squares import options, refused, settings, write_folder
from torch import nn

from earlyexit import evaluate
from earlyexit.data.coco import coco_split
from earlyexit.evaluation.pictures import EXIT_COLOURS, TRUTH_COLOUR
from earlyexit.model.factories import load_detector
from earlyexit.training.run import Watcher, draw_first, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    sizes = {"train": [(64, 64)] * 4, "val": [(64, 64), (48, 80), (64, 64)]}
    return write_folder(tmp_path_factory.mktemp("squares") / "data", **sizes)


@pytest.fixture(scope="module")
def watched(data, tmp_path_factory):
    """A run with everything on, and its rows."""
    out = tmp_path_factory.mktemp("watched")
    return out, train(settings(data, out, val_split="val", pictures=True, tensorboard=True))


def events(out):
    """What TensorBoard shows of a run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(out / "tensorboard"))
    found.Reload()
    return found


def scalars(out, tag):
    return [(event.step, event.value) for event in events(out).Scalars(tag)]


def test_validation_is_what_evaluate_says(watched, data, no_counting):
    """Of the weights that were saved: the metrics of the last row."""
    out, rows = watched
    result = evaluate(load_detector(out / "model.safetensors")[0], coco_split(data, "val"), batch_size=8)
    with open(out / "log.csv", newline="") as file:
        stored = list(csv.DictReader(file))
    for name in ("mAP", "AP50", "AP75", "AP small"):
        assert float(stored[-1][name]) == rows[-1][name] == pytest.approx(result[name], abs=1e-9)
    assert not {"AP medium", "AP large"} & set(stored[-1])  # no object of 32 pixels


def test_validation_of_a_trained_model(folder, tmp_path, no_counting):
    """Whose metrics are not zero."""
    model, _ = load_detector("scenes")
    dataset = coco_split(folder, "test")
    found = Watcher(tmp_path, validation=dataset).after_epoch(model.train(), 1)
    expected = evaluate(load_detector("scenes")[0], dataset)
    assert found["mAP"] > 5
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-3)
    assert Watcher(tmp_path).after_epoch(model, 1) == {}
    assert list(tmp_path.iterdir()) == []


class Finder(nn.Module):
    """Says that there is a box in the middle, with this score, at exit 3."""

    def __init__(self, score):
        super().__init__()
        self.weight, self.score = nn.Parameter(torch.zeros(1)), score

    def forward(self, images):
        box = {"boxes": torch.tensor([[20.0, 20.0, 44.0, 44.0]]), "labels": torch.tensor([2])}
        return [{**box, "scores": torch.tensor([self.score]), "exit": 3, "confidence": 0.5} for _ in images]


def pixels(path, colour):
    """How many pixels of a picture have this colour."""
    picture = plt.imread(path)[..., :3]
    return int((np.abs(picture - np.array(to_rgb(colour))).max(2) < 0.02).sum())


def test_boxes_are_drawn(data, tmp_path):
    """A detection below the least score is left out; what is there is drawn anyway, dashed."""
    counts = []
    for score in (0.29, 0.31):
        path = tmp_path / f"{score}.png"
        draw_first(Finder(score), coco_split(data, "val"), path)
        counts.append([pixels(path, colour) for colour in (EXIT_COLOURS[3], TRUTH_COLOUR, "#ff0000")])
    (without, truth, red), (with_boxes, same_truth, _) = counts
    assert with_boxes > without + 3 * 100  # three images with a box of more than 100 pixels around
    assert min(truth, same_truth) > 100
    assert red > 500  # the first square


def test_a_picture_an_epoch(watched):
    pictures = sorted((watched[0] / "pictures").iterdir())
    assert [path.name for path in pictures] == ["epoch-001.png", "epoch-002.png"]
    for path in pictures:
        assert pixels(path, "#ff0000") > 500 and pixels(path, "#00ff00") > 500
        assert pixels(path, TRUTH_COLOUR) > 100


def test_tensorboard_shows_the_log(watched):
    """Steps one by one, and the rows of the log after steps 2 and 4."""
    pytest.importorskip("tensorboard")
    out, rows = watched
    found = events(out)
    assert set(found.Tags()["scalars"]) == {f"epoch/{name}" for name in rows[0]} | {
        f"step/{name}" for name in ("loss", "classification", "bbox_regression", "exit")
    }
    for name in rows[0]:
        shown = [(event.step, event.value) for event in found.Scalars(f"epoch/{name}")]
        assert shown == [(2, pytest.approx(rows[0][name])), (4, pytest.approx(rows[1][name]))]
    steps = [(event.step, event.value) for event in found.Scalars("step/loss")]
    assert [step for step, _ in steps] == [1, 2, 3, 4]
    assert sum(value for _, value in steps[:2]) / 2 == pytest.approx(rows[0]["loss"], rel=1e-5)
    images = found.Images("detections")
    assert [image.step for image in images] == [2, 4]
    assert images[0].encoded_image_string.startswith(b"\x89PNG")


def test_tensorboard_forgets_what_is_done_again(tmp_path):
    """A run of one step an epoch, killed in epoch 4 with epoch 2 as its last checkpoint, and resumed from there."""
    pytest.importorskip("tensorboard")
    for first, last, value in ((0, 4, 1.0), (2, 5, 2.0)):
        watcher = Watcher(tmp_path, tensorboard=True)
        for step in range(first, last):
            watcher.on_step(step, {"loss": value})
            watcher.on_epoch({"epoch": step + 1, "loss": value})
        watcher.board.close()
    expected = [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
    assert scalars(tmp_path, "step/loss") == scalars(tmp_path, "epoch/loss") == expected


def test_tensorboard_is_not_there(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--tensorboard"))
    assert line == "earlyexit: --tensorboard needs the package tensorboard: pip install tensorboard"
    assert not (tmp_path / "run").exists()


def test_validation_on_other_classes(tmp_path):
    data = write_folder(tmp_path / "data", train=[(64, 64)], val=[(64, 64)])
    path = data / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"red"', '"purple"'))
    with pytest.raises(ValueError, match=r"the split 'val' has the classes \['purple', .*\], not \['red', "):
        train(settings(data, tmp_path / "run", val_split="val"))
