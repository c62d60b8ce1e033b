"""Means over training seeds, with an interval that knows both: other images and other seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

NORMAL = 1.960  # standard deviations on each side of a 95 % interval


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes:
        mean: over the seeds.
        low, high: the interval.
        seeds: how many trainings there were; with one, the interval knows of other images alone.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def sign(self) -> int:
        """1 or -1 if the whole interval lies above or below zero, else 0: within noise."""
        return int(self.low > 0) - int(self.high < 0)

    def rounded(self, digits: int = 2) -> dict:
        """{"mean", "low", "high"} for a table."""
        return {name: round(getattr(self, name), digits) for name in ("mean", "low", "high")}


def estimate(values: Sequence[float], samples: Sequence[Sequence[float]]) -> Estimate:
    """Join trainings of several seeds, all judged on the same images.

    Two half-widths are added in quadrature: that of other images (1.96 standard deviations of the bootstrap samples of
    the mean) and that of other seeds (Student's t times the standard error of the seeds' values).

    Args:
        values: one for each seed.
        samples: (seeds, repeats), bootstrap samples that drew the same images for all; None and NaN are left out.
    """
    drawn = np.array(samples, dtype=float).reshape(len(values), -1).mean(0)
    images = NORMAL * float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else 0.0
    half = math.hypot(images, seed_half(values))
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def seed_half(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over seeds, images fixed; 0 for a single seed."""
    if len(values) < 2:
        return 0.0
    factor = round(float(stats.t.ppf(0.975, len(values) - 1)), 3)  # as printed: with three seeds 4.303, not 1.96
    return factor * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def estimate_of(models: Sequence[dict], pick: Callable[[dict], dict], key: str = "mAP") -> Estimate:
    """The estimate of one row of several seeds' models; `pick` finds the row, with "samples", in a model."""
    rows = [pick(model) for model in models]
    return estimate([row[key] for row in rows], [row["samples"] for row in rows])


def difference(
    first: Sequence[dict], second: Sequence[dict], pick: Callable, pick_second: Callable | None = None, key: str = "mAP"
) -> Estimate:
    """`first` minus `second`, seed by seed and on the same drawn images, which cancels what both share.

    Args:
        first, second: models of the same seeds in the same order.
        pick: finds the row in a model of `first`.
        pick_second: finds it in a model of `second`, unless it is found in the same way.
        key: the number of the row that "samples" are of.
    """
    pairs = [(pick(a), (pick_second or pick)(b)) for a, b in zip(first, second, strict=True)]
    values = [a[key] - b[key] for a, b in pairs]
    return estimate(values, [np.subtract(floats(a["samples"]), floats(b["samples"])) for a, b in pairs])


def at_gmacs(rows: Sequence[dict], gmacs: float) -> dict:
    """The mAP and its samples at some mean compute, on straight lines between a sweep's settings; ends stay level."""
    ordered = sorted(rows, key=lambda row: row["gmacs"])
    x = [row["gmacs"] for row in ordered]
    samples = np.array([floats(row["samples"]) for row in ordered])  # (settings, repeats)
    moved = [float(np.interp(gmacs, x, column)) for column in samples.T]
    return {"mAP": float(np.interp(gmacs, x, [row["mAP"] for row in ordered])), "samples": moved}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values sharing their mean rank; NaN if one of both is constant."""
    return float("nan") if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)


def floats(values: Sequence[float | None]) -> np.ndarray:
    """Samples as an array, in which None becomes NaN."""
    return np.array(values, dtype=float)
