"""The losses: of the exits' classifiers, of the boxes at the trained exits, and their sum (paper, eq. 2)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_area

EXIT_WEIGHTS = (0.25, 0.25, 0.25, 0.5)
EXIT_TARGETS = ("single", "largest", "present")


@dataclass(frozen=True)
class JointLoss:
    """L' = lambda (L_cls + L_bbox) + theta L_DynPerceiver, term by term; called by a detector in training mode."""

    theta: float = 0.0115  #: weight of the exits' classification loss; 0 is the paper's baseline (eq. 1)
    lambda_: float = 1.0  #: weight of the detection losses
    exits: Iterable[int] = (4,)  #: at which the detection loss is applied, averaged over them; (4,) is the paper
    weights: Mapping[int, float] | None = None  #: for that average, by exit; equal unless given
    distillation: float = 0.5  #: weight of the distillation inside the exits' loss; 0.5 as published, 0 for none

    def __post_init__(self) -> None:
        for name in ("theta", "lambda_", "distillation"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        exits, weights = check_exits("exits", self.exits), self.weights
        object.__setattr__(self, "exits", exits)
        if not exits:
            raise ValueError(f"exits must name some of the exits 1-4, got {exits}")
        if weights is not None and (set(weights) != set(exits) or not all(0 < w < math.inf for w in weights.values())):
            raise ValueError(
                f"exit_weights must have a finite, positive weight for each of the exits {exits}, got {weights}"
            )

    def __call__(self, model, batch: ImageList, targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The weighted terms, to be summed: an `EarlyExitRetinaNet` on what its transform made of images and targets.

        Returns:
            "classification" and "bbox_regression", means over `exits`, and with theta above 0 "exit"; all scalars.
        """
        logits, found = [], {}
        for reached in model.backbone.exits(batch.tensors):
            logits.append(reached.logits.float())  # a softmax in bfloat16 would be a coarse one
            if reached.index in self.exits:
                found[reached.index] = model.outputs_at(reached, batch)
            if not self.theta and reached.index == max(self.exits):
                break  # nothing deeper has a loss
        terms = self.of_boxes(model, found, targets)
        if self.theta:
            terms["exit"] = self.theta * self.of_classes(logits, targets, model.exit_target)
        return terms

    def of_boxes(self, model, found: Mapping[int, tuple], targets: Sequence[dict]) -> dict[str, Tensor]:
        """torchvision's losses of what `outputs_at` gave, by exit, as a weighted mean over the exits."""
        terms = {"classification": 0.0, "bbox_regression": 0.0}
        given = {exit: 1.0 if self.weights is None else self.weights[exit] for exit in found}
        for exit, (outputs, anchors, _) in found.items():
            losses = model.compute_loss(targets, outputs, [anchors] * len(targets))
            for name, loss in losses.items():
                terms[name] = terms[name] + self.lambda_ * (given[exit] / sum(given.values())) * loss
        return terms

    def of_classes(self, logits: Sequence[Tensor], targets: Sequence[dict], exit_target: str = "single") -> Tensor:
        """The exits' loss for what `exit_target` asks of them; 0 if no image of the batch has an answer.

        One class alone can only be there or not: then every image has an answer, and those without an object are the
        only ones that there is something to learn from. There is one (N, classes) tensor of logits for each exit.
        """
        if exit_target == "present" or logits[0].shape[1] == 1:
            present = present_classes(targets, logits[0].shape[1]).to(logits[0])
            return present_loss(logits, present, distillation=self.distillation)
        labels, which = exit_labels(targets, exit_target)
        chosen = logits if which is None else [x[which] for x in logits]
        if not len(labels):
            return logits[-1].sum() * 0
        return _exit_loss(chosen, labels, EXIT_WEIGHTS, self.distillation)


def check_exits(name: str, exits: int | Iterable[int]) -> tuple[int, ...]:
    """The exits, or the one exit, in order, each once; `ValueError` if one of them is none of 1-4."""
    exits = (exits,) if isinstance(exits, int) else tuple(exits)
    if not set(exits) <= set(range(1, len(EXIT_WEIGHTS) + 1)):
        raise ValueError(f"{name} must name some of the exits 1-4, got {exits}")
    return tuple(sorted(set(exits)))


def exit_loss(
    logits: Sequence[Tensor], labels: Tensor, *, weights: Sequence[float] = EXIT_WEIGHTS, distillation: float = 0.5
) -> Tensor:
    """Loss of the exits' classifiers, L_DynPerceiver in the paper's eq. 2, as a scalar.

    Weighted cross-entropy of every exit, plus `distillation` times the KL divergence of each earlier exit from the
    last exit's softmax, which is detached: the teacher does not learn from its students. The paper's text leaves the
    distillation out, its code has it; 0 switches it off. Of one class alone, which all images have, the softmax would
    be 1 whatever the network does; in its place stands the sigmoid, and the binary cross-entropy of its being there.

    Args:
        logits: one (N, classes) tensor for each exit, the last one the deepest.
        labels: (N,), int64, the class of each image.
        weights: one for each exit.
        distillation: weight of the sum of the KL terms.
    """
    if len(logits) != len(weights):
        raise ValueError(f"one weight for each exit is needed, got {len(weights)} weights for {len(logits)} exits")
    if not 0 <= distillation < math.inf:
        raise ValueError(f"distillation must be finite and at least 0, got {distillation}")
    classes = logits[-1].shape[1]
    if labels.dtype != torch.int64 or ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels must be int64 from 0 to {classes - 1}, got {labels.dtype} {labels.tolist()[:10]}")
    return _exit_loss(logits, labels, weights, distillation)


def _exit_loss(logits: Sequence[Tensor], labels: Tensor, weights: Sequence[float], distillation: float) -> Tensor:
    """`exit_loss` of labels that were checked before: a look at each batch would make a GPU wait."""
    if logits[-1].shape[1] == 1:  # the second answer, that it is not there, has the logit 0
        logits = [F.pad(x, (0, 1)) for x in logits]
    loss = sum(w * F.cross_entropy(x, labels) for w, x in zip(weights, logits, strict=True))
    if distillation:
        teacher = torch.log_softmax(logits[-1].detach(), dim=1)
        students = (torch.log_softmax(x, dim=1) for x in logits[:-1])
        kl = sum(F.kl_div(s, teacher, reduction="batchmean", log_target=True) for s in students)
        loss = loss + distillation * kl
    return loss


def present_loss(logits: Sequence[Tensor], present: Tensor, *, distillation: float = 0.5) -> Tensor:
    """The exits' loss where an image may have any number of objects: which classes are there? A scalar.

    Binary cross-entropy, summed over classes so that it is of the size of a cross-entropy, in place of each of the
    terms of `exit_loss`. An image without any object is as good an example as any other.

    Args:
        logits, distillation: see `exit_loss`.
        present: (N, classes), 1 where an object of the class is in the image.
    """

    def crossed(x: Tensor, aim: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, aim, reduction="none").sum(1).mean()

    loss = sum(w * crossed(x, present) for w, x in zip(EXIT_WEIGHTS, logits, strict=True))
    if distillation:
        teacher = logits[-1].detach().sigmoid()
        loss = loss + distillation * sum(crossed(x, teacher) for x in logits[:-1])
    return loss


def exit_labels(targets: Sequence[dict], exit_target: str) -> tuple[Tensor, Tensor | None]:
    """The class that the exits should say for each image: (n,) labels, and (n,) positions of the images that have one.

    Positions are None when every image has one. Images without a box have no class and are left out.

    Raises:
        ValueError: naming the image, for several objects and `exit_target="single"`.
    """
    counts = [len(target["labels"]) for target in targets]
    if exit_target == "single" and max(counts) > 1:
        i = next(i for i, count in enumerate(counts) if count > 1)
        raise ValueError(
            f"image {i} has {counts[i]} objects, but the exits learn one class per image: filter to single-object "
            "images, or set exit_target='largest' (--exit-target largest)"
        )
    which = [i for i, count in enumerate(counts) if count]
    if not which:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    found = (targets[i] for i in which)
    labels = torch.cat([t["labels"].gather(0, box_area(t["boxes"]).argmax(0, keepdim=True)) for t in found])
    return labels, None if all(counts) else torch.tensor(which).to(labels.device, non_blocking=True)


def present_classes(targets: Sequence[dict], num_classes: int) -> Tensor:
    """(N, num_classes) float: 1 where an image has an object of the class."""
    present = torch.zeros(len(targets), num_classes, device=targets[0]["labels"].device)
    for row, target in zip(present, targets, strict=True):
        row.index_fill_(0, target["labels"], 1.0)
    return present
