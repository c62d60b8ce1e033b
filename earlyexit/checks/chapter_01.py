"""Exercises of chapter 1, pictures and what makes them hard."""

import torch
from torchvision.ops import box_convert

from .verdicts import called, same


def _boxes(random: torch.Generator, count: int = 5) -> torch.Tensor:
    """Boxes in xyxy on a picture of 128 pixels."""
    corner = torch.rand(count, 2, generator=random) * 60
    return torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=random) * 50], dim=1)


def to_coco(answer, random: torch.Generator) -> None:
    """Corners to corner and sides."""
    boxes = _boxes(random)
    slips = {
        "these boxes are unchanged: the last two numbers become width and height": boxes,
        "this is the way from COCO to corners: here the sides are differences": box_convert(boxes, "xywh", "xyxy"),
        "COCO starts at the upper left corner, not at the centre": box_convert(boxes, "xyxy", "cxcywh"),
    }
    same(called(answer, boxes), box_convert(boxes, "xyxy", "xywh"), "the boxes in COCO's layout", slips)


def flipped(answer, random: torch.Generator) -> None:
    """Boxes of a picture that was mirrored left to right."""
    boxes, width = _boxes(random), 128
    x0, y0, x1, y1 = boxes.unbind(1)
    right = torch.stack([width - x1, y0, width - x0, y1], 1)
    slips = {
        "the right corner comes first here: after mirroring, left and right change places": right[:, [2, 1, 0, 3]],
        "corners are distances from the edge, not numbers of pixels: take nothing off the width": right
        - torch.tensor([1, 0, 1, 0]),
        "these boxes stayed where they were, while the picture turned": boxes,
        "this turns the picture upside down: left to right moves x": torch.stack([x0, width - y1, x1, width - y0], 1),
    }
    same(called(answer, boxes, width), right, "the mirrored boxes", slips)


def one_object(answer, random: torch.Generator) -> None:
    """Images with exactly one object that is no crowd."""
    ids = (torch.randperm(500, generator=random)[:40] + 100).tolist()
    counts = torch.randint(0, 3, (40, 2), generator=random)  # objects and crowds of each image
    counts[:4] = torch.tensor([[1, 0], [1, 1], [0, 1], [2, 0]])
    found = [
        {"id": 0, "image_id": image, "iscrowd": crowd}
        for image, row in zip(ids, counts.tolist(), strict=True)
        for crowd, count in enumerate(row)
        for _ in range(count)
    ]
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


def nearest_mean(answer, random: torch.Generator) -> None:
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
