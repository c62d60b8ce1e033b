"""Exercises of the part "Leaving early", chapters 0 to 2: `check("2.iou", ...)` tries an answer with `ch2_iou`."""

from collections.abc import Sequence

import torch
import torchvision.ops
from torch import nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_area, box_convert, box_iou, sigmoid_focal_loss

from .verdicts import SlipError, called, same

# Chapter 0, leaving early


def ch0_confidence(answer, random: torch.Generator) -> None:
    """The largest probability of each image."""
    logits = 2 * torch.randn(6, 4, generator=random)
    shares = logits.softmax(1)
    first, second = shares.topk(2).values.unbind(1)
    slips = {
        "these are the largest logits: take the softmax first": logits.amax(1),
        "the softmax runs over the classes, dimension 1: each image has its own": logits.softmax(0).amax(1),
        "this is the class that is said: the confidence is its probability": shares.argmax(1),
        "this is the lead over the second class: the largest probability itself is asked for": first - second,
    }
    same(called(answer, logits), shares.amax(1), "the confidence of each image", slips)


def ch0_macs(answer, random: torch.Generator) -> None:
    """Multiply-adds of one convolution on one image."""
    size, stride, groups = (int(torch.randint(*limits, (1,), generator=random)) for limits in ((1, 3), (2, 4), (2, 4)))
    conv = nn.Conv2d(12, 24, 2 * size + 1, stride, padding=size, groups=groups)
    height, width, weights = 60, 36, conv.weight.numel()
    right = weights * (height // stride) * (width // stride)
    slips = {
        "with a stride, fewer places are computed: count those of the output": weights * height * width,
        "these are FLOPs, a multiply and an add counted as two: a MAC is both together": 2 * right,
        "the kernel has two sides: its places are kernel x kernel": right // (2 * size + 1),
        "with groups, a channel reads only its own group of inputs": right * groups,
        "these are the weights alone: each is used once at every place of the output": weights,
    }
    same(called(answer, conv, height, width), right, "the number of multiply-adds", slips)


def ch0_leave(answer, random: torch.Generator) -> None:
    """What a batch answers if the sure ones leave."""
    first, second = (2 * torch.randn(60, 7, generator=random) for _ in range(2))
    sure, surer = first.softmax(1).amax(1), first.softmax(1).amax(1) >= second.softmax(1).amax(1)
    threshold = float(sure.median()) + 1e-3
    early, late = first.argmax(1), second.argmax(1)
    leaves = sure >= threshold
    slips = {
        "the unsure ones leave here: who reaches the threshold leaves": torch.where(leaves, late, early),
        "you took the surer of both exits: who leaves never sees exit 2": torch.where(surer, early, late),
        "a logit is no confidence: take the softmax first": torch.where(first.amax(1) >= threshold, early, late),
        "everybody waits for exit 2 here": late,
        "everybody leaves here": early,
    }
    same(called(answer, first, second, threshold), torch.where(leaves, early, late), "the answers", slips)


def ch0_threshold_for(answer, random: torch.Generator) -> None:
    """A threshold with which a given share of the images leaves."""
    sure = torch.rand(40, generator=random)
    count = int(torch.randint(6, 15, (1,), generator=random))
    leaves = int((sure >= called(answer, sure, count / 40)).sum())
    slips = {
        "the unsure ones were counted: it is the most confident that leave": 40 - count,
        "one image too many leaves: the threshold is the confidence of the last one to leave": count + 1,
        "one image too few leaves: the last one reaches the threshold, too": count - 1,
    }
    same(leaves, count, "the number of images that leave", slips)


# Chapter 1, pictures and what makes them hard


def _some_boxes(random: torch.Generator) -> torch.Tensor:
    """Five boxes in xyxy on a picture of 128 pixels."""
    corner = torch.rand(5, 2, generator=random) * 60
    return torch.cat([corner, corner + 5 + torch.rand(5, 2, generator=random) * 50], dim=1)


def ch1_to_coco(answer, random: torch.Generator) -> None:
    """Corners to corner and sides."""
    boxes = _some_boxes(random)
    slips = {
        "these boxes are unchanged: the last two numbers become width and height": boxes,
        "this is the way from COCO to corners: here the sides are differences": box_convert(boxes, "xywh", "xyxy"),
        "COCO starts at the upper left corner, not at the centre": box_convert(boxes, "xyxy", "cxcywh"),
    }
    same(called(answer, boxes), box_convert(boxes, "xyxy", "xywh"), "the boxes in COCO's layout", slips)


def ch1_flipped(answer, random: torch.Generator) -> None:
    """Boxes of a picture that was mirrored left to right."""
    boxes, width = _some_boxes(random), 128
    x0, y0, x1, y1 = boxes.unbind(1)
    right = torch.stack([width - x1, y0, width - x0, y1], 1)
    pixels = right - torch.tensor([1, 0, 1, 0])
    slips = {
        "the right corner comes first here: after mirroring, left and right change places": right[:, [2, 1, 0, 3]],
        "corners are distances from the edge, not numbers of pixels: take nothing off the width": pixels,
        "these boxes stayed where they were, while the picture turned": boxes,
        "this turns the picture upside down: left to right moves x": torch.stack([x0, width - y1, x1, width - y0], 1),
    }
    same(called(answer, boxes, width), right, "the mirrored boxes", slips)


def ch1_one_object(answer, random: torch.Generator) -> None:
    """Images with exactly one object that is no crowd."""
    ids = (torch.randperm(500, generator=random)[:40] + 100).tolist()
    counts = torch.randint(0, 3, (40, 2), generator=random)  # objects and crowds of each image
    counts[:4] = torch.tensor([[1, 0], [1, 1], [0, 1], [2, 0]])
    found = []
    for image, row in zip(ids, counts.tolist(), strict=True):
        for crowd, count in enumerate(row):
            found += [{"id": 0, "image_id": image, "iscrowd": crowd}] * count
    order = torch.randperm(len(found), generator=random).tolist()
    coco = {"images": [{"id": i} for i in ids], "annotations": [found[i] | {"id": i} for i in order]}
    chosen = set(called(answer, coco))
    things, crowds = counts.unbind(1)
    slips = {
        "this is the paper's filter: here crowds are not counted": (things + crowds) == 1,
        "crowds were counted instead of objects": crowds == 1,
        "exactly one object is asked for, not at least one": things >= 1,
        "these are no ids of the images: give image['id'], not a position": torch.zeros(40, dtype=torch.bool),
    }
    same(torch.tensor([i in chosen for i in ids]), things == 1, "which images are kept", slips)


def ch1_nearest_mean(answer, random: torch.Generator) -> None:
    """The class of the nearest mean, with features in units of their spread."""
    units = torch.tensor([1.0, 50.0])
    means = torch.tensor([[-3.0, 0.0], [0.0, 1.0], [3.0, -1.0]])
    kind = torch.arange(3).repeat(12)
    names = torch.tensor([7, 2, 5])
    features, queries = ((means[kind] + torch.randn(36, 2, generator=random)) * units for _ in range(2))
    order = names.argsort()  # of the classes, by label

    def nearest(scale: torch.Tensor, farthest: bool = False) -> torch.Tensor:
        centres = torch.stack([features[kind == k].mean(0) for k in order])
        away = torch.cdist(queries / scale, centres / scale)
        return away.argmax(1) if farthest else away.argmin(1)

    labels, right = names[order], nearest(features.std(0))
    unscaled, farthest = nearest(torch.ones(2)), nearest(features.std(0), farthest=True)
    slips = {
        "the feature with the large numbers decides alone: divide by the standard deviations": labels[unscaled],
        "this is the place of the nearest mean in a list: give its label": right,
        "this is the farthest mean": labels[farthest],
    }
    same(called(answer, features, names[kind], queries), labels[right], "the label of each query", slips)


# Chapter 2, detection in one hour


def _boxes(random: torch.Generator, count: int) -> torch.Tensor:
    """Boxes in xyxy, many of which overlap, and none of which is a square."""
    corner = torch.rand(count, 2, generator=random) * 10
    return torch.cat([corner, corner + torch.tensor([8.0, 4.0]) + torch.rand(count, 2, generator=random) * 4], dim=1)


def ch2_iou(answer, random: torch.Generator) -> None:
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


def ch2_match(answer, random: torch.Generator) -> None:
    """What each anchor is taught: an object, background, or nothing."""
    overlap = torch.rand(3, 12, generator=random)
    overlap[:, 6:] *= 0.6  # some anchors lie between both limits
    overlap[1] *= 0.3  # an object that no anchor fits
    overlap[:, 8] = torch.tensor([0.1, 0.35, 0.2])  # its best anchor
    by_limits = Matcher(0.5, 0.4, allow_low_quality_matches=False)(overlap)
    wanted = Matcher(0.5, 0.4, allow_low_quality_matches=True)(overlap)
    swapped = torch.where(wanted < 0, -3 - wanted, wanted)
    slips = {
        "the best anchor of each object is taught too, even if their IoU is below 0.4": by_limits,
        "anchors between 0.4 and 0.5 are taught nothing: they get -2, not -1": wanted.masked_fill(wanted == -2, -1),
        "background is -1 and what lies between is -2: you have them the other way round": swapped,
    }
    same(called(answer, overlap), wanted, "what each anchor is taught", slips)


def ch2_encode(answer, random: torch.Generator) -> None:
    """A box as a correction of an anchor."""
    boxes, anchors = _boxes(random, 5), _boxes(random, 5)
    size, base = (b[:, 2:] - b[:, :2] for b in (boxes, anchors))
    moved = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    wanted = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(boxes, anchors)
    corners = torch.cat([(boxes[:, :2] - anchors[:, :2]) / base, wanted[:, 2:]], dim=1)
    inverted = torch.cat([moved / size, -wanted[:, 2:]], dim=1)
    slips = {
        "a shift goes from centre to centre, yours from corner to corner": corners,
        "a shift is counted in sizes of the anchor, not in pixels": torch.cat([moved, wanted[:, 2:]], dim=1),
        "the anchor is what is divided by, you divide by the box": inverted,
        "widths and heights are compared by a logarithm": torch.cat([wanted[:, :2], size / base], dim=1),
    }
    same(called(answer, boxes, anchors), wanted, "the corrections", slips)


def ch2_focal_loss(answer, random: torch.Generator) -> None:
    """Focal loss, its value and its gradient, also where the network is very sure."""
    logits = (torch.randn(4, 6, generator=random) * 2).requires_grad_()
    answers = (torch.rand(4, 6, generator=random) < 0.3).float()
    answers[0, :2] = torch.tensor([0.0, 1.0])
    wanted, turned = (sigmoid_focal_loss(logits, answers, alpha, reduction="sum") for alpha in (0.25, 0.75))
    got = called(answer, logits, answers)
    right = torch.where(answers == 1, logits, -logits).sigmoid()
    easy = torch.where(answers == 1, 0.25, 0.75) * right**2 * -right.log()
    slips = {
        "the sum is asked for, this is the mean": wanted / 24,
        "alpha belongs to the answers 1, and 1 - alpha to the others: you have it the other way round": turned,
        "your factor grows with what is right already: it should shrink, (1 - p)^gamma": easy.sum(),
        "alpha is missing": sigmoid_focal_loss(logits, answers, alpha=-1, reduction="sum"),
    }
    same(got, wanted.detach(), "the focal loss", slips)
    slopes = [torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)[0] for loss in (got, wanted)]
    if slopes[0] is None or not torch.allclose(*slopes, atol=1e-4):
        raise SlipError("the value is right, its gradient is not: the factor (1 - p)^gamma takes part in the gradient")
    sure = torch.tensor([150.0, -150.0])
    if not torch.isfinite(answer(sure, torch.tensor([0.0, 1.0]))):
        raise SlipError("for logits of 150 the loss is no longer finite: do not take the logarithm of a sigmoid")


