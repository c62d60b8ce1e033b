"""The pyramid from incomplete feature maps."""

import pytest
import torch
import torch.nn.functional as F

from earlyexit import EarlyExitFPN

CHANNELS = (6, 10, 14)


def make_neck(filler="downsample"):
    torch.manual_seed(4)
    neck = EarlyExitFPN(CHANNELS, 8, filler=filler)
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # biases, too: torchvision starts them at zero
    return neck


def feature_maps(height, width, count=3):
    generator, maps = torch.Generator().manual_seed(5), {"c2": torch.zeros(2, 3, 2 * height, 2 * width)}
    for name, channels in list(zip(("c3", "c4", "c5"), CHANNELS, strict=True))[:count]:
        maps[name] = torch.randn(2, channels, height, width, generator=generator)
        height, width = (height + 1) // 2, (width + 1) // 2
    return maps


def lateral(neck, features, level):
    return neck.fpn.inner_blocks[level](features[f"c{level + 3}"])


def output(neck, level, x):
    return neck.fpn.layer_blocks[level](x)


def check_coarse_levels(neck, pyramid):
    """P6 and P7 of any pyramid: stride-2 convolutions, the second on the first without a ReLU."""
    blocks = neck.fpn.extra_blocks
    p6 = F.conv2d(pyramid["p5"], blocks.p6.weight, blocks.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6, blocks.p7.weight, blocks.p7.bias, stride=2, padding=1)
    torch.testing.assert_close(pyramid["p6"], p6)
    torch.testing.assert_close(pyramid["p7"], p7)
    assert (p6 < 0).any()


@pytest.mark.parametrize("filler", ["downsample", "zero"])
@torch.inference_mode()
def test_full_pyramid_by_hand(filler):
    neck, features = make_neck(filler), feature_maps(12, 16)
    pyramid = neck(features)
    inner5 = lateral(neck, features, 2)
    inner4 = lateral(neck, features, 1) + F.interpolate(inner5, scale_factor=2)
    inner3 = lateral(neck, features, 0) + F.interpolate(inner4, scale_factor=2)
    for level, inner in enumerate((inner3, inner4, inner5)):
        torch.testing.assert_close(pyramid[f"p{level + 3}"], output(neck, level, inner))
    check_coarse_levels(neck, pyramid)
    assert list(pyramid) == ["p3", "p4", "p5", "p6", "p7"]


@torch.inference_mode()
def test_exit_1_halves_the_lateral_map():
    neck, features = make_neck(), feature_maps(12, 16, count=1)
    pyramid, inner = neck(features), lateral(neck, features, 0)
    for level in range(3):
        torch.testing.assert_close(pyramid[f"p{level + 3}"], output(neck, level, inner))
        inner = inner[..., ::2, ::2]
    check_coarse_levels(neck, pyramid)


@torch.inference_mode()
def test_exit_2_adds_nothing_from_the_top():
    neck, features = make_neck(), feature_maps(12, 16, count=2)
    pyramid = neck(features)
    inner3, inner4 = lateral(neck, features, 0), lateral(neck, features, 1)
    for level, inner in enumerate((inner3, inner4, inner4[..., ::2, ::2])):
        torch.testing.assert_close(pyramid[f"p{level + 3}"], output(neck, level, inner))
    check_coarse_levels(neck, pyramid)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [(12, 16), (13, 19)])
@torch.inference_mode()
def test_zero_filler_is_the_ordinary_pyramid_on_zeros(size, count):
    neck, features = make_neck("zero"), feature_maps(*size)
    explicit = {k: v if i < count else torch.zeros_like(v) for i, (k, v) in enumerate(list(features.items())[1:])}
    given = {k: v for k, v in features.items() if k in list(explicit)[:count]}
    expected = neck.fpn(explicit)
    for ours, theirs in zip(neck(given).values(), expected.values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("filler", ["downsample", "zero"])
@pytest.mark.parametrize("size", [(13, 19), (10, 13), (25, 34), (1, 1)])
@torch.inference_mode()
def test_sizes_do_not_depend_on_the_exit(size, filler):
    neck = make_neck(filler)
    full = {name: level.shape for name, level in neck(feature_maps(*size)).items()}
    for count in (1, 2):
        assert {name: level.shape for name, level in neck(feature_maps(*size, count=count)).items()} == full


@torch.inference_mode()
def test_filler_can_be_changed():
    neck, features = make_neck(), feature_maps(12, 16, count=1)
    first = neck(features)["p3"]
    neck.filler = "zero"
    assert (neck(features)["p3"] - first).abs().max() > 1e-3
    neck.filler = "downsample"
    assert torch.equal(neck(features)["p3"], first)


def test_errors():
    for filler in ("nearest", None):
        with pytest.raises(ValueError, match=f"filler must be one of .*{filler}"):
            EarlyExitFPN(CHANNELS, filler=filler)
    neck = make_neck()
    with pytest.raises(ValueError, match="'mean'"):
        neck.filler = "mean"
    with pytest.raises(ValueError, match=r"C3, C4 and C5, got \[6, 10\]"):
        EarlyExitFPN((6, 10))
    features = feature_maps(12, 16)
    for missing in ("c3", "c4"):
        given = {name: feature for name, feature in features.items() if name != missing}
        with pytest.raises(ValueError, match="needs C3, then C4, then C5"):
            neck(given)
    with pytest.raises(ValueError, match=r"got \['c2'\]"):
        neck({"c2": features["c2"]})
