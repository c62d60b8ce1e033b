"""Images and targets before the network: checked with messages that show the bad value, resized, batched by size."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

LOWEST, HIGHEST = -0.5, 1.5  # of a pixel: interpolation goes a little beyond 0 and 1


def check_images(images: Sequence[Tensor], model: nn.Module, *, values: bool = True) -> None:
    """`ValueError` unless `images` is a list of (3, H, W) floats in [0, 1] that `model` with its `transform` can take.

    Their type must be that of the model's weights. With `values` the pixels are looked at, for which a GPU is waited
    for once; `check_targets` does that, too.
    """
    weight = next(model.parameters(), None)  # graphs have none, and take any kind of floats
    if isinstance(images, Tensor) and images.ndim == 3:
        raise ValueError(
            f"images must be a list of (3, H, W) tensors, got one tensor {tuple(images.shape)}: use [image]"
        )
    if not isinstance(images, Sequence | Tensor):
        raise ValueError(f"images must be a list of (3, H, W) tensors, got {_kind(images)}")
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
            got = tuple(image.shape) if isinstance(image, Tensor) else _kind(image)
            raise ValueError(f"image {i} must be a (3, H, W) tensor, got {got}")
        if not image.is_floating_point():
            raise ValueError(f"image {i} must hold floats in [0, 1], got {image.dtype}: divide by 255")
        if min(image.shape[1:]) < 1:
            raise ValueError(f"image {i} must have pixels, got {tuple(image.shape)}")
        if weight is not None and image.dtype != weight.dtype:
            raise ValueError(f"image {i} must be {weight.dtype} as the model, got {image.dtype}")
        check_sides(i, image, model.transform.max_size)
    if values and _bad_pixels(images).any().item():  # one question for all
        _refuse_pixels(images)


def _kind(value: object) -> str:
    """The type of a value, with its library's name where that is not Python's own."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _ranges(images: Sequence[Tensor]) -> Tensor:
    """(N, 2) the smallest and the largest value of each image, on the device; NaN where an image has one."""
    # Not aminmax, which copies an image whose channels lie innermost, as those of a decoded photo do.
    seen = (image.detach() for image in images)
    return torch.stack([bound for image in seen for bound in (image.amin(), image.amax())]).view(-1, 2)


def _bad_pixels(images: Sequence[Tensor]) -> Tensor:
    lowest, highest = _ranges(images).T
    return ~((lowest >= LOWEST) & (highest <= HIGHEST))  # so asked, NaN is bad, too


