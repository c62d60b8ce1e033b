"""The loss of the exits against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from earlyexit import JointLoss, exit_loss

WEIGHTS = (0.25, 0.25, 0.25, 0.5)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(5, 7, generator=generator) for _ in range(4)]


LABELS = torch.tensor([0, 6, 3, 3, 1])


def kl(logits):
    """Sum over the earlier exits of KL(last || exit), mean over the images, written out."""
    last = logits[-1].softmax(1)
    terms = [(last * (last.log() - x.softmax(1).log())).sum(1).mean() for x in logits[:-1]]
    return sum(terms)


def test_without_distillation_it_is_weighted_cross_entropy(logits):
    parts = [F.cross_entropy(x, LABELS) for x in logits]
    expected = sum(w * part for w, part in zip(WEIGHTS, parts, strict=True))
    torch.testing.assert_close(exit_loss(logits, LABELS, distillation=0), expected)
    only_second = exit_loss(logits, LABELS, weights=(0, 1, 0, 0), distillation=0)
    torch.testing.assert_close(only_second, parts[1])


@pytest.mark.parametrize("distillation", [0.5, 2.0])
def test_distillation_is_the_divergence_from_the_last_exit(logits, distillation):
    plain = exit_loss(logits, LABELS, distillation=0)
    full = exit_loss(logits, LABELS, distillation=distillation)
    torch.testing.assert_close(full - plain, distillation * kl(logits))


def test_equal_exits_have_nothing_to_distil(logits):
    same = [logits[0]] * 4
    plain = exit_loss(same, LABELS, distillation=0)
    torch.testing.assert_close(exit_loss(same, LABELS, distillation=9.0), plain)


def test_teacher_learns_from_labels_alone(logits):
    leaves = [x.requires_grad_() for x in logits]
    grads = torch.autograd.grad(exit_loss(leaves, LABELS), leaves)
    plain = torch.autograd.grad(exit_loss(leaves, LABELS, distillation=0), leaves)
    torch.testing.assert_close(grads[3], plain[3])
    for with_kl, without in zip(grads[:3], plain[:3], strict=True):
        assert (with_kl - without).abs().max() > 1e-3


def test_gradient_of_a_student_is_the_difference_of_softmaxes(logits):
    """d KL(t || s) / d logits of s = (s - t) / N: a check of direction and reduction at once."""
    leaves = [x.requires_grad_() for x in logits]
    (grad,) = torch.autograd.grad(exit_loss(leaves, LABELS, weights=(0,) * 4, distillation=1.0), leaves[:1])
    expected = (logits[0].softmax(1) - logits[3].softmax(1)) / len(LABELS)
    torch.testing.assert_close(grad, expected.detach())


def test_any_number_of_exits(logits):
    two = logits[:2]
    expected = F.cross_entropy(two[0], LABELS) + 3 * F.cross_entropy(two[1], LABELS) + 0.5 * kl(two)
    torch.testing.assert_close(exit_loss(two, LABELS, weights=(1, 3)), expected)


def test_errors(logits):
    with pytest.raises(ValueError, match="4 weights for 3 exits"):
        exit_loss(logits[:3], LABELS)
    for distillation in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"distillation must be finite and at least 0, got {distillation}"):
            exit_loss(logits, LABELS, distillation=distillation)
    last = logits[0].shape[1] - 1
    for bad in (last + 1, -1):
        with pytest.raises(ValueError, match=rf"labels must be int64 from 0 to {last}, got torch.int64 \[{bad}, "):
            exit_loss(logits, LABELS.index_fill(0, torch.tensor(0), bad))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exits": ()}, "exits must name"),
        ({"exits": (0, 4)}, r"exits 1-4, got \(0, 4\)"),
        ({"theta": -1.0}, "theta must be finite and at least 0, got -1.0"),
        ({"lambda_": math.nan}, "lambda_ must be finite"),
        ({"distillation": math.inf}, "distillation must be finite"),
        ({"weights": {4: math.nan}}, "exit_weights must have a finite, positive weight"),
        ({"exits": (1, 4), "weights": {1: 1.0}}, "positive weight for each of the exits"),
        ({"exits": (1, 4), "weights": {1: 1.0, 4: 0.0}}, "positive weight"),
    ],
)
def test_a_joint_loss_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        JointLoss(**changes)


# One class


ONE = [torch.tensor([[-1.0], [0.5], [3.0]]) + k for k in range(4)]


def test_one_class_is_there_or_not():
    """The cross-entropy of a softmax over one unit is 0 whatever the network does; this one is not."""
    labels = torch.zeros(3, dtype=torch.int64)
    parts = [torch.log(1 + torch.exp(-x)).mean() for x in ONE]
    expected = sum(w * part for w, part in zip(WEIGHTS, parts, strict=True))
    torch.testing.assert_close(exit_loss(ONE, labels, distillation=0), expected)
    p, q = ONE[-1].sigmoid(), [x.sigmoid() for x in ONE[:-1]]
    divergence = sum((p * (p / s).log() + (1 - p) * ((1 - p) / (1 - s)).log()).mean() for s in q)
    torch.testing.assert_close(exit_loss(ONE, labels), expected + 0.5 * divergence)


def test_images_without_the_one_class_are_what_it_is_learned_from():
    there, not_there = torch.tensor([0]), torch.tensor([], dtype=torch.int64)
    box = torch.tensor([[1.0, 2, 3, 4]])
    targets = [
        {"labels": there, "boxes": box},
        {"labels": not_there, "boxes": box[:0]},
        {"labels": there, "boxes": box},
    ]
    aim = torch.tensor([[1.0], [0], [1]])
    parts = [F.binary_cross_entropy_with_logits(x, aim) for x in ONE]
    expected = sum(w * part for w, part in zip(WEIGHTS, parts, strict=True))
    for exit_target in ("single", "largest", "present"):
        loss = JointLoss(distillation=0).of_classes(ONE, targets, exit_target)
        torch.testing.assert_close(loss, expected)
        leaf = ONE[-1].clone().requires_grad_()
        JointLoss(distillation=0).of_classes([*ONE[:3], leaf], targets, exit_target).backward()
        torch.testing.assert_close(leaf.grad, 0.5 * (leaf.detach().sigmoid() - aim) / 3)  # the empty one is pushed down
    nothing = [{"labels": not_there, "boxes": box[:0]}] * 3
    assert JointLoss().of_classes(ONE, nothing) > 0.5
