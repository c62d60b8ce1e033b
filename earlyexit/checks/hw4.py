"""Homework 4: the loss, and whose gradient goes where."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .verdicts import SlipError, called, pulled, same


def joint_loss(answer, random: torch.Generator) -> None:
    """Eq. 2 of the paper from its three losses: classification, boxes, exits, theta, lambda -> a scalar."""
    cls, box, exits = torch.rand(3, generator=random) + 1
    theta, lam = 0.0115, 0.5
    slips = {
        "theta and lambda are swapped: theta weighs the loss of the exits": theta * (cls + box) + lam * exits,
        "lambda weighs both losses of the detector, boxes too": lam * cls + box + theta * exits,
        "the loss of the boxes is missing": lam * cls + theta * exits,
        "theta is missing: the exits count in full": lam * (cls + box) + exits,
        "lambda is missing": cls + box + theta * exits,
    }
    same(called(answer, cls, box, exits, theta, lam), lam * (cls + box) + theta * exits, "the joint loss", slips)


def focal(answer, random: torch.Generator) -> None:
    """Focal loss with alpha 0.25 and gamma 2, summed: logits (A, K), targets (A, K) of 0 and 1 -> a scalar."""
    logits = torch.randn(12, 3, generator=random) * 2
    targets = (torch.rand(12, 3, generator=random) < 0.2).float()
    targets[0, 0], targets[0, 1] = 1, 0
    p = logits.sigmoid()
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = p * targets + (1 - p) * (1 - targets)
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    whole = alpha * (1 - right) ** 2 * ce
    slips = {
        "this is the cross-entropy: the factor that quiets what is right already is missing": (alpha * ce).sum(),
        "alpha is missing": ((1 - right) ** 2 * ce).sum(),
        "alpha belongs to what is there, 1 - alpha to background": ((1 - alpha) * (1 - right) ** 2 * ce).sum(),
        "the factor is upside down: it is 1 minus the probability of what is right": (alpha * right**2 * ce).sum(),
        "the sum was asked for, this is the mean": whole.mean(),
        "a softmax lets classes compete: each class of an anchor is a question of its own, with a sigmoid": (
            alpha * (1 - _right(logits.softmax(1), targets)) ** 2 * -_right(logits.softmax(1), targets).log()
        ).sum(),
    }
    same(called(answer, logits, targets), whole.sum(), "the focal loss", slips)
    if not torch.isfinite(torch.as_tensor(called(answer, torch.tensor([[200.0]]), torch.zeros(1, 1)))).all():
        raise SlipError("large logits give inf or nan: use binary_cross_entropy_with_logits, not the logarithm of p")


def _right(p: Tensor, targets: Tensor) -> Tensor:
    return p * targets + (1 - p) * (1 - targets)


def exits_loss(answer, random: torch.Generator) -> None:
    """Cross-entropy of every exit, weighted: logits (E, N, K), labels (N,), weights (E,) -> a scalar."""
    logits, weights = torch.randn(4, 6, 5, generator=random) * 2, torch.tensor([0.25, 0.25, 0.25, 0.5])
    labels = torch.randint(5, (6,), generator=random)
    each = torch.stack([F.cross_entropy(one, labels) for one in logits])
    slips = {
        "the weights are missing": each.sum(),
        "the published weights are not made to sum to 1: a weighted sum, no weighted mean": weights @ each / 1.25,
        "this is the mean over exits: the weighted sum was asked for": (weights * each).mean(),
        "the mean over images was asked for, this is their sum": weights @ each * 6,
        "the last exit alone is taught": weights[-1] * each[-1],
    }
    same(called(answer, logits, labels, weights), weights @ each, "the loss of the exits", slips)


def distillation(answer, random: torch.Generator) -> None:
    """KL divergence of an early exit's softmax from the last exit's: early (N, K), last (N, K) -> mean over images."""
    early, last = torch.randn(6, 5, generator=random) * 2, torch.randn(6, 5, generator=random) * 2
    p, q = last.log_softmax(1), early.log_softmax(1)
    wanted = (p.exp() * (p - q)).sum(1).mean()
    slips = {
        "the divergence is the wrong way round: the last exit is the one to be imitated": (
            (q.exp() * (q - p)).sum(1).mean()
        ),
        "this is the cross-entropy: the teacher's own entropy is not subtracted": -(p.exp() * q).sum(1).mean(),
        "this is a mean over classes too (reduction='mean'): 'batchmean' divides by the images alone": wanted / 5,
        "this is the sum over images": wanted * 6,
        "a squared difference of logits is no divergence": F.mse_loss(early, last),
    }
    same(called(answer, early, last), wanted, "the divergence", slips)
    if (found := pulled(answer, (early, last), 1)[1]) is not None and bool(found.abs().sum() > 0):
        raise SlipError("the teacher learns from its students: detach the last exit's logits")
    if (found := pulled(answer, (early, last), 0)[1]) is None or not bool(found.abs().sum() > 0):
        raise SlipError("no gradient reaches the early exit: nobody would learn anything")


def cosine(answer, random: torch.Generator) -> None:
    """The cosine between two losses' gradients: two lists of tensors, None where a loss has no gradient -> a scalar."""
    shapes = [(3, 2), (4,), (2, 2), (5,)]
    ours, others = ([torch.randn(shape, generator=random) for shape in shapes] for _ in range(2))
    whole = [torch.cat([x.flatten() for x in part[:2]]) for part in (ours, others)]
    lengths = [torch.cat([x.flatten() for x in part]).norm() for part in (ours[:3], others[:2] + others[3:])]
    dot = whole[0] @ whole[1]
    each = torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in zip(ours[:2], others[:2])])  # noqa: B905
    ours[3] = others[2] = None
    slips = {
        "lengths go over all of a loss's own gradients, also where the other has none": dot
        / (whole[0].norm() * whole[1].norm()),
        "this is the mean of the tensors' cosines: the whole gradient is one long vector": each.mean(),
        "this is the product: divide by both lengths": dot,
        "the lengths are not multiplied": dot / (lengths[0] + lengths[1]),
        "the product is divided by one length alone": dot / lengths[0],
    }
    same(called(answer, ours, others), dot / (lengths[0] * lengths[1]), "the cosine of the two gradients", slips)
