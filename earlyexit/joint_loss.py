"""The loss of a whole detector: its boxes at the exits that are trained, and the exits' classes (paper, eq. 2)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from .exit_training import normalised_weights
from .losses import exit_loss, present_loss
from .targets import exit_labels, present_classes

if TYPE_CHECKING:
    from .detector import EarlyExitRetinaNet


def joint_losses(
    model: "EarlyExitRetinaNet", batch: ImageList, targets: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """L' = lambda (L_cls + L_bbox) + theta L_DynPerceiver, term by term; the first two are means over `model.exits`.

    Args:
        model: in training mode; its attributes say what is weighted how, see `EarlyExitRetinaNet`.
        batch: images as the model's transform leaves them.
        targets: likewise.

    Returns:
        "classification" and "bbox_regression", and with theta above 0 "exit".
    """
    logits, found = [], {}
    for reached in model.backbone.exits(batch.tensors):
        logits.append(reached.logits.float())  # a softmax in bfloat16 would be a coarse one
        if reached.index in model.exits:
            found[reached.index] = model.outputs_at(reached, batch)
        if not model.theta and reached.index == max(model.exits):
            break  # nothing deeper has a loss
    terms = detection_losses(model, found, targets)
    if model.theta:
        terms["exit"] = model.theta * class_loss(model, logits, targets)
    return terms


def class_loss(model: "EarlyExitRetinaNet", logits: list[Tensor], targets: Sequence[dict[str, Tensor]]) -> Tensor:
    """The exits' loss for what the model's `exit_target` asks of them; 0 if no image of the batch has an answer."""
    if model.exit_target == "present":
        present = present_classes(targets, model.num_classes).to(logits[0])
        return present_loss(logits, present, distillation=model.distillation)
    labels, which = exit_labels(targets, model.exit_target)
    chosen = logits if which is None else [x[which] for x in logits]
    return exit_loss(chosen, labels, distillation=model.distillation) if len(labels) else logits[-1].sum() * 0


def detection_losses(
    model: "EarlyExitRetinaNet", found: dict[int, tuple], targets: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """torchvision's losses of what `outputs_at` gave, by exit, as a weighted mean over the exits."""
    terms = {"classification": 0.0, "bbox_regression": 0.0}
    weights = normalised_weights(list(found), model.exit_weights)
    for exit, (outputs, anchors, _) in found.items():
        losses = model.compute_loss(targets, outputs, [anchors] * len(targets))
        for name, loss in losses.items():
            terms[name] = terms[name] + model.lambda_ * weights[exit] * loss
    return terms
