"""RetinaNet's anchors, and those of an exit without P3."""

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


class AnchorsBySize:
    """All anchors of an image, kept for the next images of its size.

    At 128 pixels, to make them anew takes a twentieth of the time of exit 1.

    Args:
        generator: gives the anchors.
        most: sizes that are kept.
    """

    def __init__(self, generator: AnchorGenerator, most: int = 16):
        self.generator, self.most = generator, most
        self._kept: dict[tuple, Tensor] = {}

    def __call__(self, size: tuple[int, int], levels: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        """(A, 4) float32, on `device`, of an image of this height and width on levels of these heights and widths."""
        # Another stream of a GPU might read them before they are written.
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None
        key = size, levels, device, stream
        anchors = self._kept.get(key)
        if anchors is None:
            while len(self._kept) >= self.most:
                self._kept.pop(next(iter(self._kept)), None)
            anchors = self._kept[key] = self._make(size, levels, device)
        return anchors

    def _make(self, size: tuple[int, int], levels: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be trained with later
            maps = [torch.empty((1, 1, *level), device=device) for level in levels]
            return self.generator(ImageList(torch.empty((1, 1, *size), device=device), [size]), maps)[0]
