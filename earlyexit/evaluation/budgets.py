"""The best thresholds that a budget of compute allows, judged by images that had no part in choosing them."""

import itertools
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..model.backbone import NUM_EXITS
from .matching import Matches, map_of, marginal_precision, match_records
from .policies import limit_for, threshold_exits
from .records import ExitRecords, at_exits
from .scores import bootstrap_difference

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
        scores: (4, N), who may leave, see `rule_scores`; the largest softmax values unless given.
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
    choices, matches = all_choices(records, scores), match_records(records)
    full = records.all_at(NUM_EXITS)
    most = records.mean_gmacs(full)
    best = best_under(matches, choices, gmacs) if min_map is None else cheapest_above(matches, choices, min_map, most)
    chosen = choices.exits[best]
    mean = records.mean_gmacs(chosen)
    value = map_of(matches, chosen)
    loss = map_of(matches, full) - value
    crossed = cross_fitted(records, matches, choices, mean / most)
    bound = bootstrap_difference(
        lambda counts: map_of(matches, full, counts),
        lambda counts: map_of(matches, crossed, counts),
        len(records),
        repeats=repeats,
        level=2 * confidence - 1,  # one-sided
    )
    # What was lost where the thresholds look best is the least that can be expected elsewhere.
    return Budget(choices.thresholds[best], mean, mean / most, value, loss, max(bound.high, loss))


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
            waiting = score[here]
            limits.append(limit_for(waiting, round(share * len(waiting))))
            here = here & ~(score.double() >= limits[-1])
        thresholds.append(tuple(limits))
    thresholds = list(dict.fromkeys(thresholds))
    exits = torch.stack([threshold_exits(scores, t) for t in thresholds])
    return Choices(thresholds, exits, torch.stack([at_exits(records.gmacs, chosen).mean() for chosen in exits]))


def best_under(matches: Matches, choices: Choices, budget: float) -> int:
    """Which choice has the highest mAP among those whose mean GMACs keep a budget."""
    allowed = torch.nonzero(choices.gmacs <= budget + 1e-9).flatten()
    if not len(allowed):
        raise ValueError(
            f"{budget:.4f} GMACs cannot be reached: the cheapest thresholds take {choices.gmacs.min():.4f}"
        )
    base = torch.full_like(choices.exits[0], NUM_EXITS)
    best, best_map = 0, -math.inf
    for _ in range(2):  # what detections are worth depends on what the others do: look again from the best so far
        worth = marginal_precision(matches, base)
        estimate = torch.stack([at_exits(worth, choices.exits[i]).sum() for i in allowed])
        for i in allowed[estimate.argsort(descending=True)[:TRIED]].tolist():
            value = map_of(matches, choices.exits[i])
            if value > best_map:
                best, best_map = i, value
        base = choices.exits[best]
    return best


def cheapest_above(matches: Matches, choices: Choices, min_map: float, most: float) -> int:
    """Which choice has the least mean GMACs, at most those of full depth, among those that reach a mAP in percent."""
    low, high = float(choices.gmacs.min()), most
    best = best_under(matches, choices, high)
    reached = map_of(matches, choices.exits[best])
    if reached < min_map:
        raise ValueError(f"no thresholds reach a mAP of {min_map}: the best reach {reached:.2f}")
    for _ in range(10):
        middle = (low + high) / 2
        found = best_under(matches, choices, middle)
        if map_of(matches, choices.exits[found]) >= min_map:
            best, high = found, middle
        else:
            low = middle
    return best


def cross_fitted(records: ExitRecords, matches: Matches, choices: Choices, share: float) -> Tensor:
    """Exits (N,) of images that had no part in the choice: each half leaves by the best thresholds of the other.

    The thresholds to choose from are the same for both halves; which of them are best is not.

    Args:
        share: of the GMACs of full depth, the budget of each half.
    """
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(records), dtype=torch.bool)
    first[order[: len(records) // 2]] = True
    crossed = records.all_at(NUM_EXITS)
    for half in (first, ~first):
        if not half.any():  # of a single image, one half is empty
            continue
        gmacs = torch.stack([at_exits(records.gmacs, chosen)[half].mean() for chosen in choices.exits])
        budget = max(share * float(records.gmacs[-1, half].mean()), float(gmacs.min()))
        mine = best_under(of_images(matches, half.numpy()), replace(choices, gmacs=gmacs), budget)
        crossed[~half] = choices.exits[mine, ~half]
    return crossed


def of_images(matches: Matches, which: np.ndarray) -> Matches:
    """The matches of some images, (N,) True for those; the others have neither detections nor objects."""
    inside = which[matches.images]
    per_detection = {f.name: getattr(matches, f.name)[..., inside] for f in fields(matches) if f.name != "objects"}
    return Matches(**per_detection, objects=matches.objects * which)
