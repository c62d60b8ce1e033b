"""What to do with the data set that was written: the command that trains on it, and at which size of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from earlyexit.cli import next_step
from earlyexit.data import Coco

TRAINED_AT = 128  # shorter side that `earlyexit train` gives the images unless told; the longer is at most twice that
SIZES = (128, 192, 256, 384, 512, 640, 800)
LEAST = 8  # pixels; below that little of an object reaches the coarsest map that detects
FEW = 0.1  # of the objects may be smaller


def share_of_small(coco: Coco, size: int) -> float:
    """The share of the objects whose shorter side is under 8 pixels, once the images are resized for training.

    Args:
        coco: instances; images whose size is not known are left out.
        size: shorter side of the images, in pixels; the longer is at most twice that.
    """
    scale = {}
    for image in coco["images"]:
        short, long = sorted((image.get("width") or 0, image.get("height") or 0))
        if short:
            scale[image["id"]] = min(size / short, 2 * size / long)
    sized = [found for found in coco["annotations"] if found["image_id"] in scale]
    sides = [min(found["bbox"][2:]) * scale[found["image_id"]] for found in sized]
    return sum(side < LEAST for side in sides) / max(len(sides), 1)


def choose_size(coco: Coco) -> tuple[int, list[str]]:
    """The size to train at, and a line for people if it is not the one that the command takes unless told."""
    shares = {size: share_of_small(coco, size) for size in SIZES}
    if shares[TRAINED_AT] <= FEW:
        return TRAINED_AT, []
    size = next((size for size in SIZES if shares[size] <= FEW), SIZES[-1])
    return size, [
        f"{shares[TRAINED_AT]:.0%} of the objects are under {LEAST} pixels at {TRAINED_AT}: "
        f"use --min-size {size} --max-size {2 * size} (then {shares[size]:.0%} are)"
    ]


def next_lines(out: Path, parts: Mapping[str, Coco], split: str = "train") -> list[str]:
    """The command that trains on what was written, with the options that these images need.

    Args:
        out: the folder that was written.
        parts: its splits.
        split: the one to train on.
    """
    train = parts[split]
    objects = Counter(found["image_id"] for found in train["annotations"])
    size, lines = choose_size(train)
    options = ["--split", split] if split != "train" else []
    options += ["--val-split", "calibration"] if "calibration" in parts else []
    options += ["--allow-empty"] if len(objects) < len(train["images"]) else []
    options += ["--exit-target", "largest"] if any(count > 1 for count in objects.values()) else []
    options += ["--min-size", str(size), "--max-size", str(2 * size)] if size != TRAINED_AT else []
    return [*lines, train_step(out, *options)]


def train_step(data: Path, *options: str) -> str:
    """The line with the command that trains on a folder, as a shell takes it."""
    return next_step("train", data, *options, "--out", f"runs/{data.resolve().name}")
