"""COCO's matching of detections with objects, done once for every exit, so that no choice of exits repeats it.

pycocotools decides within one image and one category which detection found which object; other images play no part.
What an average precision needs of a choice of exits is therefore a selection of matches that are known already.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from ..backbone import NUM_EXITS
from ..data.coco import index_coco
from .record import ExitRecords

COCO = Params("bbox")
MAX_DETECTIONS = COCO.maxDets[-1]


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection at every exit, ordered as pycocotools ranks them: by class, falling score, image, rank there.

    Attributes:
        images: (D,) positions of the images in the records.
        exits: (D,) 1 to 4.
        labels: (D,) classes, ascending.
        ties: (D,) equal for the detections of one class and image that have the same score.
        true: (areas, IoU thresholds, D) whether it found an object that counts.
        false: (areas, IoU thresholds, D) whether it counts as a false alarm; those that COCO ignores are neither.
        objects: (areas, classes, N) how many objects of an image count.
        scores: (D,).
    """

    images: np.ndarray
    exits: np.ndarray
    labels: np.ndarray
    ties: np.ndarray
    true: np.ndarray
    false: np.ndarray
    objects: np.ndarray
    scores: np.ndarray


def match_records(records: ExitRecords) -> Matches:
    """Match the detections of all exits with the objects, for COCO's ten IoU thresholds and four ranges of area.

    The first call does it (about a millisecond an image), later calls for the same records return the same matches.
    """
    if "matches" not in records.known:
        records.known["matches"] = _match(records)
    return records.known["matches"]


def _match(records: ExitRecords) -> Matches:
    rows = _ranked(records)
    low, high = np.array(COCO.areaRng).T[:, :, None, None]
    area = rows["boxes"][:, 2] * rows["boxes"][:, 3]
    # Where no object of the class is in the image, a detection is a false alarm, if its size is in the range.
    false = np.repeat((area >= low) & (area <= high), len(COCO.iouThrs), axis=1)
    true = np.zeros_like(false)
    for at, matched, ignored in _matched_pairs(records, rows):
        true[:, :, at] = matched & ~ignored
        false[:, :, at] = ~matched & ~ignored
    same = np.ones(len(area), dtype=bool)
    for name in ("labels", "scores", "images"):
        same[1:] &= rows[name][1:] == rows[name][:-1]
    columns = {name: rows[name] for name in ("images", "exits", "labels", "scores")}
    return Matches(**columns, ties=np.cumsum(~same), true=true, false=false, objects=_count_objects(records))


def _ranked(records: ExitRecords) -> dict[str, np.ndarray]:
    """Columns of all detections in the order that `Matches` documents, boxes as xywh."""
    found = records.found
    slots = np.repeat(np.arange(NUM_EXITS * len(records)), found.offsets.diff().numpy())
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


def _matched_pairs(records: ExitRecords, rows: dict) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each image, exit and class with objects: rows of its detections, and (areas, IoUs, rows) matched, ignored."""
    slots = rows["images"] * NUM_EXITS + rows["exits"] - 1
    keys = slots * len(records.classes) + rows["labels"]
    by_key = np.argsort(keys, kind="stable")
    pairs = {(image, label) for image, label, _ in _annotations(records)}
    wanted = [(NUM_EXITS * i + k, label) for i, label in sorted(pairs) for k in range(NUM_EXITS)]
    numbers = [slot * len(records.classes) + label for slot, label in wanted]
    starts, ends = (np.searchsorted(keys[by_key], numbers, side) for side in ("left", "right"))
    at = {pair: by_key[start:end] for pair, start, end in zip(wanted, starts, ends, strict=True) if end > start}
    evaluation = _evaluation(records, rows, at)
    for (slot, label), positions in at.items():
        pair = slot, label
        evaluation.ious[pair] = evaluation.computeIoU(*pair)
        results = [evaluation.evaluateImg(*pair, area, MAX_DETECTIONS) for area in COCO.areaRng]
        yield positions, *(np.array([r[name] for r in results], dtype=bool) for name in ("dtMatches", "dtIgnore"))


def _evaluation(records: ExitRecords, rows: dict, at: dict) -> COCOeval:
    """pycocotools on the pairs `at`: an image at an exit stands for an image, a label for a category."""
    objects, found = [], []
    for image, label, annotation in _annotations(records):
        for slot in range(NUM_EXITS * image, NUM_EXITS * (image + 1)):
            objects.append({**annotation, "id": len(objects) + 1, "image_id": slot, "category_id": label})
    for (slot, label), positions in at.items():
        boxes, scores = rows["boxes"][positions].tolist(), rows["scores"][positions].tolist()
        for box, score in zip(boxes, scores, strict=True):
            row = {"id": len(found) + 1, "image_id": slot, "category_id": label, "bbox": box, "score": score}
            found.append({**row, "area": box[2] * box[3], "iscrowd": 0})
    content = {
        "images": [{"id": slot} for slot in range(NUM_EXITS * len(records))],
        "categories": [{"id": label} for label in range(len(records.classes))],
    }
    evaluation = COCOeval(
        index_coco({**content, "annotations": objects}), index_coco({**content, "annotations": found}), "bbox"
    )
    evaluation._prepare()  # sorts objects and detections by image and category
    return evaluation


def _annotations(records: ExitRecords) -> Iterator[tuple[int, int, dict]]:
    """Position of the image, label, and COCO's row of each annotation."""
    truth = records.truth
    images = np.repeat(np.arange(len(records)), truth.offsets.diff().numpy())
    columns = (truth.labels, truth.boxes, truth.areas, truth.crowds)
    for image, label, box, area, crowd in zip(images.tolist(), *(c.tolist() for c in columns), strict=True):
        yield image, label, {"bbox": box, "area": area, "iscrowd": int(crowd)}


def _count_objects(records: ExitRecords) -> np.ndarray:
    truth = records.truth
    images = np.repeat(np.arange(len(records)), truth.offsets.diff().numpy())
    areas, crowds, labels = (values.numpy() for values in (truth.areas, truth.crowds, truth.labels))
    objects = np.zeros((len(COCO.areaRng), len(records.classes), len(records)), dtype=np.int64)
    for counted, (low, high) in zip(objects, COCO.areaRng, strict=True):
        in_range = ~crowds & (areas >= low) & (areas <= high)
        np.add.at(counted, (labels[in_range], images[in_range]), 1)
    return objects
