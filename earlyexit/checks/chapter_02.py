"""Exercises of chapter 2, detection in one hour."""

import torch
from torchvision.ops import box_area, box_convert, box_iou

from .verdicts import called, same


def _boxes(random: torch.Generator, count: int) -> torch.Tensor:
    """Boxes in xyxy, many of which overlap, and none of which is a square."""
    corner = torch.rand(count, 2, generator=random) * 10
    return torch.cat([corner, corner + torch.tensor([8.0, 4.0]) + torch.rand(count, 2, generator=random) * 4], dim=1)


def iou(answer, random: torch.Generator) -> None:
    """Intersection over union of every pair."""
    ours, others = _boxes(random, 4), _boxes(random, 3)
    sides = torch.minimum(ours[:, None, 2:], others[:, 2:]) - torch.maximum(ours[:, None, :2], others[:, :2])
    shared = sides.clamp(0).prod(2)
    area, both = box_area(ours)[:, None], box_area(ours)[:, None] + box_area(others)
    as_xywh = [box_convert(boxes, "xywh", "xyxy") for boxes in (ours, others)]
    slips = {
        "boxes are in xyxy, two corners, and you read them as xywh": box_iou(*as_xywh),
        "the shared area is counted twice: take it once from the sum of both areas": shared / both,
        "this is the share of the first box that is covered: divide by the area of the union": shared / area,
        "sides of the shared area can become negative: cut them off at 0": sides.prod(2) / (both - sides.prod(2)),
        "the pairs are the other way round: rows are the first boxes": box_iou(others, ours),
    }
    same(called(answer, ours, others), box_iou(ours, others), "the IoU of every pair", slips)
