"""From the head's outputs to detections, for all images of a batch at once.

torchvision's `RetinaNet.postprocess_detections` takes one image after the other and, in each, one level after the
other. At 128 pixels that is a third of the time of an early exit, and on a GPU hundreds of small kernels. This does
the same to all candidates of the batch together; a test compares the two.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import nms

from .backbone import NUM_EXITS

POSTPROCESSING = ("score_thresh", "nms_thresh", "topk_candidates", "detections_per_img")  # of a `RetinaNet`
EDGE = 1e-6  # scores of exactly 0 and 1 have no logit


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
        anchors: (A, 4), the same for all images.
        counts: how many of the A are on each level.
        inside: height and width of each image in the network, without padding: boxes are cut there.
        outside: height and width of each original image, to whose pixels boxes are taken back.
        coder: turns deltas and anchors into boxes.
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


def check_limits(*, score_thresh: float, nms_thresh: float, topk_candidates: int, detections_per_img: int) -> None:
    """`ValueError` that shows the first of these that no post-processing can have."""
    for name, value in {"score_thresh": score_thresh, "nms_thresh": nms_thresh}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {value}")
    for name, value in {"topk_candidates": topk_candidates, "detections_per_img": detections_per_img}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


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
