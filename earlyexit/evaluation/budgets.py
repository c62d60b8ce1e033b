"""The best thresholds that a budget of compute allows, judged by images that had no part in choosing them."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..model.backbone import NUM_EXITS
from .bootstrap import bootstrap_difference
from .matching import Matches, map_of, marginal_precision, match_records
from .policies import threshold_exits
from .records import ExitRecords

SHARES = np.linspace(0, 1, 21)  # of the images that are still there, at exits 1 and 2
LAST_SHARES = np.linspace(0, 1, 6)  # at exit 3, which saves little
TRIED = 12  # choices whose mAP is measured; all others are compared by a first-order estimate


@dataclass(frozen=True)
class Budget:
    """Thresholds, and what they reached where they were chosen.

    Attributes:
        thresholds: of exits 1-3, infinity for never.
        gmacs: mean GMACs of an image.
        share: the same as a share of full depth.
        mAP: in percent.
        loss: points of mAP below full depth.
        loss_at_most: with the confidence that was asked for, on very many other images with thresholds chosen like
            these: each half of the images leaves by the choice of the other half, and the bootstrap draws those.
    """

    thresholds: tuple[float, float, float]
    gmacs: float
    share: float
    mAP: float  # noqa: N815, the field's word
    loss: float
    loss_at_most: float


def thresholds_for_budget(
    records: ExitRecords,
    *,
    gmacs: float | None = None,
    min_map: float | None = None,
    scores: Tensor | None = None,
    confidence: float = 0.95,
    repeats: int = 100,
) -> Budget:
    """The thresholds with the highest mAP under a mean compute, or with the least compute that reaches a mAP.

    Choose them on one split (calibration) and use them on another: on the images that they were chosen by, they look
    better than they are. That is why the bound on the loss comes from halves that chose for one another.

    Args:
        records: the images to choose by.
        gmacs: the largest mean GMACs of an image; or
        min_map: the least mAP in percent.
        scores: (4, N), who may leave, see `rules`; the largest softmax values unless given.
        confidence: of the bound on the loss of mAP.
        repeats: bootstrap samples for it.

    Raises:
        ValueError: unless exactly one of `gmacs` and `min_map` is given, and if it cannot be reached.
    """
    limits = [limit for limit in (gmacs, min_map) if limit is not None]
    if len(limits) != 1 or math.isnan(limits[0]):
        raise ValueError(f"give either gmacs or min_map, a number, got gmacs={gmacs}, min_map={min_map}")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie between 0.5 and 1, got {confidence}")
    scores = records.confidence if scores is None else scores
    if scores.shape != (NUM_EXITS, len(records)):
        raise ValueError(f"scores must be (4, {len(records)}), one for each exit and image, got {tuple(scores.shape)}")
    choices = all_choices(records, scores)
    matches = match_records(records)
    if gmacs is not None:
        found = best_under(records, matches, choices, gmacs)
    else:
        found = cheapest_above(records, matches, choices, min_map)
    chosen, full = exits_of(choices, found), torch.full((len(records),), NUM_EXITS)
    mean, most = float(records.gmacs.gather(0, chosen[None] - 1).mean()), float(records.gmacs[-1].mean())
    value, loss = map_of(matches, chosen), map_of(matches, full) - map_of(matches, chosen)
    crossed = cross_fitted(records, matches, choices, mean / most)
    statistic: Callable = lambda exits: lambda counts: map_of(matches, exits, counts)  # noqa: E731
    options = {"repeats": repeats, "level": 2 * confidence - 1}  # one-sided
    bound = bootstrap_difference(statistic(full), statistic(crossed), len(records), **options).high
    # What was lost where the thresholds look best is the least that can be expected elsewhere.
    return Budget(found, mean, mean / most, value, loss, max(bound, loss))


def pareto_front(records: ExitRecords, shares=(0.35, 0.4, 0.5, 0.62, 0.75, 0.9, 1.0), **options) -> list[Budget]:
    """The best thresholds for several budgets, shares of full depth; those that cannot be reached are left out."""
    full, least = float(records.gmacs[-1].mean()), float(records.gmacs.amin(0).mean())
    return [thresholds_for_budget(records, gmacs=share * full, **options) for share in shares if share * full >= least]


@dataclass(frozen=True)
class Choices:
    """Thresholds of exits 1-3, the exits at which they let the images leave, (choices, N), and their mean GMACs."""

    thresholds: list[tuple[float, float, float]]
    exits: Tensor  # (choices, N)
    gmacs: Tensor  # (choices,)


def all_choices(records: ExitRecords, scores: Tensor) -> Choices:
    """All thresholds by which given shares of the images that are still there leave, for scores (4, N)."""
    thresholds = []
    for shares in itertools.product(SHARES, SHARES, LAST_SHARES):
        here, limits = torch.ones(len(records), dtype=torch.bool), []
        for score, share in zip(scores, shares, strict=False):
            limits.append(_limit(score[here], share))
            here = here & ~(score.double() >= limits[-1])
        thresholds.append(tuple(limits))
    thresholds = list(dict.fromkeys(thresholds))
    exits = torch.stack([threshold_exits(scores, t) for t in thresholds])
    gmacs = torch.stack([records.gmacs.gather(0, chosen[None] - 1).mean() for chosen in exits])
    return Choices(thresholds, exits, gmacs)


def _limit(waiting: Tensor, share: float) -> float:
    """The score from which on a share of the waiting images leaves."""
    count = round(share * len(waiting))
    return float(waiting.sort(descending=True).values[count - 1]) if count else math.inf


def best_under(records: ExitRecords, matches: Matches, choices: Choices, budget: float) -> tuple:
    """The choice with the highest mAP among those whose mean GMACs keep a budget."""
    allowed = torch.nonzero(choices.gmacs <= budget + 1e-9).flatten()
    if not len(allowed):
        raise ValueError(
            f"{budget:.4f} GMACs cannot be reached: the cheapest thresholds take {choices.gmacs.min():.4f}"
        )
    base = torch.full((len(records),), NUM_EXITS)
    best, best_map = None, -math.inf
    for _ in range(2):  # what detections are worth depends on what the others do: look again from the best so far
        worth = marginal_precision(matches, base)
        estimate = torch.stack([worth.gather(0, choices.exits[i][None] - 1).sum() for i in allowed])
        for i in allowed[estimate.argsort(descending=True)[:TRIED]].tolist():
            value = map_of(matches, choices.exits[i])
            if value > best_map:
                best, best_map = i, value
        base = choices.exits[best]
    return choices.thresholds[best]


def cheapest_above(records: ExitRecords, matches: Matches, choices: Choices, min_map: float) -> tuple:
    """The choice with the least mean GMACs that reaches a mAP in percent."""
    low, high = float(choices.gmacs.min()), float(records.gmacs[-1].mean())
    best = best_under(records, matches, choices, high)
    if map_of(matches, exits_of(choices, best)) < min_map:
        raise ValueError(
            f"no thresholds reach a mAP of {min_map}: the best reach {map_of(matches, exits_of(choices, best)):.2f}"
        )
    for _ in range(10):
        middle = (low + high) / 2
        found = best_under(records, matches, choices, middle)
        if map_of(matches, exits_of(choices, found)) >= min_map:
            best, high = found, middle
        else:
            low = middle
    return best


def exits_of(choices: Choices, thresholds: tuple) -> Tensor:
    """The exit, 1-4, at which each image leaves by one of the choices."""
    return choices.exits[choices.thresholds.index(thresholds)]


def cross_fitted(records: ExitRecords, matches: Matches, choices: Choices, share: float) -> Tensor:
    """Exits (N,) of images that had no part in the choice: each half leaves by the best thresholds of the other.

    The thresholds to choose from are the same for both halves; which of them are best is not.

    Args:
        share: of the GMACs of full depth, the budget of each half.
    """
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(records), dtype=torch.bool)
    first[order[: len(records) // 2]] = True
    crossed = torch.full((len(records),), NUM_EXITS)
    for half in (first, ~first):
        if not half.any():  # of a single image, one half is empty
            continue
        gmacs = torch.stack([records.gmacs.gather(0, e[None] - 1)[0, half].mean() for e in choices.exits])
        budget = max(share * float(records.gmacs[-1, half].mean()), float(gmacs.min()))
        mine = best_under(records, of_images(matches, half.numpy()), replace(choices, gmacs=gmacs), budget)
        crossed[~half] = exits_of(choices, mine)[~half]
    return crossed


def of_images(matches: Matches, which: np.ndarray) -> Matches:
    """The matches of some images, (N,) True for those; the others have neither detections nor objects."""
    inside = which[matches.images]
    per_detection = {f.name: getattr(matches, f.name)[..., inside] for f in fields(matches) if f.name != "objects"}
    return Matches(**per_detection, objects=matches.objects * which)
