"""COCO's matching of detections with objects, done once for every exit, so that no choice of exits repeats it.

pycocotools decides within one image and one category which detection found which object; other images play no part.
What an average precision needs of a choice of exits is therefore a selection of matches that are known already.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval, Params
from torch import Tensor

from ..data.coco import index_coco
from ..model.backbone import NUM_EXITS
from ..model.exits import EMPTY_EXIT
from .coco import METRICS
from .records import ExitRecords, owners_of

COCO = Params("bbox")
MAX_DETECTIONS = COCO.maxDets[-1]
# Of each metric: which of COCO's ranges of area, and the IoU threshold unless it is the mean over all ten.
_OF = dict(zip(METRICS, ((0, None), (0, 0.5), (0, 0.75), (1, None), (2, None), (3, None)), strict=True))


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection at every exit, ordered as pycocotools ranks them: by class, falling score, image, rank there."""

    images: np.ndarray  #: (D,) positions of the images in the records
    exits: np.ndarray  #: (D,) 1 to 4
    labels: np.ndarray  #: (D,) classes, ascending
    ties: np.ndarray  #: (D,) equal for the detections of one class and image that have the same score
    true: np.ndarray  #: (areas, IoU thresholds, D) whether it found an object that counts
    false: np.ndarray  #: (areas, IoU thresholds, D) whether it is a false alarm; those that COCO ignores are neither
    objects: np.ndarray  #: (areas, classes, N) how many objects of an image count
    scores: np.ndarray  #: (D,)


def match_records(records: ExitRecords) -> Matches:
    """Match the detections of all exits with the objects, for COCO's ten IoU thresholds and four ranges of area.

    The first call does it (about a millisecond an image), later calls for the same records return the same matches.
    """
    if "matches" not in records.known:
        records.known["matches"] = _match(records)
    return records.known["matches"]


def average_precision(
    matches: Matches, chosen: Tensor, counts: np.ndarray | None = None, *, metrics=METRICS
) -> dict[str, float | None]:
    """COCO's metrics in percent if image i leaves at exit chosen[i]; equal to pycocotools' to the last bit.

    Args:
        chosen: (N,) 1 to 4, or 0 for an image without detections.
        counts: (N,) whole numbers; an image counts that often, its copies being neighbours. Each once unless given.
        metrics: those wanted; "mAP" alone is several times faster than all six.

    Returns:
        The metrics by name, None where no object is in the range of area.
    """
    if isinstance(metrics, str) or not metrics or not set(metrics) <= set(_OF):
        raise ValueError(f"metrics must be a list of some of {list(_OF)}, got {metrics!r}")
    images = matches.objects.shape[2]
    chosen = check_chosen(chosen, images).numpy()
    counts = np.ones(images, dtype=np.int64) if counts is None else np.asarray(counts)
    if counts.shape != (images,) or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"counts must be {images} whole numbers of at least 0, got {counts.dtype} {counts.shape}")
    rows = _select(matches, chosen, counts)
    tables = {area: precisions(matches, area, rows, counts) for area in {_OF[name][0] for name in metrics}}
    return {name: _mean(tables[_OF[name][0]], _OF[name][1]) for name in metrics}


def map_of(matches: Matches, exits: Tensor, counts: np.ndarray | None = None) -> float:
    """mAP in percent, 0 without objects; `counts` says how often each image is drawn."""
    return average_precision(matches, exits, counts, metrics=("mAP",))["mAP"] or 0.0


def marginal_precision(matches: Matches, chosen: Tensor) -> Tensor:
    """(4, N): what the detections of each image at each exit add to the mAP of a choice of exits, to first order.

    Of the detections of a class in order of falling score let h be those that found an object so far and n all so
    far. The average precision is about the sum of h / n over those that found an object, divided by the number of
    objects. One more detection adds its own h / n if it found an object, and for everything behind it 1 / n for one
    hit more, and - h / n^2 for one detection more.
    """
    true, false = matches.true[0], matches.false[0]  # of objects of any size
    worth = np.zeros(len(matches.images))
    kept = matches.exits == chosen.numpy()[matches.images]
    objects = matches.objects[0].sum(1)
    for label in np.flatnonzero(objects):
        of_class = slice(*np.searchsorted(matches.labels, [label, label + 1]))
        hit, miss, inside = true[:, of_class], false[:, of_class], kept[of_class]
        ranked = hit[:, inside]
        hits = ranked.cumsum(1)
        so_far = np.maximum((ranked | miss[:, inside]).cumsum(1), 1)
        place = inside.cumsum()  # how many of the ranking come no later
        precision = np.pad(hits / so_far, ((0, 0), (1, 0)), constant_values=1)[:, place]
        one_more_hit = _still_to_come(ranked / so_far)[:, place]
        one_more = _still_to_come(-(ranked * hits) / so_far**2)[:, place]
        value = hit * (precision + one_more_hit + one_more) + miss * one_more
        worth[of_class] = value.mean(0) / objects[label]
    total = np.zeros((NUM_EXITS, matches.objects.shape[2]))
    np.add.at(total, (matches.exits - 1, matches.images), worth / max(np.count_nonzero(objects), 1))
    return torch.from_numpy(total)


def check_chosen(chosen: Tensor, images: int) -> Tensor:
    """`chosen` as an int64 tensor on the CPU; `ValueError` unless it names an exit for each image."""
    chosen = torch.as_tensor(chosen).cpu()
    if chosen.shape != (images,) or chosen.is_floating_point() or chosen.is_complex():
        raise ValueError(f"chosen must name an exit for each of {images} images, got {chosen.dtype} {chosen.shape}")
    bad = chosen[(chosen < EMPTY_EXIT) | (chosen > NUM_EXITS)]
    if len(bad):
        raise ValueError(f"chosen must hold exits 1 to {NUM_EXITS}, or 0 for skipped images, got {bad[:5].tolist()}")
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


