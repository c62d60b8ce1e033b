"""Who may leave: each rule gives every image a score at every exit, and an image leaves where it reaches a threshold.

The paper's rule is the largest softmax value. Scores of different rules are on different scales; thresholds are set by
shares or budgets, for which only the order of the images matters.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .record import ExitRecords

Rule = Callable[[ExitRecords], Tensor]


def max_softmax(records: ExitRecords) -> Tensor:
    """(4, N) the paper's rule: the largest softmax value."""
    return records.confidence


def certainty(records: ExitRecords) -> Tensor:
    """(4, N) one minus the entropy of the softmax, as a share of the largest possible."""
    logs = records.logits.log_softmax(2)
    entropy = -(logs.exp() * logs).sum(2)
    return 1 - entropy / torch.tensor(float(records.logits.shape[2])).log()


def agreement(records: ExitRecords) -> Tensor:
    """(4, N) the overlap of an exit's softmax with that of the exit before: the sum of the smaller of each two values.

    The first exit has none before it and is measured by itself: the overlap with its own most likely class.
    """
    p = records.logits.softmax(2)
    return torch.cat([records.confidence[:1], torch.minimum(p[1:], p[:-1]).sum(2)])


def detection_score(records: ExitRecords) -> Tensor:
    """(4, N) the highest score of the detections at an exit, 0 without any.

    It asks neck and head, not the classifier: an image that goes on has paid for them at the exit that it passed.
    `ExitRecords.gmacs` counts those of the exit that was taken alone.
    """
    counts = records.found.offsets.diff()
    best = torch.zeros(len(counts))
    place = torch.repeat_interleave(torch.arange(len(counts)), counts)
    best.scatter_reduce_(0, place, records.found.scores, "amax")
    return best.view(len(records), -1).T


RULES: dict[str, Rule] = {
    "max softmax": max_softmax,
    "entropy": certainty,
    "agreement": agreement,
    "detection score": detection_score,
}


def rule_features(records: ExitRecords, exit: int) -> Tensor:
    """(N, 6) what a router sees of each image at an exit from 1 to 3: nothing that only later exits know.

    The largest softmax value, its distance from the second, the certainty, the agreement with the exit before, the
    logarithm of the sum of the exponential logits, and the largest softmax value of the exit before.
    """
    p = records.logits[exit - 1].softmax(1)
    top = p.topk(2, dim=1).values
    before = records.confidence[max(exit - 2, 0)]
    energy = records.logits[exit - 1].logsumexp(1)
    columns = [top[:, 0], top[:, 0] - top[:, 1], certainty(records)[exit - 1], agreement(records)[exit - 1]]
    return torch.stack([*columns, energy, before], dim=1)
