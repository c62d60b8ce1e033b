"""What a policy reaches, from records: no image is run again."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from ..evaluation import METRICS
from ..thresholds import NUM_SETTINGS, calibrate_thresholds, exit_proportions
from .matching import match_records
from .policies import random_exits, threshold_exits
from .precision import average_precision, check_chosen
from .record import ExitRecords


def evaluate_records(
    records: ExitRecords, thresholds: Sequence[float] | None, *, metrics: Sequence[str] | None = None
) -> dict:
    """What `model(images, thresholds=thresholds)` reaches on the recorded images; see `evaluate_exits`."""
    return evaluate_exits(records, threshold_exits(records.confidence, thresholds), metrics=metrics)


def evaluate_exits(records: ExitRecords, chosen: Tensor, *, metrics: Sequence[str] | None = None) -> dict:
    """What is reached if image i leaves at exit chosen[i].

    Args:
        records: the images at all exits.
        chosen: (N,) 1 to 4.
        metrics: those of COCO's six that are wanted; all unless told, "mAP" alone is several times faster.

    Returns:
        As `earlyexit.evaluate`: COCO metrics in percent (None where there is no object of that size), "exits"
        {1: images, ...}, "gmacs" (mean per image), "gmacs_full" (if all went to exit 4) and "images". In addition
        "accuracy", the percentage of images whose class the exit that they took says; None unless every image has
        exactly one object.
    """
    chosen = check_chosen(chosen, len(records))
    reached = average_precision(match_records(records), chosen, metrics=METRICS if metrics is None else metrics)
    counts = torch.bincount(chosen, minlength=NUM_EXITS + 1)[1:].tolist()
    right = correct_classes(records)
    return {
        **reached,
        "exits": dict(enumerate(counts, start=1)),
        "gmacs": float(records.gmacs.gather(0, chosen[None] - 1).mean()),
        "gmacs_full": float(records.gmacs[-1].mean()),
        "accuracy": None if right is None else 100 * float(right.gather(0, chosen[None] - 1).double().mean()),
        "images": len(records),
    }


def correct_classes(records: ExitRecords) -> Tensor | None:
    """(4, N) bool: whether each exit's classifier says the image's class; None unless all have exactly one object."""
    return None if (records.labels < 0).any() else records.logits.argmax(2) == records.labels


def sweep(
    records: ExitRecords,
    calibration_records: ExitRecords | Tensor,
    settings: int | Iterable[int] = NUM_SETTINGS,
    *,
    metrics: Sequence[str] | None = None,
) -> list[dict]:
    """The paper's threshold settings, calibrated on some images and evaluated on others (Tables 6 and 7, Fig. 7, 9).

    Args:
        records: the images that are evaluated.
        calibration_records: other images of the same model, whose confidences give the thresholds; or these
            confidences, (4, images), from `evaluation.exit_confidences`, which costs less.
        settings: threshold indices from 1 to 34; a number means all from 1 to it.
        metrics: see `evaluate_exits`.

    Returns:
        Rows of `evaluate_exits` with "index", "thresholds", and the shares of images at exits 1-4: "wanted" and
        "realised".
    """
    confidence = calibration_records
    if isinstance(calibration_records, ExitRecords):
        ours, theirs = records.about.get("weights"), calibration_records.about.get("weights")
        if ours != theirs:
            raise ValueError(f"thresholds must come from the same weights: calibrated on {theirs!r}, used on {ours!r}")
        confidence = calibration_records.confidence
    indices = [*range(1, settings + 1)] if isinstance(settings, int) else [*settings]
    if not indices or not set(indices) <= set(range(1, NUM_SETTINGS + 1)):
        raise ValueError(f"settings are threshold indices from 1 to {NUM_SETTINGS}, at least one, got {settings!r}")
    wanted = exit_proportions()
    rows = []
    for index in indices:
        thresholds = calibrate_thresholds(confidence, wanted[index - 1])
        result = evaluate_records(records, thresholds, metrics=metrics)
        realised = [count / len(records) for count in result["exits"].values()]
        shares = {"wanted": wanted[index - 1].tolist(), "realised": realised}
        rows.append({"index": index, "thresholds": thresholds, **shares, **result})
    return rows


def random_exit(
    records: ExitRecords,
    proportions: Sequence[float],
    repeats: int = 10,
    seed: int = 0,
    *,
    metrics: Sequence[str] | None = ("mAP",),
) -> dict:
    """Random exits with given shares, repeated: what a confidence has to beat (paper, section 4.4.1).

    Args:
        records: the images at all exits.
        proportions: chances of exits 1-4; the realised shares of a policy are the fair comparison with it.
        repeats: how many draws.
        seed: of the draws.
        metrics: see `evaluate_exits`.

    Returns:
        "mean" and "std" (of a single draw, None for one repeat): dicts of the metrics, "gmacs" and "accuracy" over
        the draws; "draws": the rows of `evaluate_exits`.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(repeats):
        chosen = random_exits(len(records), proportions, generator)
        draws.append(evaluate_exits(records, chosen, metrics=metrics))
    names = [*(METRICS if metrics is None else metrics), "gmacs", "accuracy"]
    values = {name: [draw[name] for draw in draws] for name in names}
    known = {name: v for name, v in values.items() if None not in v}
    mean = {name: float(np.mean(known[name])) if name in known else None for name in names}
    std = {name: float(np.std(known[name], ddof=1)) if name in known and repeats > 1 else None for name in names}
    return {"mean": mean, "std": std, "draws": draws}
