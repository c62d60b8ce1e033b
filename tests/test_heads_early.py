"""A neck and heads that know their exit, and detectors that are trained with them."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.image_list import ImageList

from earlyexit import EarlyExitRetinaNet, count_macs, dyn_retinanet_nano
from earlyexit.model.factories import dyn_retinanet_regnet_y_800mf, load_warm_start
from earlyexit.model.heads import AnchorsBySize, EarlyPyramid, retinanet_anchors
from earlyexit.weights import save_weights


@pytest.fixture(scope="module")
def learned():
    torch.manual_seed(0)
    model = dyn_retinanet_nano(5, filler="learned", score_thresh=0.0).eval()
    return model


def maps(*sizes):
    torch.manual_seed(1)
    return {f"c{i}": torch.randn(2, c, s, s) for i, (c, s) in enumerate(sizes, start=3)}


def test_early_pyramid_by_hand():
    pyramid, latents = EarlyPyramid((8, 12, 20), 6, 8, "p3"), torch.randn(2, 5, 6)
    features = maps((8, 15), (12, 8), (20, 4))
    found = pyramid(features, latents)
    p4 = F.conv2d(features["c3"], pyramid.from_c3.weight, pyramid.from_c3.bias, stride=2, padding=1)
    p4 = p4 + F.conv2d(features["c4"], pyramid.laterals[0].weight, pyramid.laterals[0].bias)
    c5 = F.conv2d(features["c5"], pyramid.laterals[1].weight, pyramid.laterals[1].bias)
    p4 = p4 + c5.repeat_interleave(2, 2).repeat_interleave(2, 3)
    p4 = refined = pyramid.write(p4, latents)
    for norm, conv in zip(pyramid.refine.norms, pyramid.refine.convs, strict=True):
        normal = refined.reshape(2, 8, -1)
        normal = (normal - normal.mean(2, keepdim=True)) / (
            normal.var(2, unbiased=False, keepdim=True) + norm.eps
        ).sqrt()
        refined = F.conv2d(normal.reshape(p4.shape).clamp(min=0), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(found["p4"], p4 + refined, rtol=1e-4, atol=1e-4)
    p5 = F.conv2d(found["p4"].clamp(min=0), pyramid.down[0].weight, pyramid.down[0].bias, stride=2, padding=1)
    torch.testing.assert_close(found["p5"], p5)
    p3 = F.conv2d(features["c3"], pyramid.to_p3.weight, pyramid.to_p3.bias)
    torch.testing.assert_close(
        found["p3"], p3 + found["p4"].repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :15, :15]
    )
    assert {name: level.shape[-1] for name, level in found.items()} == {"p3": 15, "p4": 8, "p5": 4, "p6": 2, "p7": 1}


def test_early_pyramid_refuses_what_it_is_not_made_for():
    pyramid, latents = EarlyPyramid((8, 12), 6, 8), torch.randn(2, 5, 6)
    assert list(pyramid(maps((8, 16), (12, 8)), latents)) == ["p4", "p5", "p6", "p7"]
    for wrong in (maps((8, 16)), maps((8, 16), (12, 8), (16, 4))):
        with pytest.raises(ValueError, match=r"made from \('c3', 'c4'\), got"):
            pyramid(wrong, latents)
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        EarlyPyramid((8, 12), 6, 12)
    with pytest.raises(ValueError, match="finest must be one of .* got 'p2'"):
        EarlyPyramid((8, 12), 6, 8, "p2")


def test_at_full_depth_nothing_is_changed(learned):
    plain = dyn_retinanet_nano(5, score_thresh=0.0).eval()
    missing, more = plain.load_state_dict(learned.state_dict(), strict=False)
    assert not missing and all(name.startswith(("early_necks.", "early_heads.")) for name in more)
    image = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))]
    with torch.inference_mode():
        ours, theirs = learned(image, exit=4)[0], plain(image, exit=4)[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in ("boxes", "scores", "labels"))
    assert learned.filler is None and plain.filler == "downsample"
    with pytest.raises(ValueError, match="early must name some of the exits 1-4, got"):
        EarlyExitRetinaNet(plain.backbone, plain.neck, plain.head, early={5: (plain.neck, plain.head)})


def test_misspelt_options_are_refused():
    with pytest.raises(TypeError, match=r"the options \['score_tresh'\]"):
        dyn_retinanet_nano(5, score_tresh=0.5)


def test_each_exit_has_its_head_and_its_anchors(learned):
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    seen = {}
    for name, head in {**learned.early_heads, "late": learned.head}.items():
        head.register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, []).append(len(inputs[0]))
        )
    with torch.inference_mode():
        for exit, (name, levels) in {1: ("1", 4), 2: ("2", 4), 3: ("3", 5), 4: ("late", 5)}.items():
            seen.clear()
            found = learned(images, exit=exit)
            assert seen == {name: [levels]} and [d["exit"] for d in found] == [exit, exit]
            assert all(len(d["boxes"]) == 100 for d in found)


def test_anchors_of_an_early_exit_hold_those_of_its_levels_at_full_depth(learned):
    batch, _ = learned.transform([torch.rand(3, 128, 128)])
    with torch.inference_mode():
        reached = {r.index: r for r in learned.backbone.exits(batch.tensors)}
        early, late = (learned.outputs_at(reached[k], batch) for k in (1, 4))
    # A cell has twice the anchors of full depth, those of its own level after those of the level below.
    sizes = len(learned.early_anchors.generator.sizes[0])
    shared = (torch.arange(len(early[1])) % sizes) >= sizes // 2  # sizes change faster than shapes
    assert torch.equal(early[1][shared], late[1][-int(shared.sum()) :])
    assert early[0]["cls_logits"].shape[1] == len(early[1]) == sum(early[2])
    assert [2 * count for count in late[2][1:]] == early[2]
    # The others are as large as those of the level below.
    sides = (early[1][~shared][: 64 * 9, 2:] - early[1][~shared][: 64 * 9, :2]).prod(1).sqrt()
    assert sides.min() == pytest.approx(24, abs=1) and sides.max() == pytest.approx(24 * 2 ** (2 / 3), abs=1)


def test_anchors_are_kept_for_a_few_sizes():
    generator = retinanet_anchors(3)
    anchors, cpu = AnchorsBySize(generator, most=2), torch.device("cpu")

    def of(side):
        levels = tuple((side // stride, side // stride) for stride in (8, 16, 32, 64, 128))
        return anchors((side, side), levels, cpu), [torch.zeros(1, 1, *level) for level in levels]

    first, maps = of(128)
    expected = generator(ImageList(torch.zeros(1, 1, 128, 128), [(128, 128)]), maps)[0]
    assert torch.equal(first, expected) and of(128)[0] is first and len(of(256)[0]) == 4 * len(first)
    assert of(128)[0] is first  # two sizes are kept, and a third takes the place of the first
    of(384)
    again = of(128)[0]
    assert again is not first and torch.equal(again, first) and len(anchors._kept) == 2


def test_mixed_batches_equal_single_images(learned):
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    with torch.inference_mode():
        confidence = [learned([image], exit=1)[0]["confidence"] for image in images]
        thresholds = (sum(sorted(confidence)[2:4]) / 2, 0.0, 0.0)  # nobody's own, which rounding could hold back
        together = learned(images, thresholds=thresholds)
        assert sorted(d["exit"] for d in together) == [1, 1, 1, 2, 2, 2]
        for image, found in zip(images, together, strict=True):
            alone = learned([image], thresholds=thresholds)[0]
            assert alone["exit"] == found["exit"]
            torch.testing.assert_close(alone["scores"], found["scores"], rtol=1e-4, atol=1e-5)


def test_compute_is_that_of_the_levels_and_heads(learned):
    macs = count_macs(learned, (128, 128))
    assert all("head p3" not in macs[exit] for exit in (1, 2)) and macs[3]["head p3"] < 0.5 * macs[4]["head p3"]
    # Two towers of two 3 x 3 convolutions with norms, which fvcore counts as 5 each, and 1 x 1 convolutions to 18
    # anchors of 5 classes and 4 coordinates.
    width = learned.early_necks["1"].from_c3.out_channels
    cells = sum(n * n for n in (8, 4, 2, 1))
    expected = cells * width * (4 * (9 * width + 5) + 18 * (5 + 4)) / 1e9
    assert sum(v for k, v in macs[1].items() if k.startswith("head")) == pytest.approx(expected)
    plain = count_macs(dyn_retinanet_nano(5), (128, 128))
    assert macs[4] == plain[4] and macs[1]["total"] < 0.45 * plain[1]["total"]


def test_the_papers_detector_at_exit_1_costs_less_than_a_quarter():
    model = dyn_retinanet_regnet_y_800mf(80, filler="learned")
    macs = count_macs(model, (416, 608))  # the shape of 800 x 1216, at a quarter of the cost
    assert macs[1]["total"] < 0.25 * macs[4]["total"]


def test_warm_start_keeps_what_was_trained(tmp_path):
    before = dyn_retinanet_nano(5)
    save_weights(before, tmp_path / "before.safetensors", about={})
    after = dyn_retinanet_nano(5, filler="learned")
    fresh = load_warm_start(after, tmp_path / "before.safetensors")
    assert fresh and all(name.startswith(("early_necks.", "early_heads.")) for name in fresh)
    image = [torch.rand(3, 64, 64)]
    with torch.inference_mode():
        first, second = (model.eval()(image, exit=4)[0]["scores"] for model in (before, after))
    assert torch.equal(first, second)
    save_weights(after, tmp_path / "after.safetensors", about={})
    with pytest.raises(ValueError, match="another detector"):
        load_warm_start(before, tmp_path / "after.safetensors")


def losses(model, **changes):
    trial = copy.deepcopy(model).train()
    trial.loss = replace(trial.loss, **changes)
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    targets = [{"boxes": torch.tensor([[5.0, 8.0, 50.0, 60.0]]), "labels": torch.tensor([i])} for i in range(2)]
    return trial, trial(images, targets)


def test_all_parts_are_trained_at_exits_1_to_4(learned):
    trial, found = losses(learned, exits=(1, 2, 3, 4), theta=1.0)
    sum(found.values()).backward()
    assert [n for n, p in trial.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_weights_of_the_exits(learned):
    single = {k: losses(learned, exits=(k,))[1]["classification"].item() for k in (1, 2, 4)}
    weighted = losses(learned, exits=(1, 2, 4), weights={1: 3, 2: 1, 4: 4})[1]["classification"].item()
    assert weighted == pytest.approx((3 * single[1] + single[2] + 4 * single[4]) / 8, rel=1e-5)


def test_widths_of_the_exits_own_parts():
    model = dyn_retinanet_nano(5, filler="learned", widths=(0, 24, 16, 32), min_size=64).eval()
    assert list(model.early_necks) == list(model.early_heads) == ["2", "3", "4"]
    assert [neck.from_c3.out_channels for neck in model.early_necks.values()] == [24, 16, 32]
    assert [neck.finest for neck in model.early_necks.values()] == ["p4", "p3", "p3"]
    lean, wide = (dyn_retinanet_nano(5, filler="learned", widths=(48, 24, 40, w)) for w in (16, 0))
    at_4 = [count_macs(m, (128, 128))[4]["total"] for m in (lean, wide)]
    assert at_4[0] < 0.6 * at_4[1]
    with torch.inference_mode():
        assert {d["exit"] for k in (1, 2, 3, 4) for d in model([torch.rand(3, 64, 64)], exit=k)} == {1, 2, 3, 4}
    for widths in ((48,) * 5, (-8,)):
        with pytest.raises(ValueError, match="widths must be the channels of at most four exits"):
            dyn_retinanet_nano(5, filler="learned", widths=widths)
