"""Images of any sizes as batches of one size each, so that no image is padded to another's size."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform


def same_size_batches(
    transform: GeneralizedRCNNTransform, images: Sequence[Tensor]
) -> Iterator[tuple[list[int], ImageList]]:
    """Resize and normalise images one by one, and batch those that end with the same padded size.

    Padding is part of what the network sees: images padded to one another's size get other results together than
    alone. The paper evaluates image by image; so does this, but runs images of one size together.

    Args:
        transform: the detector's own.
        images: (3, H, W) floats in [0, 1].

    Yields:
        Positions in `images`, and the batch of those images.
    """
    ready = [transform([image])[0] for image in images]
    groups: dict[torch.Size, list[int]] = {}
    for i, one in enumerate(ready):
        groups.setdefault(one.tensors.shape[-2:], []).append(i)
    for group in groups.values():
        tensors = torch.cat([ready[i].tensors for i in group])
        yield group, ImageList(tensors, [ready[i].image_sizes[0] for i in group])
