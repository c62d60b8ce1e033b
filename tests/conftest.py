"""What several test files use: at most two threads, a small model, a small data set, a finished run."""

import json

import pytest
import torch

from earlyexit import dyn_retinanet_nano
from earlyexit.data import keep_single_objects
from earlyexit.data.scenes import export_scenes
from earlyexit.evaluation import coco
from earlyexit.training.run import train
from earlyexit.training.settings import TrainSettings

torch.set_num_threads(min(2, torch.get_num_threads()))

# Files that take long begin, so that at the end no worker waits for another.
LONG = ("homework_class", "onnx", "cli", "benchmarks", "homework_grade", "processes", "records", "homework")
LONG += ("sliders", "training_checkpoints", "parity", "trunks", "handful")


def pytest_collection_modifyitems(items):
    """Bring the tests of the files in `LONG` to the front, the longest first; all else stays in order."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem.removeprefix("test_"), len(LONG)))


@pytest.fixture(scope="session")
def nano():
    """The nano detector with fresh weights, in eval mode; tests that change it make their own."""
    torch.manual_seed(0)
    return dyn_retinanet_nano().eval()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Scenes of 64 pixels in COCO layout, one to four objects in each: 24 for training, 7 for tests."""
    out = tmp_path_factory.mktemp("scenes")
    for path in export_scenes(out, {"train": 24, "test": 8}, size=64, workers=1).values():
        content = json.loads(path.read_text())
        full = {found["image_id"] for found in content["annotations"]}
        content["images"] = [image for image in content["images"] if image["id"] in full]
        path.write_text(json.dumps(content))
    return out


@pytest.fixture(scope="session")
def finished_run(folder, tmp_path_factory):
    """The folder of a training run of one epoch."""
    out = tmp_path_factory.mktemp("finished")
    settings = TrainSettings(
        str(folder), str(out), exit_target="largest", epochs=1, batch_size=8, lr=1e-4, progress=False
    )
    train(settings, command="earlyexit train")
    return out


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """Scenes of 64 pixels with one object each."""
    out = tmp_path_factory.mktemp("single")
    for path in export_scenes(out, {"train": 8, "calibration": 8, "test": 16}, size=64, workers=1).values():
        path.write_text(json.dumps(keep_single_objects(json.loads(path.read_text()))))
    return out


@pytest.fixture
def no_counting(monkeypatch):
    """Counting operations takes seconds; for tests that do not ask for them."""
    monkeypatch.setattr(coco, "count_macs", lambda model, size: {k: {"total": 1.0} for k in (1, 2, 3, 4)})
