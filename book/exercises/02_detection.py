"""Exercises of chapter 2: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou


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


# %% 2.match core: Which anchor learns what
def match(overlap):
    """IoU (objects, anchors) -> (anchors,): number of the object, -1 or -2."""
    ...


# %% solution
def match(overlap):
    """IoU (objects, anchors) -> (anchors,): number of the object, -1 or -2."""
    best, nearest = overlap.max(dim=0)  # of each anchor
    taught = nearest.clone()
    taught[best < 0.5] = -2
    taught[best < 0.4] = -1
    for anchor in overlap.argmax(dim=1):  # the best of each object
        taught[anchor] = nearest[anchor]
    return taught


# %% wrong: the best anchor of each object is taught too
def match(overlap):
    best, taught = overlap.max(dim=0)
    taught[best < 0.5] = -2
    taught[best < 0.4] = -1
    return taught


# %% wrong: are taught nothing
def match(overlap):
    best, nearest = overlap.max(dim=0)
    taught = nearest.clone()
    taught[best < 0.5] = -1
    for anchor in overlap.argmax(dim=1):
        taught[anchor] = nearest[anchor]
    return taught


# %% wrong: background is -1
def match(overlap):
    best, nearest = overlap.max(dim=0)
    taught = nearest.clone()
    taught[best < 0.5] = -1
    taught[best < 0.4] = -2
    for anchor in overlap.argmax(dim=1):
        taught[anchor] = nearest[anchor]
    return taught


# %% wrong: should have shape
def match(overlap):
    best, nearest = overlap.max(dim=1)
    nearest[best < 0.4] = -1
    return nearest


# %% 2.encode warm-up: A box as a correction of an anchor
def encode(boxes, anchors):
    """Boxes (N, 4) and their anchors (N, 4), both in xyxy -> corrections (N, 4)."""
    ...


# %% solution
def encode(boxes, anchors):
    """Boxes (N, 4) and their anchors (N, 4), both in xyxy -> corrections (N, 4)."""
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    anchor_centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    shift = (centre - anchor_centre) / anchor_size
    growth = (size / anchor_size).log()
    return torch.cat([shift, growth], dim=1)


# %% wrong: from centre to centre
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] - anchors[:, :2]) / anchor_size
    return torch.cat([shift, (size / anchor_size).log()], dim=1)


# %% wrong: not in pixels
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([shift, (size / anchor_size).log()], dim=1)


# %% wrong: the anchor is what is divided by
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([shift / size, (anchor_size / size).log()], dim=1)


# %% wrong: logarithm
def encode(boxes, anchors):
    size, anchor_size = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([shift / anchor_size, size / anchor_size], dim=1)


# %% 2.focal_loss core: Focal loss
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    """The sum over logits and answers (0.0 or 1.0), which have one shape."""
    ...


# %% solution
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    """The sum over logits and answers (0.0 or 1.0), which have one shape."""
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    p = logits.sigmoid()
    right = torch.where(answers == 1, p, 1 - p)  # probability of the right answer
    weight = torch.where(answers == 1, alpha, 1 - alpha)
    return (weight * (1 - right) ** gamma * loss).sum()


# %% wrong: sum
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    right = torch.where(answers == 1, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(answers == 1, alpha, 1 - alpha)
    return (weight * (1 - right) ** gamma * loss).mean()


# %% wrong: the other way round
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    right = torch.where(answers == 1, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(answers == 1, 1 - alpha, alpha)
    return (weight * (1 - right) ** gamma * loss).sum()


# %% wrong: what is right already
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    right = torch.where(answers == 1, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(answers == 1, alpha, 1 - alpha)
    return (weight * right**gamma * loss).sum()


# %% wrong: no longer finite
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    p = logits.sigmoid()
    yes = -alpha * (1 - p) ** gamma * answers * p.log()
    no = -(1 - alpha) * p**gamma * (1 - answers) * (1 - p).log()
    return (yes + no).sum()


# %% wrong: takes part in the gradient
def focal_loss(logits, answers, alpha=0.25, gamma=2.0):
    loss = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    right = torch.where(answers == 1, logits.sigmoid(), 1 - logits.sigmoid())
    weight = torch.where(answers == 1, alpha, 1 - alpha)
    return (weight * (1 - right.detach()) ** gamma * loss).sum()


# %% 2.nms core: One box for each object
def nms(boxes, scores, threshold):
    """Boxes (N, 4) in xyxy, scores (N,) -> numbers of those kept, the best first."""
    ...


# %% solution
def nms(boxes, scores, threshold):
    """Boxes (N, 4) in xyxy, scores (N,) -> numbers of those kept, the best first."""
    overlap = box_iou(boxes, boxes)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return torch.tensor(kept)


# %% wrong: in the order of the boxes
def nms(boxes, scores, threshold):
    overlap = box_iou(boxes, boxes)
    kept = []
    for i in range(len(boxes)):
        if all(overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return torch.tensor(kept)


# %% wrong: was removed itself
def nms(boxes, scores, threshold):
    order = scores.argsort(descending=True)
    overlap = box_iou(boxes[order], boxes[order])
    return order[overlap.tril(-1).amax(dim=1) <= threshold]


# %% wrong: the best first
def nms(boxes, scores, threshold):
    overlap = box_iou(boxes, boxes)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return torch.tensor(sorted(kept))


# %% wrong: lowest score
def nms(boxes, scores, threshold):
    overlap = box_iou(boxes, boxes)
    kept = []
    for i in scores.argsort().tolist():
        if all(overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return torch.tensor(kept)


# %% 2.average_precision stretch: Average precision from boxes
def average_precision(boxes, scores, objects):
    """Boxes (D, 4), scores (D,) and objects (T, 4), all in xyxy -> AP, 0 to 1."""
    ...


# %% solution
def average_precision(boxes, scores, objects):
    """Boxes (D, 4), scores (D,) and objects (T, 4), all in xyxy -> AP, 0 to 1."""
    overlap = box_iou(boxes, objects)
    hits, precisions, recalls = 0, [], []
    for rank, i in enumerate(scores.argsort(descending=True), start=1):
        best, which = overlap[i].max(dim=0)
        if best >= 0.5:
            hits += 1
            overlap[:, which] = 0  # this object has been found
        precisions.append(hits / rank)
        recalls.append(hits / len(objects))
    total = 0.0
    for step in range(101):
        reached = [
            p for p, r in zip(precisions, recalls, strict=True) if r >= step / 100
        ]
        total += max(reached, default=0.0)
    return total / 101


# %% wrong: found once
def average_precision(boxes, scores, objects):
    order = scores.argsort(descending=True)
    hit = box_iou(boxes, objects).amax(dim=1)[order] >= 0.5
    precision = hit.cumsum(0) / torch.arange(1, len(hit) + 1)
    recall = hit.cumsum(0) / len(objects)
    grid = [precision[recall >= step / 100] for step in range(101)]
    return sum(p.max().item() if len(p) else 0.0 for p in grid) / 101


# %% wrong: falling score
def average_precision(boxes, scores, objects):
    overlap = box_iou(boxes, objects)
    hits, found = 0, []
    for rank, i in enumerate(range(len(boxes)), start=1):
        best, which = overlap[i].max(dim=0)
        if best >= 0.5:
            hits += 1
            overlap[:, which] = 0
        found.append((hits / len(objects), hits / rank))
    grid = [[p for r, p in found if r >= step / 100] for step in range(101)]
    return sum(max(reached, default=0.0) for reached in grid) / 101


# %% wrong: best precision that is still to come
def average_precision(boxes, scores, objects):
    overlap = box_iou(boxes, objects)
    hits, found = 0, []
    for rank, i in enumerate(scores.argsort(descending=True), start=1):
        best, which = overlap[i].max(dim=0)
        if best >= 0.5:
            hits += 1
            overlap[:, which] = 0
        found.append((hits / len(objects), hits / rank))
    grid = [[p for r, p in found if r >= step / 100] for step in range(101)]
    return sum(reached[0] if reached else 0.0 for reached in grid) / 101


# %% wrong: number of objects
def average_precision(boxes, scores, objects):
    overlap = box_iou(boxes, objects)
    hits, found = 0, []
    for rank, i in enumerate(scores.argsort(descending=True), start=1):
        best, which = overlap[i].max(dim=0)
        if best >= 0.5:
            hits += 1
            overlap[:, which] = 0
        found.append((hits, hits / rank))
    grid = [[p for r, p in found if r >= hits * step / 100] for step in range(101)]
    return sum(max(reached, default=0.0) for reached in grid) / 101
