"""How good a rule of leaving is: where its curve lies between chance and an oracle."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..records import (
    ExitRecords,
    average_precision,
    match_records,
    oracle,
    random_exits,
    threshold_exits,
    thresholds_for_budget,
)

SHARES = (0.35, 0.4, 0.5, 0.62, 0.75)  # budgets, as shares of full depth
REPEATS = 30


def rule_score(
    records: ExitRecords, scores: Tensor, calibration: ExitRecords, calibration_scores: Tensor, repeats: int = REPEATS
) -> dict:
    """(area of the rule - random) / (oracle - random) under the curve of mAP over GMACs, with an interval over images.

    For each budget, thresholds are chosen on the calibration images. Random exits take the shares that the rule
    realised; the oracle takes its mean compute.

    Returns:
        "points": rows of "budget" (share), "share" (realised), "mAP", "random", "oracle"; "score", "low", "high" and
        the "samples" of the score, which drew the same images for every rule.
    """
    matches = match_records(records)
    full, least = float(calibration.gmacs[-1].mean()), float(calibration.gmacs.amin(0).mean())
    chosen, points = [], []
    for number, share in enumerate(s for s in SHARES if s * full > least):
        found = thresholds_for_budget(calibration, gmacs=share * full, scores=calibration_scores, repeats=2)
        exits = threshold_exits(scores, found.thresholds)
        mean = float(records.gmacs.gather(0, exits[None] - 1).mean())
        shares = torch.bincount(exits, minlength=5)[1:].double() / len(exits)
        lot = random_exits(len(exits), shares, torch.Generator().manual_seed(number))
        best = _oracle_exits(records, mean)
        chosen.append((exits, lot, best))
        values = [_map(matches, e) for e in chosen[-1]]
        row = {"budget": share, "share": mean / float(records.gmacs[-1].mean())}
        points.append({**row, **dict(zip(("mAP", "random", "oracle"), values, strict=True))})
    draw = np.random.default_rng(0)
    n = len(records)
    counts = [np.bincount(draw.integers(0, n, n), minlength=n) for _ in range(repeats)]
    samples = [_score(matches, chosen, c) for c in counts]
    low, high = np.quantile(samples, [0.025, 0.975])
    found = {"score": _score(matches, chosen, None), "low": float(low), "high": float(high)}
    return {"points": points, **found, "samples": [round(s, 4) for s in samples]}


def _score(matches, chosen: Sequence[tuple[Tensor, Tensor, Tensor]], counts: np.ndarray | None) -> float:
    areas = np.array([[_map(matches, exits, counts) for exits in of_budget] for of_budget in chosen]).mean(0)
    rule, lot, best = areas
    return float((rule - lot) / max(best - lot, 1e-9))


def _oracle_exits(records: ExitRecords, budget: float) -> Tensor:
    (row,) = oracle(records, [budget], metrics=("mAP",))
    return row["chosen"]


def _map(matches, exits: Tensor, counts: np.ndarray | None = None) -> float:
    return average_precision(matches, exits, counts, metrics=("mAP",))["mAP"] or 0.0
