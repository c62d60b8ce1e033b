"""Training a detector at several exits at once: which exits, and how hard each may pull."""

import math
from collections.abc import Iterable, Mapping, Sequence

from .backbone import NUM_EXITS


def normalised_weights(exits: Sequence[int], weights: Mapping[int, float] | None) -> dict[int, float]:
    """The weight of each exit's detection loss; they sum to 1, and are equal unless `weights` says otherwise."""
    given = {exit: 1.0 if weights is None else weights[exit] for exit in exits}
    total = sum(given.values())
    return {exit: weight / total for exit, weight in given.items()}


def check_exit_training(exits: Sequence[int], weights: Mapping[int, float] | None) -> None:
    """`ValueError` that shows the first of these that no training can have."""
    if not check_exits("exits", exits):
        raise ValueError(f"exits must name some of the exits 1-4, got {exits}")
    if weights is not None and (set(weights) != set(exits) or not all(0 < w < math.inf for w in weights.values())):
        raise ValueError(
            f"exit_weights must have a finite, positive weight for each of the exits {exits}, got {weights}"
        )


def check_exits(name: str, exits: int | Iterable[int]) -> tuple[int, ...]:
    """The exits, or the one exit, in order, each once; `ValueError` if one of them is none of 1-4."""
    exits = (exits,) if isinstance(exits, int) else tuple(exits)
    if not set(exits) <= set(range(1, NUM_EXITS + 1)):
        raise ValueError(f"{name} must name some of the exits 1-4, got {exits}")
    return tuple(sorted(set(exits)))
