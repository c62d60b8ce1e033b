"""A small sample of what the study computes: whether a change of the code is a change of its results.

The numbers are of a few scenes and a few steps of training. They are stored with the results, and computed again to
see whether the code as it is would give the same.
"""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from ..data.coco import CocoDataset, coco_split
from ..data.scenes import export_scenes
from ..data.single import keep_single_objects
from ..evaluation.coco import exit_confidences
from ..evaluation.collect import collect_records
from ..evaluation.scores import random_exit, sweep
from ..model.factories import load_detector
from ..model.necks import FILLERS
from ..training.run import train
from .plan import plan

SCENES = {"train": 32, "calibration": 16, "test": 32}
TRAINED = ("proposed-0", "fair-downsample", "fair-zero")
# Relative: other processors round differently, and four steps of training make that larger. Of a few images, a single
# detection that changes its rank moves the mAP.
TOLERANCE, TOLERANCE_MAP = 0.01, 0.05


def fingerprint() -> dict[str, float]:
    """Losses after a few steps of three of the study's trainings, and what the weights "scenes" reach; seconds.

    The training's numbers depend on the weights "scenes-pretrained", from which the study starts.
    """
    state = torch.get_rng_state()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = _scenes(Path(name))
            return {**_trained(folder), **_measured(folder)}
    finally:
        torch.set_rng_state(state)


def differing(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """The names of the numbers that are not the same, or not in both."""

    def same(name: str) -> bool:
        tolerance = TOLERANCE_MAP if name.endswith("mAP") else TOLERANCE
        return math.isclose(before[name], now[name], rel_tol=tolerance, abs_tol=1e-6)

    return sorted(name for name in before.keys() | now if name not in before or name not in now or not same(name))


def check_numbers(out: str | Path) -> list[str]:
    """The numbers of the sample that the code as it is gives differently than when the results in `out` were made.

    Raises:
        ValueError: if there are no results.
    """
    path = Path(out) / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{str(out)!r} holds no manifest.json: run `earlyexit study` first, or give --out")
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is damaged: run `earlyexit study` again, or give another --out") from None
    return differing(before, fingerprint())


def _scenes(folder: Path) -> Path:
    for path in export_scenes(folder, SCENES, workers=1).values():
        single = keep_single_objects(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(single), encoding="utf-8")
    return folder


def _trained(folder: Path) -> dict[str, float]:
    numbers = {}
    for training in plan("scenes", folder, folder / "runs"):
        if training.name in TRAINED:
            short = replace(training.settings, epochs=1, batch_size=4, progress=False)
            (row,) = train(short)
            losses = {k: v for k, v in row.items() if k in ("classification", "bbox_regression", "exit")}
            numbers |= {f"{training.name}, {name}": value for name, value in losses.items()}
    return numbers


def _measured(folder: Path) -> dict[str, float]:
    model = load_detector("scenes")[0]
    test: CocoDataset = coco_split(folder, "test")
    confidence = exit_confidences(model, coco_split(folder, "calibration"))
    numbers = {"calibration, confidence": float(confidence.mean())}
    for filler, records in collect_records(model, test, fillers=FILLERS).items():
        numbers[f"{filler}, scores"] = float(records.found.scores.sum())
        numbers[f"{filler}, boxes"] = float(records.found.boxes.mean())
        for row in sweep(records, confidence, (1, 17, 34), metrics=("mAP",)):
            numbers[f"{filler}, index {row['index']}, mAP"] = row["mAP"]
            numbers[f"{filler}, index {row['index']}, GMACs"] = row["gmacs"]
        numbers[f"{filler}, random, mAP"] = random_exit(records, (0.25,) * 4, 2)["mean"]["mAP"]
    return {name: round(value, 6) for name, value in numbers.items()}