def ch2_nms(answer, random: torch.Generator) -> None:
    """Non-maximum suppression."""
    boxes, scores = _boxes(random, 12), torch.rand(12, generator=random)
    # A chain, whose middle overlaps both ends, and a pair, the better of which comes last.
    boxes[:5] = torch.tensor([20.0, 0, 28, 4]) + torch.tensor([[0, 2.5, 5, 20, 21]]).T * torch.tensor([1.0, 0, 1, 0])
    scores[:5] = torch.tensor([0.45, 0.6, 0.7, 0.3, 0.8])
    wanted = torchvision.ops.nms(boxes, scores, 0.4)
    backwards = torchvision.ops.nms(boxes, -scores, 0.4)
    as_given = torchvision.ops.nms(boxes, -torch.arange(12.0), 0.4)
    order = scores.argsort(descending=True)
    by_any = order[box_iou(boxes[order], boxes[order]).tril(-1).amax(1) <= 0.4]
    slips = {
        "you went through them in the order of the boxes: begin with the best score": as_given,
        "a box is removed by one that is kept, not by one that was removed itself": by_any,
        "the best first: give the numbers in the order of falling scores": wanted.sort().values,
        "you began with the lowest score": backwards,
    }
    same(called(answer, boxes, scores, 0.4), wanted, "the boxes that are kept", slips)


