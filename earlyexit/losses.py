"""The loss of the exits. The detection terms are torchvision's own (`RetinaNet.compute_loss`)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EXIT_WEIGHTS = (0.25, 0.25, 0.25, 0.5)


def exit_loss(
    logits: Sequence[Tensor],
    labels: Tensor,
    *,
    weights: Sequence[float] = EXIT_WEIGHTS,
    distillation: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Loss of the exits' classifiers, L_DynPerceiver in the paper's eq. 2, as a scalar.

    Weighted cross-entropy of every exit, plus `distillation` times the KL divergence of each earlier exit from the
    last exit's softmax, which is detached: the teacher does not learn from its students. The paper's text leaves the
    distillation out, its code has it; 0 switches it off.

    Args:
        logits: one (N, classes) tensor for each exit, the last one the deepest.
        labels: (N,), int64, the class of each image.
        weights: one weight for each exit.
        distillation: weight of the sum of the KL terms.
        temperature: softens both distributions; the KL terms are multiplied by its square.
    """
    if len(logits) != len(weights):
        raise ValueError(f"one weight for each exit is needed, got {len(weights)} weights for {len(logits)} exits")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not 0 <= distillation < math.inf:
        raise ValueError(f"distillation must be finite and at least 0, got {distillation}")
    classes = logits[-1].shape[1]
    if labels.dtype != torch.int64 or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels must be int64 from 0 to {classes - 1}, got {labels.dtype} {labels.tolist()[:10]}")
    loss = sum(w * F.cross_entropy(x, labels) for w, x in zip(weights, logits, strict=True))
    if distillation:
        teacher = torch.log_softmax(logits[-1].detach() / temperature, dim=1)
        students = (torch.log_softmax(x / temperature, dim=1) for x in logits[:-1])
        kl = sum(F.kl_div(s, teacher, reduction="batchmean", log_target=True) for s in students)
        loss = loss + distillation * temperature**2 * kl
    return loss


def present_loss(
    logits: Sequence[Tensor],
    present: Tensor,
    *,
    weights: Sequence[float] = EXIT_WEIGHTS,
    distillation: float = 0.5,
) -> Tensor:
    """The exits' loss where an image may have any number of objects: which classes are there? A scalar.

    Binary cross-entropy, summed over classes so that it is of the size of a cross-entropy, in place of each of the
    terms of `exit_loss`. An image without any object is as good an example as any other.

    Args:
        logits: one (N, classes) tensor for each exit, the last one the deepest.
        present: (N, classes), 1 where an object of the class is in the image.
        weights: one weight for each exit.
        distillation: weight of the terms that draw each earlier exit to the last.
    """

    def crossed(x: Tensor, aim: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, aim, reduction="none").sum(1).mean()

    loss = sum(w * crossed(x, present) for w, x in zip(weights, logits, strict=True))
    if distillation:
        teacher = logits[-1].detach().sigmoid()
        loss = loss + distillation * sum(crossed(x, teacher) for x in logits[:-1])
    return loss
