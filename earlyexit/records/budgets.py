"""The best thresholds that a budget of compute allows."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from .choices import all_choices, best_under, cheapest_above, exits_of, map_of
from .crossed import cross_fitted
from .intervals import bootstrap_difference
from .matching import match_records
from .record import ExitRecords


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
