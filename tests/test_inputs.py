"""What of an image reaches the network."""

import math
import random
import re

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from earlyexit import dyn_retinanet_nano
from earlyexit.model.factories import ExitClassifier, nano_backbone
from earlyexit.model.inputs import check_images, check_targets, network_size, same_size_batches


def test_network_size_is_that_of_the_transform(nano):
    generator = random.Random(0)
    for _ in range(200):
        image = torch.zeros(3, generator.randint(20, 500), generator.randint(20, 500))
        expected = tuple(nano.transform([image])[0].tensors.shape[-2:])
        assert network_size(nano, image) == expected, image.shape


@pytest.mark.parametrize("sides", [(300, 420), (61, 40), (128, 128), (97, 400)])
def test_batches_are_those_of_torchvisions_transform(nano, sides):
    """Which normalises before it resizes, and copies a large photo twice for that."""
    images = [torch.rand(3, *sides, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    ((group, batch),) = same_size_batches(nano.transform, images)
    expected = nano.transform(images)[0]
    assert group == [0, 1] and batch.image_sizes == expected.image_sizes
    torch.testing.assert_close(batch.tensors, expected.tensors, rtol=0, atol=1e-5)


def test_large_photos_are_not_copied(nano):
    """Their channels lie innermost, as a decoder leaves them; torch.aminmax and torch.stack would copy all of it."""
    photo = torch.rand(450, 600, 3).permute(2, 0, 1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        check_images([photo], nano)
        list(same_size_batches(nano.transform, [photo]))
    assert max(event.self_cpu_memory_usage for event in seen.events()) < 0.2 * photo.nbytes


# Images

SIZE = (48, 64)  # height and width


def with_value(value, image=None):
    """A grey image, or this one, with one value of its own."""
    image = torch.full((3, *SIZE), 0.5) if image is None else image
    image[1, 40, 60] = value
    return image


IMAGENET = (torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)) - 0.45) / 0.225


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (with_value(math.nan), "must hold finite values in [0, 1], got nan"),
        (with_value(math.inf), "must hold finite values in [0, 1], got inf"),
        (with_value(-math.inf), "must hold finite values in [0, 1], got -inf"),
        (torch.full((3, *SIZE), math.nan), "must hold finite values in [0, 1], got nan"),
        (torch.full((3, *SIZE), 255.0), "must hold values in [0, 1], got 255 to 255: divide by 255 (16 bits"),
        (with_value(255.0), "must hold values in [0, 1], got 0.5 to 255: divide by 255"),
        (with_value(3.0, torch.zeros(3, *SIZE)), "must hold values in [0, 1], got 0 to 3: divide by 255"),  # a dark one
        (with_value(60_000.0), "must hold values in [0, 1], got 0.5 to 6e+04: divide by 255 (16 bits: by 65535)"),
        (2 * torch.rand(3, *SIZE).round() - 1, "must hold values in [0, 1], got -1 to 1: the model normalises itself"),
        (IMAGENET, "must hold values in [0, 1], got -2 to 2.444: the model normalises itself, so leave that out"),
        (None, "must be a (3, H, W) tensor, got NoneType"),
        (np.zeros((3, *SIZE), np.float32), "must be a (3, H, W) tensor, got numpy.ndarray"),
        (torch.zeros(3, *SIZE).numpy().tolist(), "must be a (3, H, W) tensor, got list"),
        (torch.zeros(*SIZE, 3), "must be a (3, H, W) tensor, got (48, 64, 3)"),
    ],
)
def test_images_of_other_units_are_named(nano, image, said):
    good = torch.rand(3, *SIZE)
    with pytest.raises(ValueError, match=re.escape(f"image 2 {said}")):
        nano([good, good, image, good])
    model = dyn_retinanet_nano(5)
    with pytest.raises(ValueError, match=re.escape(f"image 1 {said}")):
        model([good, image], [target([1.0, 2, 30, 40])] * 2)


def test_batches_that_are_no_lists_of_images(nano):
    for images, got in ((None, "NoneType"), (np.zeros((2, 3, 64, 64)), "numpy.ndarray"), ({0: 1}, "dict")):
        with pytest.raises(ValueError, match=rf"images must be a list of \(3, H, W\) tensors, got {got}"):
            nano(images)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, *SIZE),
        torch.ones(3, *SIZE),
        torch.full((3, *SIZE), 0.004),
        with_value(-0.2),  # as bicubic interpolation leaves it
        with_value(1.2),
        torch.rand(3, 1, 1),
        torch.rand(3, *SIZE).requires_grad_(),
        torch.rand(3, SIZE[1], SIZE[0]).transpose(1, 2),
    ],
)
def test_dark_bright_and_interpolated_images_are_taken(nano, image):
    check_images([image], nano)


# Targets


def target(*boxes, **changes):
    made = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes), dtype=torch.int64)}
    return {**made, **changes}


