"""Compute what the gallery of chapter 9 shows, book/interactive/gallery.json: python tools/gallery.py.

The shipped detector "scenes-many" goes once over test scenes with none to four objects. Of sixty of them the page holds
the picture, its objects, and what the four exits find. `--check` compares what they are made of (tools/interactive.py).
"""

from __future__ import annotations

import sys

import torch
from interactive import Part, made_of, thumbnail
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from earlyexit import load_detector
from earlyexit.data import CocoDataset, scene_dataset
from earlyexit.evaluation import ExitRecords, collect_records, rule_scores, threshold_exits
from earlyexit.evaluation.fitting import WHERE_IT_PAYS

SHIPPED, SCENES = "scenes-many", 600
OF_EACH = (6, 14, 14, 13, 13)  # pictures with none to four objects
SIDE = 128
SHOWN = 0.2  # detections from this score on are drawn
FEWEST = 6  # and no more than so many
EXITS = (1, 2, 3, 4)


def objects_of(records: ExitRecords, image: int) -> tuple[Tensor, Tensor]:
    """Boxes (M, 4) as corners and labels (M,) of an image's objects."""
    inside = slice(*records.truth.offsets[image : image + 2].tolist())
    return box_convert(records.truth.boxes[inside], "xywh", "xyxy").float(), records.truth.labels[inside]


def success(records: ExitRecords, image: int, exit: int) -> float:
    """Chapter 9's success, summed over the objects: of each the largest score x IoU of a detection of its class."""
    (boxes, labels), found = objects_of(records, image), records.detection(image, exit)
    right = (labels[:, None] == found["labels"]) * box_iou(boxes, found["boxes"]) * found["scores"]
    return float(right.amax(1).sum()) if right.numel() else 0.0


def successes(records: ExitRecords) -> Tensor:
    """(4, N) the success of every image at every exit."""
    return torch.tensor([[success(records, image, exit) for image in range(len(records))] for exit in EXITS])


def spread(objects: Tensor, gain: Tensor) -> list[int]:
    """Positions of the pictures: of each number of objects, evenly from the least gain to the largest."""
    chosen = []
    for number, count in enumerate(OF_EACH):
        those = (objects == number).nonzero()[:, 0]
        ordered = those[gain[those].argsort(stable=True)]
        chosen += ordered[torch.linspace(0, len(those) - 1, count).round().long()].tolist()
    return chosen


def found_at(records: ExitRecords, image: int, exit: int, scale: float) -> list[list]:
    """Detections that are drawn, the surest first: label, score in percent, corners, whether it finds an object."""
    (boxes, labels), found = objects_of(records, image), records.detection(image, exit)
    rows = []
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
        if score >= SHOWN and len(rows) < FEWEST:
            right = bool(((box_iou(box[None], boxes)[0] >= 0.5) & (labels == label)).any())
            rows.append([int(label), round(100 * float(score)), *(scale * box).round().int().tolist(), int(right)])
    return rows


def picture(records: ExitRecords, dataset: CocoDataset, image: int) -> dict:
    """What the page holds of an image, boxes in pixels of the thumbnail."""
    shown, (boxes, labels) = dataset[image][0], objects_of(records, image)
    scale = SIDE / shown.shape[-1]
    corners = (scale * boxes).round().int().tolist()
    return {
        "src": thumbnail(shown, SIDE, quality=70),
        "objects": [[label, *box] for label, box in zip(labels.tolist(), corners, strict=True)],
        "found": [found_at(records, image, exit, scale) for exit in EXITS],
    }


def compute() -> dict:
    """Everything that the gallery shows."""
    model, dataset = load_detector(SHIPPED)[0], scene_dataset("test", SCENES, single=False)
    records = collect_records(model, dataset)
    exits, reached = threshold_exits(rule_scores(records, model.rule), WHERE_IT_PAYS), successes(records)
    objects, gain = records.truth.offsets.diff(), reached[3] - reached[0]
    pictures = [
        {"exit": int(exits[image]), "success": [round(float(at), 2) for at in reached[:, image]]}
        | picture(records, dataset, image)
        for image in spread(objects, gain)
    ]
    rows = []
    for number in range(len(OF_EACH)):
        those = objects == number
        shares = [round(100 * float((exits[those] == exit).double().mean())) for exit in EXITS]
        rows.append([number, int(those.sum()), *(round(float(at[those].mean()), 2) for at in reached), shares])
    return {"classes": records.classes, "side": SIDE, "shown": SHOWN, "rows": rows, "pictures": pictures}


def table(data: dict) -> str:
    """All scenes by their number of objects, for readers without the gallery."""
    head = "| objects | scenes | success at exit 1 | at exit 4 | gain | leave at exits 1, 2, 3, 4 |"
    lines = [head, "|--:|--:|--:|--:|--:|---|"]
    for number, scenes, first, _, _, last, shares in data["rows"]:
        left = ", ".join(f"{share} %" for share in shares)
        lines.append(f"| {number} | {scenes} | {first:.2f} | {last:.2f} | {last - first:+.2f} | {left} |")
    return "\n".join(lines)


PART = Part(
    place="gallery",
    name="gallery",
    chapter="09_easy_and_hard.ipynb",
    cell="gallery",
    about=lambda: made_of(SHIPPED, SCENES),
    compute=compute,
    table=table,
)

if __name__ == "__main__":
    sys.exit(PART.main())