def _refuse_pixels(images: Sequence[Tensor], targets: Sequence[Mapping] | None = None) -> None:
    """`ValueError` about the first image that has other values than it should, if one has."""
    found = _bad_pixels(images).nonzero()
    if not len(found):
        return
    bad = int(found[0])
    low, high = _ranges(images)[bad].tolist()
    name = _name(bad, targets[bad] if targets else {})
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} must hold finite values in [0, 1], got {low if math.isfinite(high) else high}")
    cure = "the model normalises itself, so leave that out" if low < LOWEST else "divide by 255 (16 bits: by 65535)"
    raise ValueError(f"{name} must hold values in [0, 1], got {low:.4g} to {high:.4g}: {cure}")


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
    """`ValueError` that names the image unless all pixels, boxes and labels of a batch are what they should be.

    Targets are dicts of "boxes" (M, 4) xyxy in pixels and "labels" (M,) int64 in [0, num_classes); with `allow_empty`
    there may be none. A box may stick out of its image, as some of COCO's do, but not with most of its area.
    """
    if not isinstance(targets, Sequence) or len(targets) != len(images):
        got = f"{len(targets)} for {len(images)} images" if isinstance(targets, Sequence) else _kind(targets)
        raise ValueError(f"training needs a list with one target for each image, got {got}")
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        _check_form(i, target, image.device, allow_empty)
    boxes, labels = (torch.cat([target[key] for target in targets]) for key in ("boxes", "labels"))
    sizes = [(x.shape[2], x.shape[1]) for x, target in zip(images, targets, strict=True) for _ in target["boxes"]]
    sizes = torch.tensor(sizes).view(-1, 2).to(boxes.device, non_blocking=True)
    boxed = (boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(boxes).all(1)
    wrong = torch.stack([~boxed, (labels < 0) | (labels >= num_classes), _outside(boxes, sizes)])
    shares = (boxes <= 1).all() if len(boxes) else boxes.new_zeros((), dtype=torch.bool)
    if (_bad_pixels(images).any() | wrong.any() | shares).item():  # the one question to the device
        _refuse_pixels(images, targets)
        _refuse_targets(images, targets, wrong, num_classes)


def _refuse_targets(images: Sequence[Tensor], targets: Sequence[dict], wrong: Tensor, num_classes: int) -> None:
    """`ValueError` about the first box, of all images one after the other, that is (3, M) `wrong`, or about all."""
    found = wrong.T.nonzero().tolist()
    which, kind = found[0] if found else (0, 3)
    i, k = [(i, k) for i, target in enumerate(targets) for k in range(len(target["boxes"]))][which]
    box, label = targets[i]["boxes"][k].tolist(), targets[i]["labels"][k].item()
    height, width = images[i].shape[1:]
    said = (
        f"boxes must be x0 < x1, y0 < y1 and finite, got {box}",
        f"labels must be in 0-{num_classes - 1}, got {label}: they count from 0, without the background",
        f"most of the box {box} is outside its {width} x {height} pixels: boxes are (x0, y0, x1, y1) in pixels of this "
        "image",
        f"boxes must be in pixels, but all of this batch lie in 0-1: {box}; shares of the image, it seems; multiply "
        "them by its width and height",
    )
    raise ValueError(f"{_name(i, targets[i])}: {said[kind]}")


def _check_form(i: int, target: dict, device: torch.device, allow_empty: bool) -> None:
    """All that can be said of a target without looking at its values, for which a GPU would have to be waited for."""
    if not isinstance(target, Mapping):
        raise ValueError(
            f"image {i}: a target must be a dict of 'boxes' and 'labels', got {_kind(target)}{_cure(target)}"
        )
    boxes, labels = (target.get(key) for key in ("boxes", "labels"))
    if boxes is None or labels is None:
        got = f"got {sorted(map(str, target))}{_cure(target)}"
        raise ValueError(f"{_name(i, target)}: a target needs 'boxes' and 'labels', {got}")
    for key, value in (("boxes", boxes), ("labels", labels)):
        if not isinstance(value, Tensor):
            kind = "torch.float32" if key == "boxes" else "torch.int64"
            cure = f"torch.as_tensor({key}, dtype={kind}) makes one"
            raise ValueError(f"{_name(i, target)}: {key} must be a tensor, got {_kind(value)}: {cure}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != boxes.shape[:1]:
        shapes = f"{tuple(boxes.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"{_name(i, target)}: boxes must be (M, 4) and labels (M,), got {shapes}")
    if labels.dtype != torch.int64:
        raise ValueError(f"{_name(i, target)}: labels must be int64, got {labels.dtype}")
    if not len(boxes) and not allow_empty:
        raise ValueError(f"{_name(i, target)}: no box; leave such images out, or set allow_empty (--allow-empty)")
    if {boxes.device, labels.device} != {device}:
        got = f"boxes on {boxes.device} and labels on {labels.device}"
        raise ValueError(f"{_name(i, target)}: its target must be on {device} as the image, got {got}")


def _cure(target: object) -> str:
    """What to do with annotations as COCO's files have them, "" for anything else."""
    rows = target.get("annotations", [target]) if isinstance(target, Mapping) else target
    coco = isinstance(rows, list | tuple) and any(isinstance(row, Mapping) and "bbox" in row for row in rows)
    return ": earlyexit.data.CocoDataset makes targets of COCO's annotations" if coco else ""


def _outside(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes of which less than half lies in their image, (M,); `sizes` are (M, 2), width and height."""
    seen = (torch.minimum(boxes[:, 2:], sizes) - boxes[:, :2].clamp(min=0)).clamp(min=0)
    return seen.prod(1) < 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _name(i: int, target: Mapping) -> str:
    image_id = target.get("image_id")
    image_id = image_id.item() if isinstance(image_id, Tensor) else image_id
    return f"image {i}" if image_id is None else f"image {i} (image_id {image_id})"


def same_size_batches(
    transform: GeneralizedRCNNTransform, images: Sequence[Tensor]
) -> Iterator[tuple[list[int], ImageList]]:
    """Resize and normalise (3, H, W) images in [0, 1], and batch those that end with the same padded size.

    Padding is part of what the network sees: images padded to one another's size get other results together than
    alone. The paper evaluates image by image; so does this, but runs images of one size together.

    Yields:
        Positions in `images`, and the batch of those images.

    Raises:
        ValueError: if an image is so thin that nothing would be left of its shorter side.
    """
    alike: dict[tuple, list[int]] = {}
    for i, image in enumerate(images):
        check_sides(i, image, transform.max_size)
        alike.setdefault((image.shape, image.dtype, image.device), []).append(i)
    groups: dict[torch.Size, list[tuple[list[int], ImageList]]] = {}
    for group in alike.values():
        alone = len(group) == 1  # a photo of a phone is 140 MB, so it is not copied
        batch = _transformed(transform, images[group[0]][None] if alone else torch.stack([images[i] for i in group]))
        groups.setdefault(batch.tensors.shape[-2:], []).append((group, batch))
    for found in groups.values():
        tensors = torch.cat([batch.tensors for _, batch in found]) if len(found) > 1 else found[0][1].tensors
        sizes = [size for _, batch in found for size in batch.image_sizes]
        yield [i for group, _ in found for i in group], ImageList(tensors, sizes)


def check_resizing(transform: GeneralizedRCNNTransform) -> None:
    """`ValueError` unless images have pixels after resizing, both limits can be kept and pixels can be normalised."""
    least, longest = min(transform.min_size), transform.max_size
    if least < 1:
        raise ValueError(f"min_size must be at least 1 pixel, got {least}")
    if transform.min_size[-1] > longest:
        raise ValueError(f"min_size {transform.min_size[-1]} is above max_size {longest}")
    if not all(0 < spread < math.inf for spread in transform.image_std):
        raise ValueError(f"image_std must be three finite numbers above 0, got {transform.image_std}")


def _transformed(transform: GeneralizedRCNNTransform, images: Tensor) -> ImageList:
    """The transform of (N, 3, H, W) images at once: resizing does not care what a channel is.

    torchvision's transform normalises first. Interpolation is linear and its weights sum to 1, so after it is the same,
    and needs no two copies of large photos.
    """
    n, channels, height, width = images.shape
    # Interpolating an image that has its size already would give the same image, after some time.
    if transform.fixed_size is not None or _scale(transform, height, width) != 1:
        flat = transform.resize(images.reshape(n * channels, height, width))[0]
        images = flat.view(n, channels, *flat.shape[-2:])
    size = tuple(images.shape[-2:])
    flat = transform.normalize(images).view(n * channels, *size)
    padded = transform.batch_images([flat], transform.size_divisible)
    return ImageList(padded.view(n, channels, *padded.shape[-2:]), [size] * n)


def _scale(transform: GeneralizedRCNNTransform, height: int, width: int) -> float:
    """How many times as large an image becomes."""
    return min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))


def network_size(model: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Height and width, resized and padded, at which the backbone sees an image (3, H, W)."""
    scale, step = _scale(model.transform, *image.shape[-2:]), model.transform.size_divisible
    return tuple(math.ceil(math.floor(side * scale + 1e-6) / step) * step for side in image.shape[-2:])
