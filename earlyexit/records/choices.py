"""Thresholds to choose from, and the best of them under a limit."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from .best_case import marginal_precision
from .matching import Matches
from .policies import threshold_exits
from .precision import average_precision
from .record import ExitRecords

SHARES = np.linspace(0, 1, 21)  # of the images that are still there, at exits 1 and 2
LAST_SHARES = np.linspace(0, 1, 6)  # at exit 3, which saves little
TRIED = 12  # choices whose mAP is measured; all others are compared by a first-order estimate


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


def map_of(matches: Matches, exits: Tensor, counts: np.ndarray | None = None) -> float:
    """mAP in percent, 0 without objects; `counts` says how often each image is drawn."""
    return average_precision(matches, exits, counts, metrics=("mAP",))["mAP"] or 0.0
