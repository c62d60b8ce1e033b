"""Compute what the sliders of chapter 5 show, book/interactive/thresholds.json: python tools/sliders.py.

The shipped detector "scenes" goes once over the chapter's test scenes. A browser can count from an image's confidences
where it leaves, but not an mAP; so that is computed here for every setting of the sliders. The table that stands in the
chapter for readers without the sliders is written from the same numbers.

Milliseconds are the study's, of the same network. `--check` compares what they are made of (tools/interactive.py).
"""

from __future__ import annotations

import itertools
import math
import sys

import torch
from interactive import Part, made_of, thumbnail
from torch import Tensor

from earlyexit import course, sweep
from earlyexit.evaluation import ExitRecords, collect_records, exit_confidences, match_records, threshold_exits
from earlyexit.evaluation.matching import Matches, map_of
from earlyexit.evaluation.policies import limit_for
from earlyexit.study import open_study, select

SCENES = 600
# The steps of a slider: the share of all calibration images whose confidence at that exit is enough.
SHARES = (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0)
STEPS = range(len(SHARES))
PICTURES, SIDE = 16, 64
# Rows of the chapter's table, as steps of the three sliders.
ROWS = ((0, 0, 0), (12, 0, 0), (12, 12, 0), (6, 6, 6), (9, 9, 9), (12, 6, 6), (12, 9, 9), (12, 12, 12))


def limits(confidence: Tensor) -> list[list[float]]:
    """The thresholds of exits 1-3 at each step, from the (4, N) confidences of the calibration images."""
    images = confidence.shape[1]
    inner = [[limit_for(at_exit, round(share * images)) for share in SHARES[1:]] for at_exit in confidence[:3]]
    return [[0.0, *values] for values in inner]  # at the first step everybody leaves


def reached(confidence: Tensor, thresholds: list[list[float]]) -> Tensor:
    """(3, N) how many of the steps' thresholds each image's confidence reaches: it leaves at any step below that."""
    levels = torch.tensor(thresholds, dtype=torch.float64)
    return (confidence[:3, :, None].double() >= levels[:, None]).sum(2)


def maps(records: ExitRecords, thresholds: list[list[float]]) -> list[float]:
    """mAP at every setting of the sliders, that of exit 3 running fastest."""
    matches = match_records(records)
    chosen = [threshold_exits(records.confidence, setting) for setting in itertools.product(*thresholds)]
    different = {tuple(exits.tolist()): exits for exits in chosen}
    known = {key: round(map_of(matches, exits), 1) for key, exits in different.items()}
    return [known[tuple(exits.tolist())] for exits in chosen]


def finds(matches: Matches, image: int, exit: int) -> bool:
    """Whether the surest detection of an image at an exit is its object, at an IoU of at least 0.5."""
    of_image = (matches.images == image) & (matches.exits == exit)
    at = of_image.nonzero()[0]
    return bool(len(at)) and bool(matches.true[0, 0, at[matches.scores[at].argmax()]])


def spread(records: ExitRecords) -> list[int]:
    """Positions of the pictures: evenly from the least to the most confident at exit 1, so that steps move some."""
    order = records.confidence[0].argsort()
    return order[torch.linspace(0, len(records) - 1, PICTURES).round().long()].tolist()


def picture(records: ExitRecords, dataset, image: int) -> dict:
    """What is shown of an image."""
    matches = match_records(records)
    return {
        "image": image,
        "name": records.classes[records.labels[image]],
        "finds": [int(finds(matches, image, exit)) for exit in (1, 2, 3, 4)],
        "src": thumbnail(dataset[image][0], SIDE),
    }


def recorded(gmacs: tuple[float, ...]) -> tuple[list[float], str]:
    """Median milliseconds of exits 1-4 in the study, one image at a time, and on what; of a network of these GMACs."""
    rows = select(open_study().table("latency"), model="nano", batch_size=1)
    if [row["gmacs"] for row in rows] != [round(value, 6) for value in gmacs]:
        raise ValueError(f"the study timed a network of {[row['gmacs'] for row in rows]} GMACs, this one has {gmacs}")
    return [row["median_ms"] for row in rows], f"{rows[0]['threads']} {rows[0]['device'].upper()} threads"


def compute() -> dict:
    """Everything that the sliders show."""
    here = course.start(count=SCENES)
    records = collect_records(here.model, here.dataset)
    calibration = exit_confidences(here.model, here.calibration)
    thresholds = limits(calibration)
    (gmacs,) = {tuple(column) for column in records.gmacs.T.tolist()}  # all scenes have one size
    ms, clock = recorded(gmacs)
    curve = sweep(records, calibration, metrics=("mAP",))
    return {
        "limits": [[None if math.isinf(value) else round(value, 6) for value in values] for values in thresholds],
        "reached": reached(records.confidence, thresholds).tolist(),
        "gmacs": [round(value, 6) for value in gmacs],
        "ms": ms,
        "clock": clock,
        "maps": maps(records, thresholds),
        "curve": [[round(row["gmacs"], 6), round(row["mAP"], 1)] for row in curve],
        "pictures": [picture(records, here.dataset, image) for image in spread(records)],
    }


def exits_at(data: dict, setting: tuple[int, ...]) -> list[int]:
    """Where each image leaves at steps of the three sliders, as the browser counts it."""
    passed = [[levels > step for levels in row] for row, step in zip(data["reached"], setting, strict=True)]
    return [[*leaves, True].index(True) + 1 for leaves in zip(*passed, strict=True)]


def result(data: dict, setting: tuple[int, ...]) -> dict:
    """mAP, share of full depth's GMACs, and the shares of images at exits 1-4."""
    exits = exits_at(data, setting)
    place = (setting[0] * len(SHARES) + setting[1]) * len(SHARES) + setting[2]
    spent = sum(data["gmacs"][exit - 1] for exit in exits) / len(exits)
    shares = [exits.count(exit) / len(exits) for exit in (1, 2, 3, 4)]
    return {"mAP": data["maps"][place], "compute": spent / data["gmacs"][3], "shares": shares}


def table(data: dict) -> str:
    """Some settings as a table, for readers without the sliders."""
    head = "| thresholds of exits 1, 2, 3 | leave at exits 1, 2, 3, 4 | GMACs of full depth | mAP |"
    lines = [head, "|---|---|--:|--:|"]
    for setting in ROWS:
        values = [data["limits"][k][step] for k, step in enumerate(setting)]
        said = ", ".join("∞" if value is None else f"{value:.4f}" if value else "0" for value in values)
        found = result(data, setting)
        shares = ", ".join(f"{100 * share:.0f} %" for share in found["shares"])
        lines.append(f"| {said} | {shares} | {100 * found['compute']:.1f} % | {found['mAP']:.1f} |")
    return "\n".join(lines)


PART = Part(
    place="threshold-sliders",
    name="thresholds",
    chapter="05_thresholds.ipynb",
    cell="sliders",
    about=lambda: made_of("scenes", SCENES, shares=list(SHARES)),
    compute=compute,
    table=table,
)

if __name__ == "__main__":
    sys.exit(PART.main())
