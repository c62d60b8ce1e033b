"""Training a detector at several exits at once: which exits, how hard each may pull, and what the last one teaches."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .backbone import NUM_EXITS, Exit


def sandwich(exits: Sequence[int]) -> tuple[int, ...]:
    """The first and the last of the exits and one drawn between them: the sandwich rule (Yu and Huang, 2019).

    With `exits=(1, 2, 3, 4)` each step trains exits 1 and 4 and one of 2 and 3, for the price of three.
    """
    between = exits[1:-1]
    drawn = [between[int(torch.randint(len(between), ()))]] if between else []
    return tuple(dict.fromkeys([exits[0], *drawn, exits[-1]]))


def normalised_weights(exits: Sequence[int], weights: Mapping[int, float] | None) -> dict[int, float]:
    """The weight of each exit's detection loss; they sum to 1, and are equal unless `weights` says otherwise."""
    given = {exit: 1.0 if weights is None else weights[exit] for exit in exits}
    total = sum(given.values())
    return {exit: weight / total for exit, weight in given.items()}


def scale_gradient(reached: Exit, scale: float) -> Exit:
    """The same exit, through whose maps and latents only `scale` of the gradient goes back; 0 stops it."""

    def scaled(x: Tensor) -> Tensor:
        return x * scale + x.detach() * (1 - scale) if scale else x.detach()

    if scale == 1:
        return reached
    features = {name: scaled(x) for name, x in reached.features.items()}
    return replace(reached, features=features, latents=scaled(reached.latents))


def head_distillation(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], threshold: float = 0.1) -> Tensor:
    """How far an early exit's head is from that of the last exit, on the anchors that both have.

    Classes: binary cross-entropy to the teacher's probabilities, each anchor and class weighted by the square of
    their difference, so that the many anchors on which both see nothing do not count (the quality focal loss of Li et
    al., 2020). Boxes: L1, where the teacher sees an object. Both are divided by the number of such anchors.

    Args:
        student, teacher: "cls_logits" (N, anchors, classes) and "bbox_regression" (N, anchors, 4). If the student has
            fewer anchors, they are the teacher's last: levels come in order, and an early exit has no P3.
        threshold: probability from which on the teacher sees an object.
    """
    count = student["cls_logits"].shape[1]
    aim = teacher["cls_logits"][:, -count:].detach().sigmoid()
    boxes = teacher["bbox_regression"][:, -count:].detach()
    probability = student["cls_logits"].sigmoid()
    crossed = F.binary_cross_entropy_with_logits(student["cls_logits"], aim, reduction="none")
    classes = ((aim - probability.detach()) ** 2 * crossed).sum()
    seen = aim.amax(2) > threshold
    distance = (student["bbox_regression"][seen] - boxes[seen]).abs().sum()
    return (classes + distance) / seen.sum().clamp(min=1)


def check_exit_training(exits, weights, gradient: float, distillation: float) -> None:
    """`ValueError` that shows the first of these that no training can have."""
    if not check_exits("exits", exits):
        raise ValueError(f"exits must name some of the exits 1-4, got {exits}")
    if weights is not None and (set(weights) != set(exits) or not all(0 < w < math.inf for w in weights.values())):
        raise ValueError(
            f"exit_weights must have a finite, positive weight for each of the exits {exits}, got {weights}"
        )
    if not 0 <= gradient <= 1:
        raise ValueError(f"early_gradient must be from 0 (stopped) to 1 (whole), got {gradient}")
    if not 0 <= distillation < math.inf:
        raise ValueError(f"head_distillation must be finite and at least 0, got {distillation}")


def check_exits(name: str, exits: int | Iterable[int]) -> tuple[int, ...]:
    """The exits, or the one exit, in order, each once; `ValueError` if one of them is none of 1-4."""
    exits = (exits,) if isinstance(exits, int) else tuple(exits)
    if not set(exits) <= set(range(1, NUM_EXITS + 1)):
        raise ValueError(f"{name} must name some of the exits 1-4, got {exits}")
    return tuple(sorted(set(exits)))
