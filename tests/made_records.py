"""Exit records made of random numbers, with all that COCO's rules care about, and pycocotools as a judge of them."""

from types import SimpleNamespace

import numpy as np
import torch

from earlyexit.data.coco import index_coco
from earlyexit.evaluation.coco import coco_metrics, to_coco
from earlyexit.evaluation.records import Detections, ExitRecords, Truth, offsets_of


def made_records(
    images=40, classes=6, objects=(0, 1, 2, 3), crowds=0.2, seed=0, found=(0, 12), many=130
) -> ExitRecords:
    """Random records: class 0 has no object, class 1 no detection; scores of one decimal, so that many are equal.

    Boxes lie in all three of COCO's ranges of area. Image ids are not in ascending order. Image 0 has `many`
    detections of one class at each exit, more than COCO counts.
    """
    rng = np.random.default_rng(seed)
    counts = rng.choice(objects, images)
    total = int(counts.sum())
    boxes = _boxes(rng, total)
    truth = Truth(
        boxes=torch.from_numpy(boxes),
        areas=torch.from_numpy(boxes[:, 2] * boxes[:, 3] * rng.choice([1, 0.6], total)),
        crowds=torch.from_numpy(rng.random(total) < crowds),
        labels=torch.from_numpy(rng.integers(1, classes, total)),
        offsets=offsets_of(torch.from_numpy(counts)),
    )
    slots = rng.integers(*found, 4 * images)
    slots[:4] = many
    rows = [_found(rng, truth, slot // 4, n, classes) for slot, n in enumerate(slots)]
    columns = [torch.cat(column) for column in zip(*rows, strict=True)]
    return ExitRecords(
        image_ids=torch.from_numpy(rng.permutation(images) * 7 + 1),
        logits=torch.from_numpy(rng.standard_normal((4, images, classes))).float(),
        gmacs=torch.from_numpy(rng.random((4, images)).cumsum(0) + 1),
        found=Detections(*columns, offsets=offsets_of(torch.from_numpy(slots))),
        truth=truth,
        about={"classes": [f"class {c}" for c in range(classes)], "category_ids": [10 * c + 3 for c in range(classes)]},
    )


def _boxes(rng, count: int) -> np.ndarray:
    return np.concatenate([rng.uniform(0, 40, (count, 2)), rng.choice([20.0, 60.0, 150.0], (count, 2))], axis=1)


def _found(rng, truth: Truth, image: int, count: int, classes: int):
    """Half of the detections lie near an object of the image and mostly have its class."""
    boxes, labels = _boxes(rng, count), rng.choice([0, *range(2, classes)], count)
    start, end = truth.offsets[image : image + 2].tolist()
    for row in range(count if end > start else 0):
        if rng.random() < 0.5:
            of = rng.integers(start, end)
            boxes[row] = truth.boxes[of].numpy() + rng.normal(0, 2, 4)
            labels[row] = truth.labels[of] if rng.random() < 0.8 and truth.labels[of] != 1 else labels[row]
    if image == 0:
        labels[:] = 2
    boxes[:, 2:] += boxes[:, :2]
    scores = np.sort(rng.integers(1, 10, count) / 10)[::-1].copy()  # best first, as a detector gives them
    return torch.from_numpy(boxes).float(), torch.from_numpy(scores).float(), torch.from_numpy(labels)


def judged(records: ExitRecords, chosen: torch.Tensor, counts=None) -> dict:
    """pycocotools' metrics of a choice of exits; an image that counts k times is there k times, under new ids."""
    counts = np.ones(len(records), dtype=int) if counts is None else counts
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": c, "name": ""} for c in records.about["category_ids"]],
    }
    found = []
    for i, exit in enumerate(chosen.tolist()):
        for copy in range(counts[i]):
            image_id = int(records.image_ids[i]) * 100 + copy
            content["images"].append({"id": image_id})
            for j in range(*records.truth.offsets[i : i + 2].tolist()):
                row = {"id": len(content["annotations"]) + 1, "image_id": image_id}
                row |= {"category_id": records.about["category_ids"][int(records.truth.labels[j])]}
                row |= {"bbox": records.truth.boxes[j].tolist(), "area": float(records.truth.areas[j])}
                content["annotations"].append({**row, "iscrowd": int(records.truth.crowds[j])})
            found += to_coco(records.detection(i, exit), image_id, records.about["category_ids"])
    dataset = SimpleNamespace(coco=index_coco(content), ids=[image["id"] for image in content["images"]])
    return coco_metrics(dataset, found)
