"""COCO's average precision of any choice of exits, from matches that were made once."""

import numpy as np
import torch

from ..backbone import NUM_EXITS
from ..evaluation import METRICS
from .matching import COCO, Matches

# Of each metric: the range of area, and the IoU threshold unless it is the mean over all ten.
_OF = {
    "mAP": ("all", None),
    "AP50": ("all", 0.5),
    "AP75": ("all", 0.75),
    "AP small": ("small", None),
    "AP medium": ("medium", None),
    "AP large": ("large", None),
}


def average_precision(
    matches: Matches, chosen: torch.Tensor, counts: np.ndarray | None = None, *, metrics=METRICS
) -> dict[str, float | None]:
    """COCO's metrics in percent if image i leaves at exit chosen[i]; equal to pycocotools' to the last bit.

    Args:
        matches: of the images at all exits, see `match_records`.
        chosen: (N,) 1 to 4.
        counts: (N,) whole numbers; an image counts that often, its copies being neighbours. Each once unless given.
        metrics: those wanted; "mAP" alone is several times faster than all six.

    Returns:
        The metrics by name, None where no object is in the range of area.
    """
    if isinstance(metrics, str) or not metrics or not set(metrics) <= set(_OF):
        raise ValueError(f"metrics must be a list of some of {list(_OF)}, got {metrics!r}")
    images = matches.objects.shape[2]
    chosen = check_chosen(chosen, images).numpy()
    counts = np.ones(images, dtype=np.int64) if counts is None else _checked_counts(counts, images)
    rows = _select(matches, chosen, counts)
    areas = {COCO.areaRngLbl.index(_OF[name][0]) for name in metrics}
    tables = {area: precisions(matches, area, rows, counts) for area in areas}
    return {name: _mean(tables[COCO.areaRngLbl.index(_OF[name][0])], _OF[name][1]) for name in metrics}


def check_chosen(chosen: torch.Tensor, images: int) -> torch.Tensor:
    """`chosen` as an int64 tensor on the CPU; `ValueError` unless it names an exit for each image."""
    chosen = torch.as_tensor(chosen).cpu()
    if chosen.shape != (images,) or chosen.is_floating_point() or chosen.is_complex():
        raise ValueError(f"chosen must name an exit for each of {images} images, got {chosen.dtype} {chosen.shape}")
    bad = chosen[(chosen < 1) | (chosen > NUM_EXITS)]
    if len(bad):
        raise ValueError(f"chosen must hold exits 1 to {NUM_EXITS}, got {bad[:5].tolist()}")
    return chosen.to(torch.int64)


def precisions(matches: Matches, area: int, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """pycocotools' precision (IoU thresholds, recalls, classes) in one range of area, -1 for classes without object.

    Precision is largest where an object has just been found, so only these places are looked at.
    """
    total = matches.objects[area] @ counts  # (classes,)
    thresholds, classes = matches.true.shape[1], len(total)
    if not total.any():
        return np.full((thresholds, len(COCO.recThrs), classes), -1.0)
    true = np.take(matches.true[area], rows, axis=1)
    false = np.zeros((thresholds, len(rows) + 1), dtype=np.int32)  # false alarms before each place
    np.cumsum(np.take(matches.false[area], rows, axis=1), axis=1, out=false[:, 1:])
    labels = matches.labels[rows]
    starts = np.searchsorted(labels, np.arange(classes))
    threshold, at = np.nonzero(true)
    curve = threshold * classes + labels[at]  # one for each threshold and class, ascending
    hits = np.arange(len(at)) - np.searchsorted(curve, np.arange(thresholds * classes))[curve] + 1
    misses = (false[threshold, at] - false[threshold, starts[labels[at]]]).astype(float)
    # One place more than the longest curve has: recalls that are not reached read the zero there.
    table = np.zeros((thresholds * classes, hits.max(initial=0) + 1))
    table[curve, hits - 1] = hits / (misses + hits + np.spacing(1))
    table = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1].reshape(thresholds, classes, -1)
    needed = np.array([np.searchsorted(np.arange(1, n + 1) / max(n, 1), COCO.recThrs) for n in total])
    result = np.take_along_axis(table, np.minimum(needed, table.shape[2] - 1)[None], axis=2)
    result[:, total == 0] = -1
    return result.transpose(0, 2, 1)


def _select(matches: Matches, chosen: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Positions of the detections of the chosen exits, those of an image as often as it counts."""
    rows = np.flatnonzero(matches.exits == chosen[matches.images])
    times = counts[matches.images[rows]]
    if (times == 1).all():
        return rows
    # Copies follow one another as images do: detections of one score first of one copy, then of the next.
    repeated = np.repeat(rows, times)
    copy = np.arange(len(repeated)) - np.repeat(np.cumsum(times) - times, times)
    return repeated[np.argsort(matches.ties[repeated] * (counts.max() + 1) + copy, kind="stable")]


def _mean(table: np.ndarray, iou: float | None) -> float | None:
    values = table if iou is None else table[iou == COCO.iouThrs]
    values = values[values > -1]
    return float(100 * np.mean(values)) if len(values) else None


def _checked_counts(counts: np.ndarray, images: int) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.shape != (images,) or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"counts must be {images} whole numbers of at least 0, got {counts.dtype} {counts.shape}")
    return counts
