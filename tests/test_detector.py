"""The detector: who leaves where, what comes out, and what the losses are."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from earlyexit import JointLoss, dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf, exit_loss
from earlyexit.model.inputs import same_size_batches

SETTINGS = {"min_size": 64, "max_size": 128, "score_thresh": 0.0, "topk_candidates": 20, "detections_per_img": 100}


def make_detector(**settings):
    """A small detector with spread-out confidences and scores, so that images and exits can be told apart."""
    torch.manual_seed(1)
    model = dyn_retinanet_nano(5, **{**SETTINGS, **settings})
    with torch.no_grad():
        for factor, classifier in zip((6, 2, 8, 1), model.backbone.classifiers, strict=True):
            (classifier[-1] if isinstance(classifier, torch.nn.Sequential) else classifier).weight.mul_(factor)
        model.backbone.latents.mul_(20)
        model.head.classification_head.cls_logits.weight.mul_(300)
        model.head.regression_head.bbox_reg.weight.mul_(30)
    return model


@pytest.fixture(scope="module")
def detector():
    return make_detector().eval()


def pictures(count=8, height=64, width=64):
    generator = torch.Generator().manual_seed(9)
    low = torch.rand(count, 3, 4, 4, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    return list((torch.nn.functional.interpolate(low, (height, width)) + fine) / 2)


@pytest.fixture(scope="module")
def confidences(detector):
    """(4, 8): of the eight pictures at the four exits."""
    with torch.inference_mode():
        batch, _ = detector.transform(pictures())
        return torch.stack(detector.backbone(batch.tensors)).softmax(2).amax(2)


@pytest.fixture(scope="module")
def mixed(confidences):
    """Thresholds with which two of the eight pictures leave at each exit, and the exits that they take."""
    limits, exits = [], torch.full((8,), 4)
    for k in range(3):
        waiting = confidences[k][exits == 4].sort(descending=True).values
        limits.append(float((waiting[1] + waiting[2]) / 2))
        exits[(exits == 4) & (confidences[k] >= limits[k])] = k + 1
    assert exits.bincount().tolist() == [0, 2, 2, 2, 2]
    return limits, exits.tolist()


def same(first, second):
    assert first["exit"] == second["exit"]
    assert first["confidence"] == pytest.approx(second["confidence"], abs=1e-5)
    assert torch.equal(first["labels"], second["labels"])
    torch.testing.assert_close(first["scores"], second["scores"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first["boxes"], second["boxes"], rtol=1e-4, atol=1e-3)


def differ(first, second):
    return first["boxes"].shape != second["boxes"].shape or (first["boxes"] - second["boxes"]).abs().max() > 0.1


@torch.inference_mode()
def test_batch_with_mixed_exits_is_as_one_by_one(detector, mixed, confidences):
    limits, exits = mixed
    batch = detector(pictures(), thresholds=limits)
    assert [found["exit"] for found in batch] == exits
    for i, (picture, found) in enumerate(zip(pictures(), batch, strict=True)):
        assert len(found["boxes"]) >= 10
        assert found["confidence"] == pytest.approx(confidences[exits[i] - 1, i].item(), abs=1e-5)
        (alone,) = detector([picture], thresholds=limits)
        same(found, alone)
        (forced,) = detector([picture], exit=exits[i])
        same(found, forced)
    assert all(differ(batch[0], other) for other in batch[1:])


@torch.inference_mode()
def test_order_is_that_of_the_images(detector, mixed):
    limits, exits = mixed
    batch, order = detector(pictures(), thresholds=limits), [5, 2, 7, 0, 1, 6, 3, 4]
    shuffled = detector([pictures()[i] for i in order], thresholds=limits)
    for i, found in zip(order, shuffled, strict=True):
        same(found, batch[i])


@torch.inference_mode()
def test_no_thresholds_is_the_last_exit(detector):
    plain, never = detector(pictures()), detector(pictures(), thresholds=(math.inf,) * 3)
    last = detector(pictures(), exit=4)
    for found in (plain, never):
        for first, second in zip(found, last, strict=True):
            assert first["exit"] == 4
            same(first, second)


@torch.inference_mode()
def test_forced_exits(detector, confidences):
    by_exit = [detector(pictures(), exit=k) for k in (1, 2, 3, 4)]
    for k, batch in enumerate(by_exit, start=1):
        for i, found in enumerate(batch):
            assert isinstance(found["exit"], int) and found["exit"] == k
            assert isinstance(found["confidence"], float)
            assert found["confidence"] == pytest.approx(confidences[k - 1, i].item(), abs=1e-5)
    for i in range(8):
        assert all(differ(by_exit[j][i], by_exit[k][i]) for j in range(4) for k in range(j))


@torch.inference_mode()
def test_threshold_is_reached_by_equality(detector, confidences):
    """The image whose own confidence is the threshold leaves; with the next larger number it does not."""
    value = detector(pictures(), exit=1)[3]["confidence"]
    more_confident = int((confidences[0] > value + 1e-6).sum())
    for limit, leaving in ((value, more_confident + 1), (math.nextafter(value, 1), more_confident)):
        exits = [found["exit"] for found in detector(pictures(), thresholds=(limit, math.inf, math.inf))]
        assert exits.count(1) == leaving
        assert set(exits) <= {1, 4}


@torch.inference_mode()
def test_zero_lets_everybody_go_and_each_exit_has_its_threshold(detector):
    for k, limits in enumerate([(0, 0, 0), (math.inf, 0, 0), (math.inf, math.inf, 0)], start=1):
        assert [found["exit"] for found in detector(pictures(3), thresholds=limits)] == [k] * 3


@pytest.mark.parametrize("limits", [(0.5, 0.5), (0.5,) * 4, (0.5, math.nan, 0.5), (0.5, 0.5, -0.1)])
def test_bad_thresholds(detector, limits):
    with pytest.raises(ValueError, match="thresholds must be"):
        detector(pictures(1), thresholds=limits)


def test_bad_exit(detector):
    for bad in (0, 5, -1, 1.5, "1"):
        with pytest.raises(ValueError, match="exit must be 1, 2, 3 or 4, got"):
            detector(pictures(1), exit=bad)
    with pytest.raises(ValueError, match="not both"):
        detector(pictures(1), thresholds=(0.5, 0.5, 0.5), exit=4)


@torch.inference_mode()
def test_neck_and_head_run_once_per_group(mixed):
    model, sizes = make_detector().eval(), {"neck": [], "head": []}
    model.neck.register_forward_hook(lambda module, inputs, output: sizes["neck"].append(len(output["p3"])))
    model.head.register_forward_hook(lambda module, inputs, output: sizes["head"].append(len(inputs[0][0])))
    model(pictures(), thresholds=mixed[0])
    assert sizes == {"neck": [2, 2, 2, 2], "head": [2, 2, 2, 2]}
    model(pictures(), exit=3)
    assert sizes == {"neck": [2, 2, 2, 2, 8], "head": [2, 2, 2, 2, 8]}


@torch.inference_mode()
def test_what_nobody_needs_does_not_run(mixed):
    model, ran = make_detector().eval(), []
    for i, stage in enumerate(model.backbone.stages):
        stage.register_forward_hook(lambda module, inputs, output, i=i: ran.append((i, len(output))))
    model(pictures(), thresholds=mixed[0])
    assert ran == [(0, 8), (1, 8), (2, 6), (3, 4)]
    ran.clear()
    model(pictures(), exit=1)
    assert ran == [(0, 8), (1, 8)]


@torch.inference_mode()
def test_boxes_are_in_pixels_of_each_image(detector):
    """A picture of twice the size, resized to the same input, has the same boxes at twice the scale."""
    picture = pictures(1)[0]
    large = torch.nn.functional.interpolate(picture[None], scale_factor=2)[0]
    (small_found,), (large_found,) = detector([picture]), detector([large])
    resized, _ = detector.transform([large])
    torch.testing.assert_close(resized.tensors, detector.transform([picture])[0].tensors)
    torch.testing.assert_close(large_found["boxes"], 2 * small_found["boxes"], rtol=1e-3, atol=0.05)


@torch.inference_mode()
def test_images_of_different_sizes(detector):
    batch = [pictures(1, 64, 64)[0], pictures(1, 50, 90)[0], pictures(1, 200, 130)[0]]
    for picture, found in zip(batch, detector(batch, exit=2), strict=True):
        height, width = picture.shape[1:]
        boxes = found["boxes"]
        assert len(boxes)
        assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        assert boxes[:, 2].max() > 0.5 * width and boxes[:, 3].max() > 0.5 * height


@torch.inference_mode()
def test_filler_matters_at_early_exits_only(detector):
    zero = make_detector(filler="zero").eval()
    for exit, changes in ((1, True), (2, True), (3, False), (4, False)):
        first, second = detector(pictures(2), exit=exit), zero(pictures(2), exit=exit)
        assert all(differ(a, b) == changes for a, b in zip(first, second, strict=True))


@torch.inference_mode()
def test_bfloat16(detector, mixed):
    with torch.autocast("cpu", torch.bfloat16):
        found = detector(pictures(), thresholds=mixed[0])
    exact = detector(pictures(), thresholds=mixed[0])
    for rough, fine in zip(found, exact, strict=True):
        assert rough["boxes"].dtype == rough["scores"].dtype == torch.float32
        assert torch.isfinite(rough["boxes"]).all()
        assert rough["confidence"] == pytest.approx(fine["confidence"], abs=0.1) or rough["exit"] != fine["exit"]
    agree = [rough["exit"] == fine["exit"] for rough, fine in zip(found, exact, strict=True)]
    assert sum(agree) >= 6


def test_bad_images(detector):
    for images, message in (
        (pictures(1)[0], r"use \[image\]"),
        ([], "at least one image"),
        ([pictures(1)[0], torch.rand(1, 64, 64)], r"image 1 must be .* got \(1, 64, 64\)"),
        ([torch.zeros(3, 64, 64, dtype=torch.uint8)], "image 0 .*uint8: divide by 255"),
        ([torch.rand(3, 0, 64)], "image 0 must have pixels"),
        (["cat.jpg"], "image 0 .*got str"),
    ):
        with pytest.raises(ValueError, match=message):
            detector(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exit_target": "first"}, "'first'"),
        ({"filler": "nearest"}, "'nearest'"),
        ({"min_size": 0}, "min_size must be at least 1 pixel, got 0"),
        ({"image_std": [0.2, 0.0, 0.2]}, r"image_std must be three finite numbers above 0, got \[0.2, 0.0, 0.2\]"),
        ({"min_size": 500, "max_size": 100}, "min_size 500 is above max_size 100"),
        ({"nms_thresh": 5}, "nms_thresh must be from 0 to 1, got 5"),
        ({"detections_per_img": -1}, "detections_per_img must be at least 1, got -1"),
        ({"head_convs": 0}, "head_convs must be 1 to 4 convolutions, got 0"),
        ({"anchor_scale": -1}, "anchor_scale must be a finite number above 0, got -1"),
        ({"opinions": 5}, r"opinions must name some of the exits 1-4, got \(5,\)"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        dyn_retinanet_nano(5, **settings)


def test_one_exit_is_as_good_as_a_list():
    model = dyn_retinanet_nano(5, loss=JointLoss(exits=2), opinions=2)
    assert model.loss.exits == (2,) and list(model.opinions) == ["2"]


def test_unknown_weights_of_the_trunk():
    with pytest.raises(ValueError, match="trunk_weights must be one of torchvision's .*'IMAGENET1K_V2'.*got 'foo'"):
        dyn_retinanet_regnet_y_800mf(5, trunk_weights="foo")


@pytest.mark.parametrize("size", [(1, 999), (999, 1), (3, 1000)])
def test_an_image_of_which_nothing_would_be_left(nano, size):
    with pytest.raises(ValueError, match=f"image 1 is too thin, {size[1]} x {size[0]}: .* 256 times the shorter"):
        nano([torch.rand(3, 64, 64), torch.rand(3, *size)])
    with pytest.raises(ValueError, match="image 0 is too thin"):
        next(same_size_batches(nano.transform, [torch.rand(3, *size)]))
    training = dyn_retinanet_nano(5)
    with pytest.raises(ValueError, match="image 0 is too thin"):
        training([torch.rand(3, *size)], [target((0, 0, 1, 1))])


def test_the_thinnest_image(nano):
    assert len(nano([torch.rand(3, 1, 256), torch.rand(3, 1024, 4)])) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_of_another_dtype_than_the_model(nano, dtype):
    with pytest.raises(ValueError, match=f"image 0 must be torch.float32 as the model, got {dtype}"):
        nano([torch.rand(3, 64, 64).to(dtype)])


# Training


def target(*boxes, labels=None):
    labels = range(len(boxes)) if labels is None else labels
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(list(labels), dtype=torch.int64),
    }


SMALL, LARGE, WIDE = [4.0, 4.0, 20.0, 24.0], [10.0, 8.0, 60.0, 50.0], [0.0, 40.0, 64.0, 60.0]


def targets():
    return [target(SMALL, labels=[3]), target(LARGE, labels=[0]), target(WIDE, labels=[4])]


@pytest.fixture(scope="module")
def trained():
    """In training mode, BatchNorm without momentum: the same losses at every call."""
    model = make_detector().train()
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.momentum = 0.0
    return model


def losses(model, found=None, **settings):
    """The losses of a copy of the model with other settings, of itself or of its loss."""
    model = copy.copy(model)
    of_model = {name: settings.pop(name) for name in ("exit_target", "allow_empty") if name in settings}
    for name, value in of_model.items():
        setattr(model, name, value)
    model.loss = replace(model.loss, **settings)
    return model(pictures(3), found or targets())


def test_losses_follow_their_weights(trained):
    plain = losses(trained, theta=1.0)
    assert list(plain) == ["classification", "bbox_regression", "exit"]
    assert all(value.ndim == 0 and 0 < value.item() < math.inf for value in plain.values())
    scaled = losses(trained, theta=3.0, lambda_=0.5)
    assert scaled["exit"].item() == pytest.approx(3 * plain["exit"].item(), rel=1e-5)
    for name in ("classification", "bbox_regression"):
        assert scaled[name].item() == pytest.approx(0.5 * plain[name].item(), rel=1e-5)
    assert losses(trained)["exit"].item() == pytest.approx(0.0115 * plain["exit"].item(), rel=1e-5)


def test_losses_at_several_exits_are_the_mean(trained):
    single = {k: losses(trained, exits=(k,)) for k in (1, 2, 4)}
    several = losses(trained, exits=(1, 2, 4))
    for name in ("classification", "bbox_regression"):
        values = [single[k][name].item() for k in (1, 2, 4)]
        assert several[name].item() == pytest.approx(sum(values) / 3, rel=1e-5)
        assert max(values) - min(values) > 1e-3 * max(values)
    assert several["exit"].item() == pytest.approx(single[4]["exit"].item(), rel=1e-5)


def test_detection_loss_is_that_of_torchvision(trained):
    batch, resized = trained.transform(pictures(3), targets())
    pyramid = list(trained.neck(list(trained.backbone.exits(batch.tensors))[-1].features).values())
    expected = trained.compute_loss(resized, trained.head(pyramid), trained.anchor_generator(batch, pyramid))
    found = losses(trained)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4)


def exit_loss_directly(model, labels, which=(0, 1, 2), distillation=0.5):
    batch, _ = model.transform(pictures(3))
    logits = [x[list(which)] for x in model.backbone(batch.tensors)]
    return exit_loss(logits, torch.tensor(labels), distillation=distillation).item()


def test_exit_loss_is_that_of_the_labels(trained):
    assert losses(trained, theta=1.0)["exit"].item() == pytest.approx(exit_loss_directly(trained, [3, 0, 4]), rel=1e-4)
    without = losses(trained, theta=1.0, distillation=0)["exit"].item()
    assert without == pytest.approx(exit_loss_directly(trained, [3, 0, 4], distillation=0), rel=1e-4)


def test_gradients_reach_everything(trained):
    trained.zero_grad()
    sum(losses(trained, theta=1.0).values()).backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_without_theta_the_classifiers_learn_nothing(trained):
    trained.zero_grad()
    found = losses(trained, theta=0.0)
    assert list(found) == ["classification", "bbox_regression"]
    sum(found.values()).backward()
    for name, parameter in trained.backbone.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        assert learns != name.startswith(("classifiers.", "carries.")), name


def test_largest_object_gives_the_class(trained):
    several = [target(SMALL, LARGE, labels=[3, 1]), target(LARGE, SMALL, labels=[0, 2]), target(WIDE, labels=[4])]
    with pytest.raises(ValueError, match="image 0 has 2 objects.*exit_target='largest'"):
        losses(trained, several)
    found = losses(trained, several, theta=1.0, exit_target="largest")["exit"].item()
    assert found == pytest.approx(exit_loss_directly(trained, [1, 0, 4]), rel=1e-4)
    assert losses(trained, several, theta=0.0)["classification"] > 0  # without exits' loss there is no question


def test_images_without_a_box(trained):
    mixed_up = [target(SMALL, labels=[3]), target(), target(WIDE, labels=[4])]
    with pytest.raises(ValueError, match="image 1: no box.*allow_empty"):
        losses(trained, mixed_up)
    found = losses(trained, mixed_up, allow_empty=True, theta=1.0)
    assert found["exit"].item() == pytest.approx(exit_loss_directly(trained, [3, 4], which=(0, 2)), rel=1e-4)
    background = losses(trained, [target()] * 3, allow_empty=True)
    assert background["classification"] > 0
    assert background["bbox_regression"] == background["exit"] == 0


def spoilt(**changes):
    """Three targets of which the middle one is bad and has an image id."""
    good = targets()
    good[1] = {k: v for k, v in {**good[1], "image_id": torch.tensor(77), **changes}.items() if v is not None}
    return good


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spoilt(boxes=torch.tensor([[10.0, 8.0, 10.0, 50.0]])), "x0 < x1, y0 < y1"),
        (spoilt(boxes=torch.tensor([[10.0, 50.0, 60.0, 8.0]])), "x0 < x1, y0 < y1"),
        (spoilt(boxes=torch.tensor([[10.0, 8.0, math.inf, 50.0]])), "finite, got"),
        (spoilt(labels=torch.tensor([5])), "labels must be in 0-4, got 5"),
        (spoilt(labels=torch.tensor([-1])), "labels must be in 0-4, got -1"),
        (spoilt(labels=torch.tensor([1], dtype=torch.int32)), "int64, got torch.int32"),
        (spoilt(labels=torch.tensor([1.0])), "int64, got torch.float32"),
        (spoilt(labels=torch.tensor([1, 2])), r"got \(1, 4\) and \(2,\)"),
        (spoilt(boxes=torch.tensor([10.0, 8.0, 20.0, 50.0])), r"boxes must be \(M, 4\)"),
        (spoilt(labels=None), "needs 'boxes' and 'labels', got"),
        (spoilt(boxes=None), "needs 'boxes' and 'labels', got"),
    ],
)
def test_bad_targets_name_the_image(trained, bad, message):
    with pytest.raises(ValueError, match=rf"image 1 \(image_id 77\).*{message}"):
        losses(trained, bad)


def test_one_target_for_each_image(trained):
    with pytest.raises(ValueError, match="got 2 for 3 images"):
        trained(pictures(3), targets()[:2])
    with pytest.raises(ValueError, match="one target for each image, got NoneType"):
        trained(pictures(3))


def test_batch_of_several_sizes_equals_single_runs():
    """Images are never padded to one another's size, so company changes nothing."""
    torch.manual_seed(3)
    model = dyn_retinanet_nano(5, score_thresh=0.0, detections_per_img=10).eval()
    images = [torch.rand(3, 96, 200), torch.rand(3, 128, 128), torch.rand(3, 200, 96), torch.rand(3, 130, 128)]
    with torch.inference_mode():
        together = model(images)
        alone = [model([image])[0] for image in images]
    for one, many in zip(alone, together, strict=True):
        torch.testing.assert_close(one["boxes"], many["boxes"], rtol=1e-3, atol=1e-2)
        assert one["confidence"] == pytest.approx(many["confidence"], rel=1e-4)
