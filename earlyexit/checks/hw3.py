"""Homework 3: the levels that never came to be."""

import torch
import torch.nn.functional as F

from .network import level_pairs
from .verdicts import SlipError, called, same

# Of the squared error of downsampling, what a filler of one's own may have at most. Zeros have 0.68, the mean of all
# true maps 0.52, a linear map of 2 x 2 cells 0.42, one of 4 x 4 cells 0.34 (300 training scenes, 40 new ones).
BETTER = 0.48
SCENES = 12  # on which it is judged


def sizes(answer, random: torch.Generator) -> None:
    """Height and width of P3 to P7 for an image: height, width -> (5, 2)."""
    height, width = (int(n) for n in torch.randint(65, 400, (2,), generator=random) * 2 + 1)
    strides = torch.tensor([8, 16, 32, 64, 128])[:, None]
    image = torch.tensor([height, width])
    wanted = -(-image // strides)
    slips = {
        "a stride-2 stage rounds up: half of 5 cells are 3": image // strides,
        "width and height are swapped": wanted.flip(1),
        "P3 has stride 8, not 4": -(-image // (strides // 2)),
        "levels go from fine to coarse": wanted.flip(0),
        "cells were asked for, these are shares": image / strides,
    }
    same(called(answer, height, width), wanted, "the size of each level", slips)


def zeros(answer, random: torch.Generator) -> None:
    """C4 and C5 of zeros: C3 (N, C, H, W), their channels -> two tensors."""
    c3, channels = torch.rand(2, 4, 15, 9, generator=random), (6, 8)
    got = called(answer, c3, *channels)
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        raise SlipError("two tensors were asked for, C4 and C5")
    for name, one, shape, floor in zip(("C4", "C5"), got, ((8, 5), (4, 3)), ((7, 4), (3, 2)), strict=True):
        width = channels[name == "C5"]
        slips = {
            f"{name} is rounded down: a stride-2 stage rounds up": torch.zeros(2, width, *floor),
            f"{name} has the size of C3: each level is half of the one before": torch.zeros(2, width, 15, 9),
            f"{name} has the channels of C3": torch.zeros(2, 4, *shape),
            f"{name} is one image, and the batch has two": torch.zeros(width, *shape),
            f"{name} is full of ones": torch.ones(2, width, *shape),
        }
        same(one, torch.zeros(2, width, *shape), name, slips)


def downsample(answer, random: torch.Generator) -> None:
    """Half the size, every second cell: (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
    level = torch.rand(2, 3, 8, 6, generator=random)
    slips = {
        "this is the mean of four cells: every second cell was asked for": F.avg_pool2d(level, 2),
        "this is the largest of four cells: every second cell was asked for": F.max_pool2d(level, 2),
        "the first cell is kept, then every second one": level[..., 1::2, 1::2],
        "height alone is halved": level[..., ::2, :],
        "width alone is halved": level[..., ::2],
    }
    same(called(answer, level), level[..., ::2, ::2], "the level below", slips)
    odd = torch.rand(1, 1, 5, 7, generator=random)
    size = getattr(called(answer, odd), "shape", ())
    if tuple(size) != (1, 1, 3, 4):
        raise SlipError(f"half of 5 x 7 cells, rounded up, is 3 x 4; your level has shape {tuple(size)}")


def top_down(answer, random: torch.Generator) -> None:
    """The way down of a pyramid: laterals from fine to coarse, each half of the one before -> as many sums."""
    fine, middle, coarse = (torch.rand(1, 2, n, n, generator=random) for n in (8, 4, 2))

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="nearest")

    summed = middle + up(coarse)
    given = [fine, middle, coarse]
    got = called(answer, given)
    if not isinstance(got, (list, tuple)) or len(got) != 3:
        raise SlipError("three levels were asked for, from fine to coarse")
    same(got[2], coarse, "the coarsest level", {"nothing lies above the coarsest level": coarse * 2})
    slips = {
        "the level above is missing": middle,
        "what comes from above replaces the lateral: add both": up(coarse),
        "the way is the wrong one: from coarse to fine": middle + F.avg_pool2d(fine, 2),
    }
    same(got[1], summed, "the middle level", slips)
    slips = {
        "the middle lateral was added before it had heard the coarsest: go from coarse to fine, sum by sum": (
            fine + up(middle)
        ),
        "the level above is missing": fine,
        "bilinear blends cells: each cell is copied to four": (
            fine + F.interpolate(summed, scale_factor=2, mode="bilinear")
        ),
    }
    same(got[0], fine + up(summed), "the finest level", slips)


def own(answer, random: torch.Generator) -> None:
    """A filler of one's own: C3 (N, 64, 16, 16) -> P4 (N, 64, 8, 8), nearer to the true one than downsampling."""
    indices = torch.randint(10_000, 90_000, (SCENES,), generator=random).tolist()
    c3, p4, downsampled = level_pairs("test", indices)
    got = called(answer, c3)
    if not isinstance(got, torch.Tensor) or got.shape != p4.shape:
        raise SlipError(f"P4 should have shape {tuple(p4.shape)}, yours has {tuple(getattr(got, 'shape', ()))}")
    got = got.detach()
    if torch.allclose(got, torch.zeros_like(got)):
        raise SlipError("these are zeros, which know nothing of the image")
    if torch.allclose(got, got[:1, :, :1, :1].expand_as(got), atol=1e-4):
        raise SlipError("this is the same everywhere, whatever C3 shows")
    if torch.allclose(got, downsampled, atol=1e-4):
        raise SlipError("this is downsampling itself: a filler of your own was asked for")
    ratio = F.mse_loss(got, p4) / F.mse_loss(downsampled, p4)
    if not ratio <= BETTER:
        raise SlipError(
            f"its squared error is {ratio:.2f} of downsampling's on new scenes, at most {BETTER} is asked for"
        )
