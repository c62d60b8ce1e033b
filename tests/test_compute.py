"""Multiply-adds: against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from earlyexit import count_macs, dyn_retinanet_nano
from earlyexit.evaluation.cost import _count
from earlyexit.model.backbone import AttentionBlock

LEVELS = ["p3", "p4", "p5", "p6", "p7"]


@pytest.fixture(scope="module")
def counted(nano):
    return count_macs(nano, (128, 160))


def test_parts_sum_to_the_total(counted):
    assert list(counted) == [1, 2, 3, 4]
    for macs in counted.values():
        assert list(macs) == ["backbone", "neck", *(f"head {level}" for level in LEVELS), "total"]
        assert macs["total"] == pytest.approx(sum(value for name, value in macs.items() if name != "total"))
        assert min(macs.values()) > 0


def test_deeper_exits_cost_more(counted):
    totals = [counted[exit]["total"] for exit in (1, 2, 3, 4)]
    backbones = [counted[exit]["backbone"] for exit in (1, 2, 3, 4)]
    assert totals == sorted(set(totals))
    assert backbones == sorted(set(backbones))


def test_head_and_neck_by_hand(counted):
    """The head's six 3x3 convolutions on 64 channels; the neck's laterals, outputs, P6 and P7."""
    cells = {"p3": 16 * 20, "p4": 8 * 10, "p5": 4 * 5, "p6": 2 * 3, "p7": 1 * 2}
    per_cell = 9 * 64 * (4 * 64 + 9 * 20 + 9 * 4)
    outputs = 9 * 64 * 64 * sum(cells.values())
    halved_or_doubled = {1: 80 + 20, 2: 20, 3: 80 + 320, 4: 80 + 320}  # cells made by interpolation, one operation each
    laterals = {1: [64, 0, 0], 2: [64, 128, 0], 3: [64, 128, 192], 4: [64, 128, 192]}
    for exit, macs in counted.items():
        for level in LEVELS:
            assert 1e9 * macs[f"head {level}"] == pytest.approx(cells[level] * per_cell)
        inputs = sum(cells[level] * c * 64 for level, c in zip(("p3", "p4", "p5"), laterals[exit], strict=True))
        assert 1e9 * macs["neck"] == pytest.approx(inputs + outputs + 64 * halved_or_doubled[exit])


def test_last_step_of_the_backbone_by_hand(counted):
    """From exit 3 to 4: the latents write into C5 (4 latents, 20 pixels), then the last classifier."""
    pixels, dim, latents, latent, qkv = 20, 192, 4, 128, 24
    norms = 5 * (pixels * dim + latents * latent + pixels * dim)  # fvcore's rule: five operations per value
    attention = pixels * dim * qkv + 2 * latents * latent * qkv + 2 * pixels * latents * qkv + pixels * qkv * dim
    mlp = 2 * pixels * dim * dim
    carry = 20 * latent
    classifier = (dim + 2 * latent) * 20
    step = 1e9 * (counted[4]["backbone"] - counted[3]["backbone"])
    assert step == pytest.approx(norms + attention + mlp + carry + classifier, rel=0.02)


def test_one_convolution_by_hand():
    conv = nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2)
    assert _count(conv, torch.zeros(1, 6, 9, 11)) == 10 * 5 * 6 * 3 * 9


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_by_hand(heads):
    """Cross-attention of 7 tokens (16 channels) over 11 (12 channels), 8 channels inside: heads change nothing."""
    block = AttentionBlock(16, 12, qkv_dim=8, heads=heads, widening=3)
    projections = 7 * 16 * 8 + 2 * 11 * 12 * 8 + 7 * 8 * 16
    products = 7 * 11 * 8 * 2
    mlp = 2 * 7 * 16 * 48
    norms = 5 * (7 * 16 + 11 * 12 + 7 * 16)
    counted = _count(block, torch.zeros(1, 7, 16), torch.zeros(1, 11, 12))
    assert counted == projections + products + mlp + norms


def test_nothing_is_changed(nano, counted):
    assert not nano.training
    nano.train()
    before = {name: value.clone() for name, value in nano.state_dict().items()}
    count_macs(nano, (32, 32))
    modes = {module.training for module in nano.modules()}
    nano.eval()
    assert modes == {True}
    assert all(torch.equal(value, before[name]) for name, value in nano.state_dict().items())


@pytest.mark.parametrize("size", [(16, 128), (128, 31), (128.0, 128), 128, (128,), None])
def test_bad_size(nano, size):
    with pytest.raises(ValueError, match="at least 32, got"):
        count_macs(nano, size)


def test_a_merged_read_by_hand(nano):
    """At 64 x 64 a convolution of 16 x 16 at 49 places, and its weights from those of 7 x 7, in the place of 7 x 7."""
    merged = dyn_retinanet_nano(first_read="merged")
    published, now = (count_macs(model, (128, 128)) for model in (nano, merged))
    before, pooling = 32 * 64 * 64 * 49, 32 * 64 * 64
    after = 32 * (49 * 16 * 16 + 16 * 7 * 7 + 16 * 7 * 16)
    for exit in (1, 2, 3, 4):
        saved = published[exit]["total"] - now[exit]["total"]
        assert saved * 1e9 == pytest.approx(before + pooling - after, abs=1)
