"""Checks of images and targets, with messages that show the bad value, and the exits' class per image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_area

EXIT_TARGETS = ("single", "largest", "present")


def check_images(images: Sequence[Tensor], model: nn.Module) -> None:
    """`ValueError` unless `images` is a list of (3, H, W) float tensors that `model` with its `transform` can take."""
    weight = next(model.parameters(), None)  # graphs have none, and take any kind of floats
    if isinstance(images, Tensor) and images.ndim == 3:
        raise ValueError(
            f"images must be a list of (3, H, W) tensors, got one tensor {tuple(images.shape)}: use [image]"
        )
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
            got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"image {i} must be a (3, H, W) tensor, got {got}")
        if not image.is_floating_point():
            raise ValueError(f"image {i} must hold floats in [0, 1], got {image.dtype}: divide by 255")
        if min(image.shape[1:]) < 1:
            raise ValueError(f"image {i} must have pixels, got {tuple(image.shape)}")
        if weight is not None and image.dtype != weight.dtype:
            raise ValueError(f"image {i} must be {weight.dtype} as the model, got {image.dtype}")
        check_sides(i, image, model.transform.max_size)


def check_sides(i: int, image: Tensor, longest: int) -> None:
    """`ValueError` if nothing would be left of image i's shorter side once its longer side is `longest` pixels."""
    height, width = image.shape[-2:]
    if min(height, width) * (longest / max(height, width)) < 1:
        raise ValueError(
            f"image {i} is too thin, {width} x {height}: its longer side may be {longest} times the shorter at most"
        )


def check_targets(
    images: Sequence[Tensor], targets: Sequence[dict] | None, num_classes: int, *, allow_empty: bool = False
) -> None:
    """`ValueError` that names the image unless every target has proper boxes and labels.

    Args:
        images: the images that the targets belong to.
        targets: dicts of "boxes" (M, 4) xyxy and "labels" (M,) int64 in [0, num_classes).
        num_classes: number of classes.
        allow_empty: whether an image may have no box.
    """
    if targets is None or len(targets) != len(images):
        got = "none" if targets is None else f"{len(targets)} for {len(images)} images"
        raise ValueError(f"training needs one target for each image, got {got}")
    for i, target in enumerate(targets):
        name = f"image {i}" + (f" (image_id {_plain(target['image_id'])})" if "image_id" in target else "")
        boxes, labels = (target.get(key) for key in ("boxes", "labels"))
        if boxes is None or labels is None:
            raise ValueError(f"{name}: a target needs 'boxes' and 'labels', got {sorted(target)}")
        if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name}: boxes must be (M, 4) and labels (M,), got {tuple(boxes.shape)} and {tuple(labels.shape)}"
            )
        if labels.dtype != torch.int64:
            raise ValueError(f"{name}: labels must be int64, got {labels.dtype}")
        if not len(boxes) and not allow_empty:
            raise ValueError(f"{name}: no box; leave such images out, or set allow_empty (--allow-empty)")
        bad = ~((boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(boxes).all(1))
        if bad.any():
            raise ValueError(f"{name}: boxes must be x0 < x1, y0 < y1 and finite, got {boxes[bad][0].tolist()}")
        out = (labels < 0) | (labels >= num_classes)
        if out.any():
            raise ValueError(f"{name}: labels must be in 0-{num_classes - 1}, got {labels[out][0].item()}")


def exit_labels(targets: Sequence[dict], exit_target: str) -> tuple[Tensor, Tensor | None]:
    """The class that the exits should say for each image: (n,) labels, and (n,) positions of the images that have one.

    Positions are None when every image has one. Images without a box have no class and are left out.

    Raises:
        ValueError: naming the image, for several objects and `exit_target="single"`.
    """
    labels, which = [], []
    for i, target in enumerate(targets):
        count = len(target["labels"])
        if count > 1 and exit_target == "single":
            raise ValueError(
                f"image {i} has {count} objects, but the exits learn one class per image: filter to single-object "
                "images, or set exit_target='largest' (--exit-target largest)"
            )
        if count:
            labels.append(target["labels"][box_area(target["boxes"]).argmax()])
            which.append(i)
    if not labels:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    chosen = torch.stack(labels)
    return chosen, None if len(which) == len(targets) else torch.tensor(which, device=chosen.device)


def present_classes(targets: Sequence[dict], num_classes: int) -> Tensor:
    """(N, num_classes) float: 1 where an image has an object of the class."""
    present = torch.zeros(len(targets), num_classes)
    for row, target in zip(present, targets, strict=True):
        row[target["labels"].cpu()] = 1
    return present


def _plain(value):
    return value.item() if isinstance(value, Tensor) else value
