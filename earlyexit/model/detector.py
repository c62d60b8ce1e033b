"""RetinaNet whose images leave the backbone at the exit where it is confident enough (paper, section 3).

Its outputs become detections for all images of a batch at once: torchvision's `RetinaNet.postprocess_detections` takes
one image after the other and, in each, one level after the other. At 128 pixels that is a third of the time of an early
exit, and on a GPU hundreds of small kernels. A test compares the two.
"""

import functools
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms

from ..losses import EXIT_TARGETS, JointLoss, check_exits
from .backbone import NUM_EXITS, DynPerceiver, Exit
from .exits import MaxSoftmax, Rule, SkipEmpty, exit_limits, leave_early
from .heads import AnchorsBySize, ClassOpinion, anchors_without_finest
from .inputs import check_images, check_resizing, check_targets, same_size_batches

# Settings of a `RetinaNet`, with their limits.
POSTPROCESSING = {"score_thresh": (0, 1), "nms_thresh": (0, 1)}
POSTPROCESSING |= {"topk_candidates": (1, math.inf), "detections_per_img": (1, math.inf)}
EDGE = 1e-6  # scores of exactly 0 and 1 have no logit


class EarlyExitRetinaNet(RetinaNet):
    """A Dyn-Perceiver, a pyramid that fills what an early exit left out, and torchvision's RetinaNet around them.

    In training mode `model(images, targets)` gives a dict of scalar losses whose sum is the paper's
    L' = lambda (L_cls + L_bbox) + theta L_DynPerceiver (eq. 2). In eval mode `model(images)` gives a list of
    detections, one dict per image.

    Args:
        backbone: a `DynPerceiver`.
        neck: maps the feature maps of an exit that its `names` lists to the pyramid, e.g. an `EarlyExitFPN`.
        head: torchvision's `RetinaNetHead`, or anything with its `forward` and `compute_loss`.
        loss: the losses in training mode, term by term, see `JointLoss`.
        early: for some of the exits 1-3 a neck and a head of their own, by exit; the others have `neck` and `head`.
        opinions: exits at which the classifier's opinion moves the class scores, see `ClassOpinion`.
        score_scales: gain and shift of the scores at each of the four exits, see `fit_score_scales`.
        exit_target: what the exits say of an image with several objects: "single" (that is an error), "largest" (the
            largest box's class), or "present" (which classes are there, with a binary loss each; none is an answer).
        allow_empty: take training images without any box as background instead of refusing them.
        **retinanet: everything else that torchvision's `RetinaNet` takes (`min_size`, `score_thresh`, ...).
    """

    def __init__(
        self,
        backbone: DynPerceiver,
        neck: nn.Module,
        head: nn.Module,
        *,
        loss: JointLoss = JointLoss(),  # noqa: B008, it is frozen
        early: Mapping[int, tuple[nn.Module, nn.Module]] | None = None,
        opinions: Iterable[int] = (),
        score_scales: Sequence[Sequence[float]] | None = None,
        exit_target: str = "single",
        allow_empty: bool = False,
        **retinanet,
    ):
        unknown = sorted(set(retinanet) - set(inspect.signature(RetinaNet).parameters))
        if unknown:  # torchvision takes any keyword, and a misspelt one would do nothing
            raise TypeError(f"neither EarlyExitRetinaNet nor torchvision's RetinaNet has the options {unknown}")
        pixels = {"image_mean": backbone.image_mean, "image_std": backbone.image_std}
        retinanet = {"detections_per_img": 100, **pixels, **retinanet}  # 100, as the published detector and COCO count
        super().__init__(backbone, backbone.num_classes, head=head, **retinanet)
        check_resizing(self.transform)
        for name, (least, most) in POSTPROCESSING.items():
            if not least <= getattr(self, name) <= most:
                limits = f"from {least} to {most}" if most < math.inf else f"at least {least}"
                raise ValueError(f"{name} must be {limits}, got {getattr(self, name)}")
        if exit_target not in EXIT_TARGETS:
            raise ValueError(f"exit_target must be one of {EXIT_TARGETS}, got {exit_target!r}")
        self.num_classes = backbone.num_classes
        self.neck = neck
        self.loss, self.exit_target, self.allow_empty = loss, exit_target, allow_empty
        self.rule = MaxSoftmax(exit_target)
        early = {str(exit): early[exit] for exit in check_exits("early", early or {})}
        self.early_necks = nn.ModuleDict({exit: parts[0] for exit, parts in early.items()})
        self.early_heads = nn.ModuleDict({exit: parts[1] for exit, parts in early.items()})
        opinions = check_exits("opinions", opinions)
        self.opinions = nn.ModuleDict({str(exit): ClassOpinion(min(exit, 2), exit_target) for exit in opinions})
        self.score_scales = check_scales(score_scales)
        self.full_anchors = AnchorsBySize(self.anchor_generator)
        self.early_anchors = AnchorsBySize(anchors_without_finest(self.anchor_generator)) if early else None

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]] | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        exit: int | None = None,
        rule: Rule | None = None,
        empty: float | None = None,
    ) -> dict[str, Tensor] | list[dict]:
        """Losses in training mode, detections in eval mode.

        In eval mode an image gets the same result alone as in a batch: only images that have the same padded size
        after resizing run together. In training all are padded to the largest.

        Args:
            images: list of (3, H, W) floats in [0, 1], RGB, of any sizes.
            targets: for training, one dict per image: "boxes" (M, 4) xyxy in pixels, "labels" (M,) int64 from 0.
            thresholds: scores from which on an image leaves at exits 1, 2, 3; None: nobody leaves early.
            exit: 1-4 lets every image leave there, whatever its score.
            rule: gives the scores; `self.rule` unless told, which is the paper's: the largest softmax value.
            empty: probability, above 0, from which on an image without objects, says exit 1, gets no neck, no head and
                no boxes; for models whose `exit_target` is "present".

        Returns:
            In training "classification", "bbox_regression" and, unless theta is 0, "exit": weighted, to be summed.
            In eval, per image and in the order of `images`: "boxes" (D, 4) xyxy in pixels of the image, "scores"
            and "labels" (D,), "exit" (1-4, or 0 for an image taken for empty) and "confidence" (a float: the score).
        """
        check_images(images, self, values=not self.training)
        if self.training:
            check_targets(images, targets, self.num_classes, allow_empty=self.allow_empty)
            return self.loss(self, *self.transform(images, targets))
        limits = exit_limits(thresholds, exit)
        rule = self.rule if rule is None else rule
        if empty is not None:
            if self.exit_target != "present":
                said = f"empty={empty} with exit_target={self.exit_target!r}"
                raise ValueError(f"empty is for exits that say which classes are present, got {said}")
            rule = SkipEmpty(rule, empty)
        results: list[dict] = [{}] * len(images)
        for group, batch in same_size_batches(self.transform, images):
            sizes = [tuple(images[i].shape[-2:]) for i in group]
            detect = functools.partial(self.detect_from, batch=batch, sizes=sizes)
            found = leave_early(self.backbone.exits(batch.tensors), len(group), limits, detect, rule)
            for i, detection in zip(group, found, strict=True):
                results[i] = detection
        return results

    def predict(self, reached: Exit) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What the head says at an exit, in float32, the class opinion included; and the pyramid that it looked at."""
        pyramid = list(self.pyramid_at(reached).values())
        outputs = {name: values.float() for name, values in self.head_at(reached.index)(pyramid).items()}
        if str(reached.index) in self.opinions:
            moved = self.opinions[str(reached.index)](outputs["cls_logits"], *reached.said())
            outputs = {**outputs, "cls_logits": moved}
        return outputs, pyramid

    def detect_from(
        self, reached: Exit, group: Sequence[int], batch: ImageList, sizes: Sequence[tuple[int, int]]
    ) -> list[dict]:
        """Neck, head and post-processing for the images `group` of `batch` that leave at the exit `reached`.

        `sizes` are height and width of all original images of the batch: boxes are in their pixels.
        """
        outputs, anchors, counts = self.outputs_at(reached, batch)
        inside, outside = [batch.image_sizes[i] for i in group], [sizes[i] for i in group]
        limits = {name: getattr(self, name) for name in POSTPROCESSING}
        scale = self.score_scales[reached.index - 1]
        return batch_detections(outputs, anchors, counts, inside, outside, self.box_coder, scale=scale, **limits)

    @property
    def filler(self) -> str | None:
        """The filler of the neck, None if early exits have necks of their own."""
        return None if self.early_necks else getattr(self.neck, "filler", None)

    def pyramid_at(self, reached: Exit) -> dict[str, Tensor]:
        """The pyramid that the neck of an exit makes, "p3" or "p4" to "p7"."""
        features = {name: x for name, x in reached.features.items() if name in self.neck.names}
        if str(reached.index) in self.early_necks:
            return self.early_necks[str(reached.index)](features, reached.latents)
        return self.neck(features)

    def head_at(self, exit: int) -> nn.Module:
        """The head that serves an exit."""
        return self.early_heads[str(exit)] if str(exit) in self.early_heads else self.head  # noqa: SIM401 - no get

    def outputs_at(self, reached: Exit, batch: ImageList) -> tuple[dict[str, Tensor], Tensor, list[int]]:
        """The head's "cls_logits" and "bbox_regression", (N, anchors, K), always in float32; the anchors (anchors, 4)
        of every image, in float32 too, since bfloat16 cannot count pixels beyond 256; and their number on each level.
        """
        outputs, pyramid = self.predict(reached)
        anchors = self.full_anchors if len(pyramid) == len(self.anchor_generator.sizes) else self.early_anchors
        levels = tuple(tuple(level.shape[-2:]) for level in pyramid)
        per_cell = anchors.generator.num_anchors_per_location()
        counts = [height * width * a for (height, width), a in zip(levels, per_cell, strict=True)]
        return outputs, anchors(tuple(batch.tensors.shape[-2:]), levels, pyramid[0].device), counts


def batch_detections(
    outputs: dict[str, Tensor],
    anchors: Tensor,
    counts: Sequence[int],
    inside: Sequence[tuple[int, int]],
    outside: Sequence[tuple[int, int]],
    coder: BoxCoder,
    *,
    score_thresh: float,
    nms_thresh: float,
    topk_candidates: int,
    detections_per_img: int,
    scale: Sequence[float] = (1.0, 0.0),
) -> list[dict[str, Tensor]]:
    """Detections of N images of one padded size.

    Args:
        outputs: "cls_logits" (N, A, classes) and "bbox_regression" (N, A, 4).
        anchors: (A, 4), the same for all images; the coder turns deltas and them into boxes.
        counts: how many of the A are on each level.
        inside: height and width of each image in the network, without padding: boxes are cut there.
        outside: height and width of each original image, to whose pixels boxes are taken back.
        score_thresh, nms_thresh, topk_candidates, detections_per_img: as in torchvision's `RetinaNet`.
        scale: gain and shift of the scores of what is found, see `rescale_scores`.

    Returns:
        For each image "boxes" (D, 4) xyxy, "scores" (D,), highest first, and "labels" (D,).
    """
    scores, deltas = outputs["cls_logits"].sigmoid(), outputs["bbox_regression"]
    n_images, _, n_classes = scores.shape
    image, anchor, label = (scores > score_thresh).nonzero(as_tuple=True)
    score = scores[image, anchor, label]
    level = torch.repeat_interleave(torch.tensor(counts)).to(anchor.device)[anchor]
    best = _best_of_each(image * len(counts) + level, score, topk_candidates)
    image, anchor, label, score = (values[best] for values in (image, anchor, label, score))
    boxes = coder.decode_single(deltas[image, anchor], anchors[anchor])
    limits = _corners(inside, boxes)
    boxes = boxes.clamp(min=0).minimum(limits[image])
    kept = _nms_in_groups(boxes, score, image * n_classes + label, nms_thresh)
    kept = kept[_best_of_each(image[kept], score[kept], detections_per_img)]
    kept = kept[image[kept].argsort(stable=True)]
    score = score if tuple(scale) == (1.0, 0.0) else rescale_scores(score, *scale)
    boxes = boxes[kept] * (_corners(outside, boxes) / limits)[image[kept]]
    found = torch.bincount(image[kept], minlength=n_images).tolist()
    parts = (values.split(found) for values in (boxes, score[kept], label[kept]))
    return [dict(zip(("boxes", "scores", "labels"), part, strict=True)) for part in zip(*parts, strict=True)]


def check_scales(scales: Sequence[Sequence[float]] | None) -> list[tuple[float, float]]:
    """A gain and a shift for each exit, (1, 0) if None; `ValueError` unless gains are positive and all is finite."""
    pairs = [(1.0, 0.0)] * NUM_EXITS if scales is None else [tuple(pair) for pair in scales]
    if len(pairs) != NUM_EXITS or not all(len(p) == 2 and 0 < p[0] < math.inf and math.isfinite(p[1]) for p in pairs):
        raise ValueError(f"score_scales must be a positive gain and a shift for each of four exits, got {scales}")
    return pairs


def rescale_scores(scores: Tensor, gain: Tensor | float, shift: Tensor | float) -> Tensor:
    """sigmoid(gain * logit(score) + shift): Platt's scaling, which keeps the order of an exit's own detections."""
    return (gain * scores.clamp(EDGE, 1 - EDGE).logit() + shift).sigmoid()


def _best_of_each(group: Tensor, score: Tensor, most: int) -> Tensor:
    """Positions of the `most` highest scores of each group, highest first."""
    order = score.argsort(descending=True, stable=True)
    if len(order) <= most:  # nobody can be too many: the usual case for few images
        return order
    by_group = order[group[order].argsort(stable=True)]
    sizes = torch.bincount(group)
    first = (sizes.cumsum(0) - sizes)[group[by_group]]
    rank = torch.empty_like(order)
    rank[by_group] = torch.arange(len(order), device=order.device) - first
    return order[rank[order] < most]


def _nms_in_groups(boxes: Tensor, scores: Tensor, group: Tensor, threshold: float) -> Tensor:
    """What non-maximum suppression inside each group leaves, highest score first.

    Each group is moved to a place of its own, as torchvision's `batched_nms` does for few boxes; in float64, so that
    coordinates that far out keep their precision.
    """
    if not len(boxes):
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    apart = group.double() * (boxes.max().double() + 1)
    return nms(boxes.double() + apart[:, None], scores.double(), threshold)


def _corners(sizes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """(N, 4): width, height, width, height of each image."""
    height_width = torch.tensor(sizes, dtype=like.dtype, device=like.device)
    return height_width.flip(1).repeat(1, 2)
