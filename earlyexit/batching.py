"""Images of any sizes as batches of one size each, so that no image is padded to another's size."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from .targets import check_sides


def same_size_batches(
    transform: GeneralizedRCNNTransform, images: Sequence[Tensor]
) -> Iterator[tuple[list[int], ImageList]]:
    """Resize and normalise images, and batch those that end with the same padded size.

    Padding is part of what the network sees: images padded to one another's size get other results together than
    alone. The paper evaluates image by image; so does this, but runs images of one size together.

    Args:
        transform: the detector's own.
        images: (3, H, W) floats in [0, 1].

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
        batch = _transformed(transform, torch.stack([images[i] for i in group]))
        groups.setdefault(batch.tensors.shape[-2:], []).append((group, batch))
    for found in groups.values():
        tensors = torch.cat([batch.tensors for _, batch in found]) if len(found) > 1 else found[0][1].tensors
        sizes = [size for _, batch in found for size in batch.image_sizes]
        yield [i for group, _ in found for i in group], ImageList(tensors, sizes)


def check_resizing(transform: GeneralizedRCNNTransform) -> None:
    """`ValueError` unless images have pixels after resizing and both limits can be kept."""
    least, longest = min(transform.min_size), transform.max_size
    if least < 1:
        raise ValueError(f"min_size must be at least 1 pixel, got {least}")
    if transform.min_size[-1] > longest:
        raise ValueError(f"min_size {transform.min_size[-1]} is above max_size {longest}")


def _transformed(transform: GeneralizedRCNNTransform, images: Tensor) -> ImageList:
    """The transform of (N, 3, H, W) images at once: resizing does not care what a channel is."""
    n, channels, height, width = images.shape
    flat = transform.normalize(images).view(1, n * channels, height, width)[0]
    # Interpolating an image that has its size already would give the same image, after some time.
    resized = flat if _has_its_size(transform, height, width) else transform.resize(flat)[0]
    padded = transform.batch_images([resized], transform.size_divisible)
    size = tuple(resized.shape[-2:])
    return ImageList(padded.view(n, channels, *padded.shape[-2:]), [size] * n)


def _has_its_size(transform: GeneralizedRCNNTransform, height: int, width: int) -> bool:
    scale = min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))
    return transform.fixed_size is None and scale == 1
