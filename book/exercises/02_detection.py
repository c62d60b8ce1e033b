"""Exercises of chapter 2: what the reader starts from, a solution, and wrong answers with the message they must get.

`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the tests try every answer.
"""

# %% setup
import torch


# %% 2.iou core: Intersection over union
def iou(boxes_a, boxes_b):
    """IoU of every pair: boxes (A, 4) and (B, 4) in xyxy -> (A, B)."""
    ...


# %% solution
def iou(boxes_a, boxes_b):
    """IoU of every pair: boxes (A, 4) and (B, 4) in xyxy -> (A, B)."""
    top_left = torch.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = torch.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return shared / (area_a[:, None] + area_b[None, :] - shared)


# %% wrong: counted twice
def iou(boxes_a, boxes_b):
    top_left = torch.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = torch.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return shared / (area_a[:, None] + area_b[None, :])


# %% wrong: cut them off at 0
def iou(boxes_a, boxes_b):
    top_left = torch.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = torch.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    shared = (bottom_right - top_left).prod(dim=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return shared / (area_a[:, None] + area_b[None, :] - shared)


# %% wrong: rows are the first boxes
def iou(boxes_a, boxes_b):
    top_left = torch.maximum(boxes_b[:, None, :2], boxes_a[None, :, :2])
    bottom_right = torch.minimum(boxes_b[:, None, 2:], boxes_a[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return shared / (area_b[:, None] + area_a[None, :] - shared)
