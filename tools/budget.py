"""Compute what the slider of chapter 11 shows, book/interactive/budget.json: python tools/budget.py.

The shipped detector "scenes-many" goes once over calibration and test scenes with none to four objects. At each budget
the rule of worth, the paper's rule and lots say who leaves where, as in the study (earlyexit/study/choosing.py).
`--check` compares what the data are made of (tools/interactive.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from gallery import EXITS, SCENES, SHIPPED, SHOWN, objects_of
from interactive import Part, made_of, thumbnail
from torch import Tensor
from torchvision.ops import box_iou

from earlyexit import load_detector
from earlyexit.data import scene_dataset
from earlyexit.evaluation import ExitRecords, collect_records, match_records
from earlyexit.evaluation.matching import Matches, map_of
from earlyexit.study.choosing import policies
from earlyexit.study.opponents import Choosing, frontier, upper_hull

BUDGETS = [round(0.25 + 0.05 * step, 2) for step in range(16)]  # of full depth's GMACs
RULES = {"worth": "worth", "max softmax": "the paper's rule"}  # as the study and the chapter call them
DRAWS = 20  # of lots; the first of them sends the pictures
PICTURES, SIDE = (2, 5, 4, 3, 2), 64  # with none to four objects


def lots(points: Sequence[tuple[float, float]], gmacs: float, images: int) -> list[Tensor]:
    """Draws of exits (N,) by a lottery between two exits that takes so many GMACs on average.

    An image has the same luck at every budget: with more of it, images only move towards later exits.

    Args:
        points: GMACs and mAP of each exit for everybody on the calibration images.
        gmacs: wanted.
        images: how many there are.
    """
    hull = upper_hull(points)
    place = float(np.interp(gmacs, [points[k][0] for k in hull], range(len(hull))))
    low = min(int(place), len(hull) - 2)
    luck = torch.rand(DRAWS, images, generator=torch.Generator().manual_seed(0))
    return list(torch.where(luck < place - low, hull[low + 1] + 1, hull[low] + 1))


def row(matches: Matches, records: ExitRecords, draws: Sequence[Tensor], shown: Sequence[int]) -> list:
    """Mean mAP and GMACs of some draws of exits, and of the first the shares of the exits and where pictures leave."""
    maps = float(np.mean([map_of(matches, exits) for exits in draws]))
    gmacs = float(np.mean([records.mean_gmacs(exits) for exits in draws]))
    shares = [round(100 * float((draws[0] == exit).double().mean()), 1) for exit in EXITS]
    return [round(maps, 1), round(gmacs, 6), shares, (draws[0][list(shown)] - 1).tolist()]


def finds(records: ExitRecords, image: int, exit: int) -> int:
    """How many objects of an image are found at an exit: right class, IoU at least 0.5, a score that is drawn."""
    (boxes, labels), found = objects_of(records, image), records.detection(image, exit)
    right = (labels[:, None] == found["labels"]) & (box_iou(boxes, found["boxes"]) >= 0.5)
    return int((right & (found["scores"] >= SHOWN)).any(1).sum())


def compute() -> dict:
    """Everything that the slider shows."""
    model, of = load_detector(SHIPPED)[0], {}
    for split in ("calibration", "test"):
        of[split] = scene_dataset(split, SCENES, single=False)
    records = {split: collect_records(model, dataset) for split, dataset in of.items()}
    test, (gmacs,) = records["test"], {tuple(column) for column in records["test"].gmacs.T.tolist()}
    run, matches = Choosing(SHIPPED, **records, unit=gmacs[3]), match_records(test)
    objects, points, choose = test.truth.offsets.diff(), frontier(records["calibration"]), policies(run)
    shown = [i for number, count in enumerate(PICTURES) for i in (objects == number).nonzero()[:count, 0].tolist()]
    rules = {
        said: [row(matches, test, [choose[rule](budget * gmacs[3])[0]], shown) for budget in BUDGETS]
        for rule, said in RULES.items()
    }
    drawn = [lots(points, budget * gmacs[3], len(test)) for budget in BUDGETS]
    rules["lots"] = [row(matches, test, draws, shown) for draws in drawn]
    pictures = [
        {
            "objects": int(objects[image]),
            "finds": [finds(test, image, exit) for exit in EXITS],
            "src": thumbnail(of["test"][image][0], SIDE),
        }
        for image in shown
    ]
    return {"gmacs": [round(value, 6) for value in gmacs], "rules": rules, "pictures": pictures}


def table(data: dict) -> str:
    """mAP at every second budget, for readers without the slider."""
    lines = [f"| budget, GMACs of full depth | {' | '.join(data['rules'])} |", "|--:|" + "--:|" * len(data["rules"])]
    for step in range(1, len(BUDGETS), 2):
        maps = [f"{rows[step][0]:.1f}" for rows in data["rules"].values()]
        lines.append(f"| {data['about']['budgets'][step]:.0%} | {' | '.join(maps)} |".replace("%", " %"))
    return "\n".join(lines)


PART = Part(
    place="budget-slider",
    name="budget",
    chapter="11_who_should_leave.ipynb",
    cell="budget-slider",
    about=lambda: made_of(SHIPPED, SCENES, budgets=BUDGETS),
    compute=compute,
    table=table,
)

if __name__ == "__main__":
    sys.exit(PART.main())
