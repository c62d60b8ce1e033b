"""Compute what the sliders of chapter 5 show, book/interactive/thresholds.json: python tools/sliders.py.

The shipped detector "scenes" goes once over the chapter's test scenes. A browser can count from an image's confidences
where it leaves, but not an mAP; so that is computed here for every setting of the sliders. The table that stands in the
chapter for readers without the sliders is written from the same numbers.

`--check` compares instead, without running the detector: its weights, the scenes' version and the chapter's table.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
import sys
from pathlib import Path

import nbformat
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize, to_pil_image

from earlyexit import course, load_detector, sweep
from earlyexit.data.scenes.composition import GENERATOR_VERSION
from earlyexit.evaluation import ExitRecords, collect_records, exit_confidences, match_records, threshold_exits
from earlyexit.evaluation.matching import Matches, map_of
from earlyexit.evaluation.policies import limit_for
from earlyexit.evaluation.records import hash_weights

BOOK = Path(__file__).resolve().parent.parent / "book"
PATH, CHAPTER = BOOK / "interactive" / "thresholds.json", BOOK / "05_thresholds.ipynb"
SCENES = 600
# The steps of a slider: the share of all calibration images whose confidence at that exit is enough.
SHARES = (1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0)
STEPS = range(len(SHARES))
PICTURES, SIDE = 16, 64
# Rows of the chapter's table, as steps of the three sliders.
ROWS = ((0, 0, 0), (12, 0, 0), (12, 12, 0), (6, 6, 6), (9, 9, 9), (12, 6, 6), (12, 9, 9), (12, 12, 12))
TABLE = re.compile(r"(?s)(?<=<div id=\"threshold-sliders\">\n\n).*?(?=\n\n</div>)")


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
    memory = io.BytesIO()
    small = resize(dataset[image][0], [SIDE, SIDE], antialias=True)
    to_pil_image(small).save(memory, "JPEG", quality=80)
    matches = match_records(records)
    return {
        "image": image,
        "name": records.classes[records.labels[image]],
        "finds": [int(finds(matches, image, exit)) for exit in (1, 2, 3, 4)],
        "src": f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}",
    }


def about() -> dict:
    """What the numbers depend on, as far as it is known without running the detector."""
    weights = hash_weights(load_detector("scenes")[0])
    return {"weights": weights, "scenes": [GENERATOR_VERSION, SCENES], "shares": list(SHARES)}


def compute() -> dict:
    """Everything that the sliders show."""
    here = course.start(count=SCENES)
    records = collect_records(here.model, here.dataset)
    calibration = exit_confidences(here.model, here.calibration)
    thresholds = limits(calibration)
    (gmacs,) = {tuple(column) for column in records.gmacs.T.tolist()}  # all scenes have one size
    curve = sweep(records, calibration, metrics=("mAP",))
    return {
        "about": about(),
        "limits": [[None if math.isinf(value) else round(value, 6) for value in values] for values in thresholds],
        "reached": reached(records.confidence, thresholds).tolist(),
        "gmacs": [round(value, 6) for value in gmacs],
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


def with_table(chapter: nbformat.NotebookNode, data: dict) -> nbformat.NotebookNode:
    """The chapter with the table of these numbers in its cell."""
    (cell,) = [cell for cell in chapter.cells if cell.id == "sliders"]
    cell.source = TABLE.sub(lambda _: table(data), cell.source)
    return chapter


def problems() -> list[str]:
    """What has moved on since the numbers were written."""
    if not PATH.exists():
        return [f"there is no {PATH.name}"]
    data = json.loads(PATH.read_text(encoding="utf-8"))
    found = [f"{PATH.name} was made of other {key}" for key, value in about().items() if data["about"][key] != value]
    stored = nbformat.read(CHAPTER, as_version=4)
    if with_table(nbformat.read(CHAPTER, as_version=4), data) != stored:
        found.append(f"{CHAPTER.name} has another table than {PATH.name}")
    return found


def main() -> int:
    """Compute or compare; return the exit status."""
    if "--check" in sys.argv[1:]:
        found = problems()
        print("\n".join([*found, "run tools/sliders.py"] if found else ["the sliders show this detector"]))
        return 1 if found else 0
    data = compute()
    PATH.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    nbformat.write(with_table(nbformat.read(CHAPTER, as_version=4), data), CHAPTER)
    print(f"wrote {PATH.name}, {PATH.stat().st_size / 1000:.0f} kB, and the table in {CHAPTER.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