def _still_to_come(values: np.ndarray) -> np.ndarray:
    """(T, r) values give (T, r + 1): at place p the sum of those from p on."""
    return np.pad(values[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1)))


def _match(records: ExitRecords) -> Matches:
    rows = _ranked(records)
    low, high = np.array(COCO.areaRng).T[:, :, None, None]
    area = rows["boxes"][:, 2] * rows["boxes"][:, 3]
    # Where no object of the class is in the image, a detection is a false alarm, if its size is in the range.
    false = np.repeat((area >= low) & (area <= high), len(COCO.iouThrs), axis=1)
    true = np.zeros_like(false)
    objects = np.zeros((len(COCO.areaRng), len(records.classes), len(records)), dtype=np.int64)
    for (slot, label), at, results in _matched_pairs(records, rows):
        matched, ignored = (np.array([r[name] for r in results], dtype=bool) for name in ("dtMatches", "dtIgnore"))
        true[:, :, at] = matched & ~ignored
        false[:, :, at] = ~matched & ~ignored
        objects[:, label, slot // NUM_EXITS] = [np.count_nonzero(r["gtIgnore"] == 0) for r in results]
    same = np.ones(len(area), dtype=bool)
    for name in ("labels", "scores", "images"):
        same[1:] &= rows[name][1:] == rows[name][:-1]
    columns = {name: rows[name] for name in ("images", "exits", "labels", "scores")}
    return Matches(**columns, ties=np.cumsum(~same), true=true, false=false, objects=objects)


def _ranked(records: ExitRecords) -> dict[str, np.ndarray]:
    """Columns of all detections in the order that `Matches` documents, boxes as xywh."""
    found = records.found
    slots = owners_of(found.offsets).numpy()
    boxes = found.boxes.clone()
    boxes[:, 2:] -= boxes[:, :2]  # in float32, as `to_coco` does
    rows = {
        "images": slots // NUM_EXITS,
        "exits": slots % NUM_EXITS + 1,
        "labels": found.labels.numpy(),
        "scores": found.scores.double().numpy(),
        "boxes": boxes.double().numpy(),
    }
    best_first = np.lexsort((-rows["scores"], rows["labels"], slots))  # stable, as pycocotools' mergesort
    starts = np.flatnonzero(np.diff(slots[best_first] * len(records.classes) + rows["labels"][best_first], prepend=-1))
    rank = np.arange(len(slots)) - np.repeat(starts, np.diff(starts, append=len(slots)))
    kept = best_first[rank < MAX_DETECTIONS]
    ids = records.image_ids.numpy()[rows["images"][kept]]  # pycocotools goes through images in the order of their ids
    order = kept[np.lexsort((rank[rank < MAX_DETECTIONS], ids, -rows["scores"][kept], rows["labels"][kept]))]
    return {name: column[order] for name, column in rows.items()}


def _matched_pairs(records: ExitRecords, rows: dict) -> Iterator[tuple[tuple[int, int], list[int], list[dict]]]:
    """Each image at an exit and class with objects, the rows of its detections, and what pycocotools says by area."""
    pairs = {(image, label) for image, label, _ in _annotations(records)}
    at = {(NUM_EXITS * image + k, label): [] for image, label in sorted(pairs) for k in range(NUM_EXITS)}
    slots = rows["images"] * NUM_EXITS + rows["exits"] - 1
    for position, pair in enumerate(zip(slots.tolist(), rows["labels"].tolist(), strict=True)):
        if pair in at:
            at[pair].append(position)
    evaluation = _evaluation(records, rows, at)
    for pair, positions in at.items():
        evaluation.ious[pair] = evaluation.computeIoU(*pair)
        yield pair, positions, [evaluation.evaluateImg(*pair, area, MAX_DETECTIONS) for area in COCO.areaRng]


def _evaluation(records: ExitRecords, rows: dict, at: dict) -> COCOeval:
    """pycocotools on the pairs `at`: an image at an exit stands for an image, a label for a category."""
    objects = [
        {**annotation, "image_id": NUM_EXITS * image + k, "category_id": label}
        for image, label, annotation in _annotations(records)
        for k in range(NUM_EXITS)
    ]
    found = [
        {"image_id": slot, "category_id": label, "bbox": box, "score": score}
        for (slot, label), positions in at.items()
        for box, score in zip(rows["boxes"][positions].tolist(), rows["scores"][positions].tolist(), strict=True)
    ]
    content = {
        "images": [{"id": slot} for slot in range(NUM_EXITS * len(records))],
        "categories": [{"id": label} for label in range(len(records.classes))],
    }
    truth, results = (index_coco({**content, "annotations": rows}) for rows in (objects, found))
    evaluation = COCOeval(truth, results, "bbox")
    evaluation._prepare()  # sorts objects and detections by image and category
    return evaluation


def _annotations(records: ExitRecords) -> Iterator[tuple[int, int, dict]]:
    """Position of the image, label, and COCO's row of each annotation."""
    truth = records.truth
    columns = (owners_of(truth.offsets), truth.labels, truth.boxes, truth.areas, truth.crowds)
    for image, label, box, area, crowd in zip(*(c.tolist() for c in columns), strict=True):
        yield image, label, {"bbox": box, "area": area, "iscrowd": int(crowd)}
