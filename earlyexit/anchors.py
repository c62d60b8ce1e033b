"""RetinaNet's anchors, and those of an exit without P3."""

import functools
import math

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

ASPECT_RATIOS = (0.5, 1.0, 2.0)
STRIDES = (8, 16, 32, 64, 128)


def retinanet_anchors(scale: float) -> AnchorGenerator:
    """RetinaNet's nine anchors per cell: three shapes, each in three sizes from `scale` strides up."""
    if not 0 < scale < math.inf:
        raise ValueError(f"anchor_scale must be a finite number above 0, got {scale}")
    sizes = tuple(tuple(stride * scale * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(STRIDES))


def anchors_without_finest(anchors: AnchorGenerator) -> AnchorGenerator:
    """The anchors of a pyramid without its finest level: each level has the sizes of the one below it, too.

    Without P3 nobody would look for the smallest objects, although P4 can see many of them: an object is not lost
    because its cell is large, but because no anchor fits it. Twice the anchors cost little, since the towers of the
    head, which are most of it, stay the same.
    """
    sizes = tuple(below + own for below, own in zip(anchors.sizes, anchors.sizes[1:], strict=False))
    return AnchorGenerator(sizes, anchors.aspect_ratios[1:])


@functools.lru_cache(maxsize=16)
def all_anchors(
    generator: AnchorGenerator, size: tuple[int, int], levels: tuple[tuple[int, int], ...], device: torch.device
) -> Tensor:
    """(A, 4) float32: all anchors of an image of this height and width on levels of these heights and widths.

    They are kept for the next images of that size: at 128 pixels, to make them anew takes longer than to run the head.
    """
    with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be trained with later
        maps = [torch.empty((1, 1, *level), device=device) for level in levels]
        return generator(ImageList(torch.empty((1, 1, *size), device=device), [size]), maps)[0]
