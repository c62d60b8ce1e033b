"""The best that any policy could do if it knew the annotations: how far a confidence is from ideal."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from .evaluate import evaluate_exits
from .matching import Matches, match_records
from .policies import oracle_exits
from .precision import average_precision
from .record import ExitRecords


def oracle(
    records: ExitRecords, budgets: Sequence[float] | int = 12, *, rounds: int = 4, metrics: Sequence[str] | None = None
) -> list[dict]:
    """For each budget of compute, the exits that a policy with known annotations would choose, and what they reach.

    What an image is worth at an exit is its share in mAP, to first order: how much the mAP of a choice of exits
    changes if the image's detections at that exit are added to those of all images, see `marginal_precision`. The
    images then leave where worth minus a price for compute is largest, see `oracle_exits`. The choice starts at full
    depth; worth and choice are repeated `rounds` times, because worth depends on what the other images do, and the
    choice with the largest mAP is kept.

    It is an upper bound in practice, not a proven one: mAP does not add up over images, so that a better choice than
    these may exist.

    Args:
        records: the images at all exits.
        budgets: the largest mean GMACs of an image, one for each row; a number asks for that many, evenly spaced from
            the cheapest exits to full depth.
        rounds: how often worth and choice are repeated.
        metrics: see `evaluate_exits`.

    Returns:
        Rows of `evaluate_exits` with their "budget" and the exits "chosen", (N,).
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if isinstance(budgets, int):
        if budgets < 1:
            raise ValueError(f"budgets must be at least 1 row, or the budgets themselves, got {budgets}")
        least, most = float(records.gmacs.amin(0).mean()), float(records.gmacs[-1].mean())
        budgets = np.linspace(least, most, budgets).tolist()
    matches = match_records(records)
    rows = []
    for budget in budgets:
        chosen = _best_exits(records, matches, budget, rounds)
        rows.append({"budget": budget, "chosen": chosen, **evaluate_exits(records, chosen, metrics=metrics)})
    return rows


def _best_exits(records: ExitRecords, matches: Matches, budget: float, rounds: int) -> Tensor:
    chosen, best, best_map = torch.full((len(records),), NUM_EXITS), None, -1.0
    for _ in range(rounds):
        chosen = oracle_exits(marginal_precision(matches, chosen), records.gmacs, budget)
        reached = average_precision(matches, chosen, metrics=("mAP",))["mAP"] or 0.0
        if reached > best_map:
            best, best_map = chosen, reached
    return best


def marginal_precision(matches: Matches, chosen: Tensor) -> Tensor:
    """(4, N): what the detections of each image at each exit add to the mAP of a choice of exits, to first order.

    Of the detections of a class in order of falling score let h be those that found an object so far and n all so
    far. The average precision is about the sum of h / n over those that found an object, divided by the number of
    objects. One more detection adds its own h / n if it found an object, and for everything behind it 1 / n for one
    hit more, and - h / n^2 for one detection more.
    """
    true, false = matches.true[0], matches.false[0]  # of objects of any size
    worth = np.zeros(len(matches.images))
    kept = matches.exits == chosen.numpy()[matches.images]
    objects = matches.objects[0].sum(1)
    for label in np.flatnonzero(objects):
        of_class = slice(*np.searchsorted(matches.labels, [label, label + 1]))
        hit, miss, inside = true[:, of_class], false[:, of_class], kept[of_class]
        ranked = hit[:, inside]
        hits = ranked.cumsum(1)
        so_far = np.maximum((ranked | miss[:, inside]).cumsum(1), 1)
        place = inside.cumsum()  # how many of the ranking come no later
        precision = _at(hits / so_far, place, first=1.0)
        one_more_hit = _at(_still_to_come(ranked / so_far), place)
        one_more = _at(_still_to_come(-(ranked * hits) / so_far**2), place)
        value = hit * (precision + one_more_hit + one_more) + miss * one_more
        worth[of_class] = value.mean(0) / objects[label]
    total = np.zeros((NUM_EXITS, matches.objects.shape[2]))
    np.add.at(total, (matches.exits - 1, matches.images), worth / max(np.count_nonzero(objects), 1))
    return torch.from_numpy(total)


def _still_to_come(values: np.ndarray) -> np.ndarray:
    """(T, r) values give (T, r + 1): at place p the sum of those from p on."""
    sums = values[:, ::-1].cumsum(1)[:, ::-1]
    return np.concatenate([sums, np.zeros((len(sums), 1))], axis=1)


def _at(values: np.ndarray, place: np.ndarray, first: float | None = None) -> np.ndarray:
    """Columns `place` of (T, r + 1) values; of r values, counted from 1, with `first` before them."""
    if first is not None:
        values = np.concatenate([np.full((len(values), 1), first), values], axis=1)
    return values[:, place]
