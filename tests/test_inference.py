"""A detector made faster finds the same."""

import pytest
import torch
from torch import nn

from earlyexit import dyn_retinanet_nano
from earlyexit.model.export import for_inference

IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]


@torch.inference_mode()
def test_a_detector_for_inference_finds_the_same():
    torch.manual_seed(0)
    model = dyn_retinanet_nano(5, filler="learned", opinions=(1, 2, 3), score_thresh=0.0).eval()
    for module in model.modules():  # as after a training: no normalisation is the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    fast = for_inference(model)
    count = [sum(isinstance(m, nn.BatchNorm2d) for m in each.modules()) for each in (model, fast)]
    assert count[0] > 15 and count[1] == 0
    for exit in (1, 2, 3, 4):
        for ours, theirs in zip(fast(IMAGES, exit=exit), model(IMAGES, exit=exit), strict=True):
            torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-3, atol=1e-5)
            assert ours["confidence"] == pytest.approx(theirs["confidence"], abs=1e-4)
