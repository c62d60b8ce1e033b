"""Exercises of chapter 8, the whole evaluation."""

import numpy as np
import torch
from torch import Tensor

from .chapter_02 import _precision
from .verdicts import called, same


def saved(answer, random: torch.Generator) -> None:
    """Percent of the compute that is saved: GMACs (4, N) of images of unlike sizes, exits (N,)."""
    size = torch.rand(9, generator=random) * 100 + 60
    gmacs = (torch.tensor([0.8, 0.9, 0.97, 1.0])[:, None] + 0.03 * torch.rand(4, 9, generator=random)) * size
    exits = torch.randint(1, 5, (9,), generator=random)
    exits[:4] = torch.tensor([1, 2, 3, 4])
    spent = gmacs[exits - 1, torch.arange(9)]
    slips = {
        "a large image counts as much as a small one: add up the GMACs of all images before you divide": (
            100 * (1 - spent / gmacs[3]).mean()
        ),
        "this is the share that is spent, what is saved was asked for": 100 * spent.sum() / gmacs[3].sum(),
        "percent were asked for": 1 - spent.sum() / gmacs[3].sum(),
        "exits are numbered from 1, rows from 0": 100 * (1 - gmacs[exits % 4, torch.arange(9)].sum() / gmacs[3].sum()),
        "each image has GMACs of its own: you took the mean of a row": (
            100 * (1 - gmacs.mean(1)[exits - 1].mean() / gmacs[3].mean())
        ),
    }
    same(called(answer, gmacs, exits), 100 * (1 - spent.sum() / gmacs[3].sum()), "the share saved", slips)


def at_budget(answer, random: torch.Generator) -> None:
    """The mAP of a sweep at a budget: GMACs (S,) and mAPs (S,) in any order, a budget -> a number."""
    x = 150 + torch.rand(6, generator=random).cumsum(0) * 3
    y = 20 + torch.rand(6, generator=random).cumsum(0) * 8
    shuffled = torch.randperm(6, generator=random)
    shuffled = shuffled.flip(0) if (shuffled.diff() > 0).all() else shuffled
    for budget in (float(x[2] + 0.7 * (x[3] - x[2])), float(x[0] - 1), float(x[-1] + 1)):
        near = int((x - budget).abs().argmin())
        below = max(int((x <= budget).sum()) - 1, 0)
        first = min(below, 4)
        slope = (y[first + 1] - y[first]) / (x[first + 1] - x[first])
        slips = {
            "the settings come in any order: sort them by their GMACs first": _line(budget, x[shuffled], y[shuffled]),
            "below the cheapest and above the dearest setting the curve stays level, yours goes on": (
                y[first] + slope * (budget - x[first])
            ),
            "this is the mAP of the nearest setting: go along the straight line between two": y[near],
            "this is the best setting that can be paid for: go along the straight line to the next one": y[below],
            "the two weights are the other way round: the nearer setting counts more": (
                y[first + 1] - slope * (budget - x[first])
            ),
        }
        got = called(answer, x[shuffled], y[shuffled], budget)
        same(got, _line(budget, x, y), f"the mAP at {budget:.2f} GMACs", slips)


def _line(budget: float, x: Tensor, y: Tensor) -> float:
    return float(np.interp(budget, x.numpy(), y.numpy()))


def two_maps(answer, random: torch.Generator) -> None:
    """VOC's AP50 and COCO's mAP of one class: hits (10, D) by falling score at ten limits of IoU, objects -> (2,)."""
    iou = torch.rand(12, generator=random) * 0.6 + 0.4
    iou[[1, 3, 6, 7]] = torch.tensor([0.3, 0.2, 0.35, 0.8])  # some are wrong at every limit
    hits = iou >= torch.arange(10)[:, None] * 0.05 + 0.5
    coco = [_precision(row.long().tolist(), 13) for row in hits]
    voc, rough, mean = _area(hits[0], 13), _area(hits[0], 13, envelope=False), sum(coco) / 10
    slips = {
        "VOC's is the exact area under the curve, you read it at COCO's 101 recalls": [coco[0], mean],
        "COCO's mAP is the mean over all ten limits, yours has the first alone": [voc, coco[0]],
        "at each recall take the best precision that is still to come": [rough, mean],
        "first VOC's AP50, then COCO's mAP": [mean, voc],
        "both go from 0 to 1": [100 * voc, 100 * mean],
    }
    slips = {message: torch.tensor(value) for message, value in slips.items()}
    same(called(answer, hits, 13), torch.tensor([voc, mean]), "AP50 and mAP", slips)


def _area(hits: Tensor, objects: int, *, envelope: bool = True) -> float:
    precision = hits.double().cumsum(0) / torch.arange(1, len(hits) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if envelope else precision
    return float(best[hits].sum()) / objects  # recall rises by 1 / objects at each hit


def gap(answer, random: torch.Generator) -> None:
    """A difference with its interval: values (3,) and draws (3, R) of two models, in pairs -> (3,) mean, low, high."""
    images = torch.randn(40, generator=random) * 0.6  # what both models share
    ours, theirs = (60 + torch.randn(3, generator=random) * 0.4 for _ in range(2))
    draws = [v[:, None] + 0.4 + images + torch.randn(3, 40, generator=random) * 0.2 for v in (ours, theirs)]
    between = draws[0] - draws[1]
    others, seeds = 1.96 * between.mean(0).std(), 4.303 * (ours - theirs).std() / 3**0.5
    half = torch.hypot(others, seeds)
    apart = [1.96 * d.mean(0).std() for d in draws] + [4.303 * v.std() / 3**0.5 for v in (ours, theirs)]
    mean = (ours - theirs).mean()

    def around(width: Tensor) -> Tensor:
        return torch.stack([mean, mean - width, mean + width])

    slips = {
        "subtract draw by draw and seed by seed first: what both models share cancels out": around(
            torch.stack(apart).norm()
        ),
        "two kinds of luck that are independent are added as squares": around(others + seeds),
        "trainings are missing: this knows of other images alone": around(others),
        "images are missing: this knows of other trainings alone": around(seeds),
        "three trainings need Student's 4.303, not 1.96": around(torch.hypot(others, seeds * 1.96 / 4.303)),
        "all models were tried on the same draws: take the mean over seeds, then the deviation over draws": around(
            torch.hypot(1.96 * between.std(1).mean(), seeds)
        ),
    }
    same(called(answer, ours, theirs, *draws), around(half), "difference, low and high", slips, tol=1e-3)
