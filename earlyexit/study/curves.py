"""What one model reaches, from its records: the sweep, random exits, forced exits, the accuracy of its classifiers."""

import math

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from ..evaluation import METRICS
from ..records import (
    ExitRecords,
    Interval,
    average_precision,
    bootstrap,
    correct_classes,
    evaluate_exits,
    match_records,
    random_exit,
    random_exits,
    sweep,
    threshold_exits,
)

RANDOM_REPEATS = 10  # section 4.4.1
EXITS = range(1, NUM_EXITS + 1)


def sweep_rows(records: ExitRecords, confidence: Tensor, repeats: int) -> list[dict]:
    """The 34 settings of Tables 6 and 7 with an interval of the mAP over images.

    Args:
        records: of the test images.
        confidence: (4, images), of the calibration images.
        repeats: bootstrap samples.

    Returns:
        Rows of "index", "thresholds" (None for never), "wanted" and "realised" shares of exits 1-4, "gmacs",
        "gmacs_full", "accuracy", COCO's metrics, and of the mAP "low", "high" and "samples".
    """
    rows = []
    for row in sweep(records, confidence):
        chosen = threshold_exits(records.confidence, row["thresholds"])
        kept = {"index": row["index"], "thresholds": [t if math.isfinite(t) else None for t in row["thresholds"]]}
        kept |= {name: [round(share, 5) for share in row[name]] for name in ("wanted", "realised")}
        rows.append({**kept, **_reached(row), **_interval(_map_interval(records, chosen, repeats))})
    return rows


def random_rows(records: ExitRecords, swept: list[dict], repeats: int) -> list[dict]:
    """Random exits with the realised shares of each setting: the mean of ten draws, the lowest and highest of them.

    The "samples" are the first draw's, moved to the mean of all: how far other images would move it, on the images
    that the samples of the sweep have, too.
    """
    rows = []
    for row in swept:
        shares = np.array(row["realised"]) / sum(row["realised"])
        result = random_exit(records, shares, RANDOM_REPEATS, seed=row["index"])
        values = [draw["mAP"] for draw in result["draws"]]
        first = random_exits(len(records), shares, torch.Generator().manual_seed(row["index"]))
        samples = _map_interval(records, first, repeats).samples - values[0] + result["mean"]["mAP"]
        kept = {"index": row["index"], "mAP": round(result["mean"]["mAP"], 3), "gmacs": result["mean"]["gmacs"]}
        extremes = {"low": round(min(values), 3), "high": round(max(values), 3)}
        rows.append({**kept, **extremes, "samples": _short(samples)})
    return rows


def forced_rows(records: ExitRecords, repeats: int) -> list[dict]:
    """All images at one exit, for each exit: COCO's metrics, GMACs, and the interval of the mAP over images."""
    rows = []
    for exit in EXITS:
        chosen = torch.full((len(records),), exit)
        interval = _interval(_map_interval(records, chosen, repeats))
        rows.append({"exit": exit, **_reached(evaluate_exits(records, chosen)), **interval})
    return rows


def accuracy_rows(records: ExitRecords, repeats: int) -> list[dict]:
    """Percent of the images whose class each exit's classifier says (Table 4 has the last), with intervals."""
    rows = []
    for exit, right in zip(EXITS, correct_classes(records).double().numpy(), strict=True):
        found = bootstrap(lambda counts, right=right: 100 * right @ counts / len(right), len(right), repeats=repeats)
        rows.append({"exit": exit, "accuracy": round(found.value, 3), **_interval(found)})
    return rows


def _map_interval(records: ExitRecords, chosen: Tensor, repeats: int) -> Interval:
    matches = match_records(records)
    return bootstrap(
        lambda counts: average_precision(matches, chosen, counts, metrics=("mAP",))["mAP"],
        len(records),
        repeats=repeats,
    )


def _reached(row: dict) -> dict:
    metrics = {name: None if row[name] is None else round(row[name], 3) for name in METRICS}
    return {"gmacs": row["gmacs"], "gmacs_full": row["gmacs_full"], "accuracy": round(row["accuracy"], 3), **metrics}


def _interval(found: Interval) -> dict:
    return {"low": round(found.low, 3), "high": round(found.high, 3), "samples": _short(found.samples)}


def _short(samples: np.ndarray) -> list[float]:
    """Two digits are far below what samples differ by."""
    return [round(float(value), 2) for value in samples]
