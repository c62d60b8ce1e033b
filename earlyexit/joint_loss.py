"""The loss of a whole detector: its boxes at the exits that are trained, and the exits' classes (paper, eq. 2)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from .anchors import also_at_full_depth
from .exit_training import head_distillation, normalised_weights, sandwich, scale_gradient
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
        "classification" and "bbox_regression", with theta above 0 "exit", and "head_distillation" if it has a weight.
    """
    logits, found = [], {}
    exits = sandwich(model.exits) if model.sandwich else model.exits
    for reached in model.backbone.exits(batch.tensors):
        logits.append(reached.logits.float())  # a softmax in bfloat16 would be a coarse one
        if reached.index in exits:
            scale = 1.0 if reached.index == exits[-1] else model.early_gradient
            found[reached.index] = model.outputs_at(scale_gradient(reached, scale), batch)
        if not model.theta and reached.index == max(exits):
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
    """torchvision's losses of what `outputs_at` gave, by exit, as a weighted mean over the exits.

    With several exits and `head_distillation`, what the deepest of them teaches the others is one more term.
    """
    terms = {"classification": 0.0, "bbox_regression": 0.0}
    if model.head_distillation:
        terms["head_distillation"] = 0.0
    weights = normalised_weights(list(found), model.exit_weights)
    teacher = found[max(found)][0]
    for exit, (outputs, anchors, counts) in found.items():
        losses = model.compute_loss(targets, outputs, [anchors] * len(targets))
        if model.head_distillation and outputs is not teacher:
            student = outputs
            if len(counts) < len(model.anchor_generator.sizes):
                shared = also_at_full_depth(model.early_anchors, len(anchors))
                student = {name: values[:, shared] for name, values in outputs.items()}
            losses["head_distillation"] = model.head_distillation * head_distillation(student, teacher)
        for name, loss in losses.items():
            terms[name] = terms[name] + model.lambda_ * weights[exit] * loss
    return terms
