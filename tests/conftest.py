"""What several test files use: at most two threads, a small model, a small data set, a finished run."""

import pytest
import torch

from earlyexit import dyn_retinanet_nano
from earlyexit.data.scenes import export_scenes
from earlyexit.training import TrainSettings, train

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def nano():
    """The nano detector with fresh weights, in eval mode; tests that change it make their own."""
    torch.manual_seed(0)
    return dyn_retinanet_nano().eval()


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory):
    """A COCO-layout folder of 24 training and 8 test scenes of 64 pixels."""
    folder = tmp_path_factory.mktemp("scenes")
    export_scenes(folder, {"train": 24, "test": 8}, size=64, workers=1)
    return folder


@pytest.fixture(scope="session")
def finished_run(scenes_folder, tmp_path_factory):
    """The folder of a training run of one epoch on the test scenes."""
    out = tmp_path_factory.mktemp("finished")
    settings = TrainSettings(str(scenes_folder), str(out), split="test", epochs=1, batch_size=4, progress=False)
    train(settings, command="earlyexit train")
    return out