BOX = [10.0, 8.0, 40.0, 30.0]
ANNOTATION = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10.0, 8.0, 30.0, 22.0], "iscrowd": 0, "area": 660.0}
TENSOR = "must be a tensor, got"
COCO = ": earlyexit.data.CocoDataset makes targets of COCO's annotations"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, ": a target must be a dict of 'boxes' and 'labels', got NoneType"),
        ((BOX, 1), ": a target must be a dict of 'boxes' and 'labels', got tuple"),
        (torch.tensor([BOX]), ": a target must be a dict of 'boxes' and 'labels', got torch.Tensor"),
        (np.array([BOX]), ": a target must be a dict of 'boxes' and 'labels', got numpy.ndarray"),
        ([ANNOTATION, ANNOTATION], f": a target must be a dict of 'boxes' and 'labels', got list{COCO}"),
        (ANNOTATION, f" (image_id 7): a target needs 'boxes' and 'labels', got {sorted(ANNOTATION)}{COCO}"),
        (
            {"image_id": 7, "annotations": [ANNOTATION]},
            f" (image_id 7): a target needs 'boxes' and 'labels', got ['annotations', 'image_id']{COCO}",
        ),
        (target(BOX, boxes=None), ": a target needs 'boxes' and 'labels', got ['boxes', 'labels']"),
        (target(BOX, boxes=[BOX]), f": boxes {TENSOR} list: torch.as_tensor(boxes, dtype=torch.float32) makes one"),
        (target(BOX, boxes=(tuple(BOX),)), f": boxes {TENSOR} tuple"),
        (target(BOX, boxes=np.array([BOX])), f": boxes {TENSOR} numpy.ndarray"),
        (target(BOX, labels=[0]), f": labels {TENSOR} list: torch.as_tensor(labels, dtype=torch.int64) makes one"),
        (target(BOX, labels=np.array([0])), f": labels {TENSOR} numpy.ndarray"),
        (target(BOX, labels=0), f": labels {TENSOR} int"),
        (target([200.0, 8, 240, 30]), ": most of the box [200.0, 8.0, 240.0, 30.0] is outside its 64 x 48 pixels"),
        (target(BOX, [10.0, -60, 40, 10]), ": most of the box [10.0, -60.0, 40.0, 10.0] is outside its 64 x 48"),
        (target([50.0, 40, 90, 90]), ": most of the box [50.0, 40.0, 90.0, 90.0] is outside"),
        (target([-9.0, -9, -3, -3]), ": most of the box [-9.0, -9.0, -3.0, -3.0] is outside"),
    ],
)
def test_targets_of_other_kinds_are_named(bad, said):
    images = [torch.rand(3, *SIZE)] * 3
    with pytest.raises(ValueError, match=f"^{re.escape(f'image 1{said}')}"):
        check_targets(images, [target(BOX), bad, target(BOX)], 5)


def test_the_photo_of_bad_pixels_is_named_in_training():
    targets = [target(BOX), target(BOX, image_id=torch.tensor(4711))]
    with pytest.raises(
        ValueError, match=re.escape("image 1 (image_id 4711) must hold finite values in [0, 1], got nan")
    ):
        check_targets([torch.rand(3, *SIZE), with_value(math.nan)], targets, 5)


@pytest.mark.parametrize("targets", [target(BOX), torch.tensor([BOX]), np.array([BOX]), None])
def test_targets_that_are_no_list(targets):
    kind = {"dict": "dict", "ndarray": "numpy.ndarray", "Tensor": "torch.Tensor"}.get(
        type(targets).__name__, "NoneType"
    )
    with pytest.raises(ValueError, match=f"a list with one target for each image, got {kind}$"):
        check_targets([torch.rand(3, *SIZE)], targets, 5)


def test_targets_on_another_device():
    moved = {key: value.to("meta") for key, value in target(BOX).items()}
    with pytest.raises(ValueError, match="image 0: its target must be on cpu as the image, got boxes on meta"):
        check_targets([torch.rand(3, *SIZE)], [moved], 5)


@pytest.mark.parametrize(
    "targets",
    [
        [target([0.1, 0.2, 0.5, 0.6]), target([0.0, 0.0, 1.0, 1.0])],
        [target(), target([0.25, 0.25, 0.75, 1.0], [0.0, 0.5, 0.1, 0.6])],
    ],
)
def test_boxes_as_shares_of_the_image_are_refused(targets):
    images = [torch.rand(3, *SIZE)] * 2
    first = next(t["boxes"][0].tolist() for t in targets if len(t["boxes"]))
    said = f"boxes must be in pixels, but all of this batch lie in 0-1: {first}; shares of the image"
    with pytest.raises(ValueError, match=re.escape(said)):
        check_targets(images, targets, 5, allow_empty=True)
    classifier = ExitClassifier(nano_backbone(5))
    if all(len(t["boxes"]) for t in targets):
        with pytest.raises(ValueError, match=re.escape(said)):
            classifier(images, targets)


@pytest.mark.parametrize(
    "boxes",
    [
        [[0.0, 0, 1, 1], BOX],  # of one pixel, and another beside it
        [[5.0, 7, 6, 8]],
        [[0.2, 0.1, 0.9, 1.5]],
        [[-10.0, -8, 30, 30]],  # sticks out, as some of COCO do
        [[0.0, 0, 64, 48]],
        [[0.0, 0, 64.4, 48.4]],
        [[44.0, 10, 84, 20]],  # one half
    ],
)
def test_small_boxes_and_those_that_stick_out_are_taken(boxes):
    check_targets([torch.rand(3, *SIZE)] * 2, [target(*boxes), target(BOX if len(boxes) > 1 else boxes[0])], 5)
