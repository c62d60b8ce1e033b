"""Training the parts of early exits alone, and a detector made faster: full depth and detections stay."""

import copy

import pytest
import torch
from torch import nn

from earlyexit import dyn_retinanet_nano
from earlyexit.model.export import for_inference
from earlyexit.training import freeze_all_but_early, train_mode
from earlyexit.training.settings import TrainSettings, check_settings

IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
TARGETS = [{"boxes": torch.tensor([[5.0, 8.0, 50.0, 60.0]]), "labels": torch.tensor([i])} for i in range(4)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = dyn_retinanet_nano(5, filler="learned", opinions=(1, 2, 3), score_thresh=0.0)
    for module in made.modules():  # as after a training: no normalisation is the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


def test_only_early_parts_are_trained(model):
    trained = copy.deepcopy(model)
    freeze_all_but_early(trained)
    trained.exits, trained.theta = (1, 2, 3), 0.0
    before = {name: p.clone() for name, p in trained.state_dict().items()}
    train_mode(trained)
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    sum(trained(IMAGES, TARGETS).values()).backward()
    optimizer.step()
    trained.eval()
    changed = {name for name, p in trained.state_dict().items() if not torch.equal(p, before[name])}
    early = {name for name, _ in model.named_parameters() if name.startswith(("early_", "opinions."))}
    assert changed == early
    for exit in (1, 2, 3, 4):
        with torch.inference_mode():
            ours, theirs = trained(IMAGES, exit=exit)[0]["scores"], model(IMAGES, exit=exit)[0]["scores"]
        assert torch.equal(ours, theirs) == (exit == 4)


def test_without_early_parts_there_is_nothing_to_train():
    with pytest.raises(ValueError, match='use filler="learned"'):
        freeze_all_but_early(dyn_retinanet_nano(5))


@pytest.mark.parametrize("wrong", [{"theta": 0.1}, {"exits": (1, 4)}, {"warm_start": None}, {"task": "classify"}])
def test_settings_that_only_early_cannot_have(wrong):
    right = {"only_early": True, "warm_start": "scenes", "theta": 0.0, "exits": (1, 2, 3), "filler": "learned"}
    check_settings(TrainSettings("data", "out", **right))
    with pytest.raises(ValueError, match="only_early trains the early exits of a trained detector|warm_start is for"):
        check_settings(TrainSettings("data", "out", **{**right, **wrong}))


@torch.inference_mode()
def test_a_detector_for_inference_finds_the_same(model):
    fast = for_inference(model)
    count = [sum(isinstance(m, nn.BatchNorm2d) for m in each.modules()) for each in (model, fast)]
    assert count[0] > 15 and count[1] == 0
    for exit in (1, 2, 3, 4):
        for ours, theirs in zip(fast(IMAGES, exit=exit), model(IMAGES, exit=exit), strict=True):
            torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-3, atol=1e-5)
            assert ours["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4)