def ch2_average_precision(answer, random: torch.Generator) -> None:
    """Average precision at an IoU of 0.5, from boxes."""
    objects = torch.tensor([[0.0, 0, 10, 8], [20, 0, 30, 9], [40, 0, 52, 8], [60, 0, 70, 7]])
    shift = torch.tensor([1, 1.5, 0.5, 1, 60, 1, 70]) + torch.rand(7, generator=random)  # two hit nothing
    boxes = objects[[0, 0, 1, 0, 1, 2, 2]] + shift[:, None] * torch.tensor([0, 1.0, 0, 1.0])
    scores = torch.tensor([0.5, 0.8, 0.4, 0.7, 0.9, 0.3, 0.6]) + torch.rand(7, generator=random) / 20
    hits = [0, 1, 0, 0, 0, 1, 1]  # by falling score: nothing, an object, its copy, nothing, its copy, two objects
    twice = [0, 1, 1, 0, 1, 1, 1]
    by_place = [1, 0, 1, 0, 0, 1, 0]
    slips = {
        "an object can be found once: its second box is a false alarm": _precision(twice, 4),
        "detections are ranked by falling score, you took them as they came": _precision(by_place, 4),
        "at each recall take the best precision that is still to come": _precision(hits, 4, envelope=False),
        "recall is divided by the number of objects, you divide by the number of those found": _precision(hits, 3),
        "AP goes from 0 to 1": 100 * _precision(hits, 4),
    }
    same(called(answer, boxes, scores, objects), _precision(hits, 4), "the average precision", slips)


def _precision(hits: Sequence[int] | torch.Tensor, objects: int, *, envelope: bool = True) -> float:
    """COCO's average precision of a ranked list: the mean of the precision at 101 recalls."""
    found, each = torch.as_tensor(hits).cumsum(0), _precisions(hits, envelope)
    ranks = torch.searchsorted(100 * found, objects * torch.arange(101))  # the first with each recall, or none
    return float(torch.cat([each, each.new_zeros(1)])[ranks].mean())


def _precisions(hits: Sequence[int] | torch.Tensor, envelope: bool) -> torch.Tensor:
    """The precision at each rank of a list or, the `envelope`, the best that is still to come."""
    each = torch.as_tensor(hits).double().cumsum(0) / torch.arange(1, len(hits) + 1)
    return each.flip(0).cummax(0).values.flip(0) if envelope else each
