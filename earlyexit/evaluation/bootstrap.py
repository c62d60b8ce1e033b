"""Intervals over images: how far a result would move had other images been drawn."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Statistic = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Interval:
    """A value and where it lies in most bootstrap samples.

    Attributes:
        value: of the images as they are.
        low, high: percentiles of the samples, 2.5 and 97.5 for a level of 0.95.
        samples: (repeats,) all values, for other percentiles.
    """

    value: float
    low: float
    high: float
    samples: np.ndarray = field(repr=False)

    def excludes(self, value: float = 0.0) -> bool:
        """Whether `value` lies outside: of a difference, whether it is more than noise."""
        return not self.low <= value <= self.high


def bootstrap(statistic: Statistic, images: int, *, repeats: int = 200, seed: int = 0, level: float = 0.95) -> Interval:
    """Draw as many images as there are, with replacement, again and again, and see how a statistic varies.

    Args:
        statistic: of how often each image counts, (N,) whole numbers that sum to N; for the mAP of a choice of exits
            `lambda counts: average_precision(matches, chosen, counts, metrics=("mAP",))["mAP"]`.
        images: N.
        repeats: samples.
        seed: the same seed draws the same images for every statistic, so that samples can be subtracted.
        level: share of the samples between `low` and `high`.

    Returns:
        The interval; NaN where a sample has no value, because it misses all objects of a size, is left out.
    """
    if images < 1 or repeats < 1:
        raise ValueError(f"at least one image and one repeat are needed, got images={images}, repeats={repeats}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    draw = np.random.default_rng(seed)
    samples = [
        _number(statistic(np.bincount(draw.integers(0, images, images), minlength=images))) for _ in range(repeats)
    ]
    value = _number(statistic(np.ones(images, dtype=np.int64)))
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), np.array(samples))


def bootstrap_difference(first: Statistic, second: Statistic, images: int, **options) -> Interval:
    """`first` minus `second` on the same drawn images, which cancels what makes both easier or harder.

    Args:
        first, second: statistics of two policies or models on the same images in the same order.
        images: how many there are.
        **options: see `bootstrap`.
    """
    return bootstrap(lambda counts: _number(first(counts)) - _number(second(counts)), images, **options)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
