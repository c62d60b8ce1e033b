"""Means over training seeds, with an interval that knows both: other images and other seeds."""

import math
from collections.abc import Sequence
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


def around(mean: float, half: float, seeds: int) -> Estimate:
    """The estimate whose interval reaches `half` to both sides."""
    return Estimate(mean, mean - half, mean + half, seeds)


def estimate(values: Sequence[float], samples: Sequence[Sequence[float]] = ()) -> Estimate:
    """Join trainings of several seeds, all judged on the same images.

    Two half-widths are added in quadrature: that of other images (1.96 standard deviations of the bootstrap samples of
    the mean) and that of other seeds (Student's t times the standard error of the seeds' values).

    Args:
        values: one for each seed; of times, one for each round.
        samples: (seeds, repeats), bootstrap samples that drew the same images for all; None and NaN are left out.
    """
    drawn = np.array(samples, dtype=float).reshape(len(values), -1).mean(0)
    images = NORMAL * float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else 0.0
    return around(float(np.mean(values)), math.hypot(images, seed_half(values)), len(values))


def seed_half(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over seeds, images fixed; 0 for a single seed."""
    if len(values) < 2:
        return 0.0
    factor = round(float(stats.t.ppf(0.975, len(values) - 1)), 3)  # as printed: with three seeds 4.303, not 1.96
    return factor * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def estimate_of(rows: Sequence[dict], key: str = "mAP") -> Estimate:
    """The estimate of a number of several seeds' rows, with its "samples"."""
    return estimate([row[key] for row in rows], [row["samples"] for row in rows])


def difference(first: Sequence[dict], second: Sequence[dict], key: str = "mAP") -> Estimate:
    """`first` minus `second`, seed by seed and on the same drawn images, which cancels what both share."""
    return estimate(*gaps(first, second, key))


def gaps(first: Sequence[dict], second: Sequence[dict], key: str = "mAP") -> tuple[list[float], np.ndarray]:
    """What rows of the same seeds in the same order differ by: the values, and the samples (seeds, repeats)."""
    drawn = [np.array([row["samples"] for row in rows], dtype=float) for rows in (first, second)]  # NaN for None
    return [a[key] - b[key] for a, b in zip(first, second, strict=True)], drawn[0] - drawn[1]


def at_gmacs(rows: Sequence[dict], gmacs: float) -> dict:
    """The mAP and its samples at some mean compute, on straight lines between a sweep's settings; ends stay level."""
    ordered = sorted(rows, key=lambda row: row["gmacs"])
    x = [row["gmacs"] for row in ordered]
    samples = np.array([row["samples"] for row in ordered], dtype=float)  # (settings, repeats)
    moved = [float(np.interp(gmacs, x, column)) for column in samples.T]
    return {"mAP": float(np.interp(gmacs, x, [row["mAP"] for row in ordered])), "samples": moved}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values sharing their mean rank; NaN if one of both is constant."""
    return float("nan") if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)
