"""One data set divided into training, calibration and test images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from .earlier import check_earlier
from .layout import annotation_file, check_split, forget_splits, write_split
from .splits import Coco, take_calibration

SPLITS = ("train", "calibration", "test")
Shares = tuple[float, float, float]


def parse_shares(text: str) -> Shares:
    """Shares of training, calibration and test images from a text such as "0.7,0.1,0.2".

    Raises:
        ValueError: they are not three numbers from 0 on, the first above 0, that add up to 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or not shares[0] > 0 or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"the shares of {', '.join(SPLITS)} images add up to 1, such as 0.7,0.1,0.2, got {text!r}")
    return shares


def divide(coco: Coco, shares: Shares, seed: int = 0) -> dict[str, Coco]:
    """Disjoint splits by name; one whose share is 0 is left out. See `take_calibration` for how images are chosen.

    Raises:
        ValueError: there are fewer images than splits.
    """
    wanted = sum(share > 0 for share in shares)
    if len(coco["images"]) < wanted:
        raise ValueError(f"{wanted} splits need at least {wanted} images, {len(coco['images'])} can be used")
    train, calibration, test = shares
    parts, rest = {}, coco
    if test:
        rest, parts["test"] = take_calibration(rest, test, seed)
    if calibration:
        rest, parts["calibration"] = take_calibration(rest, calibration / (train + calibration), seed)
    parts["train"] = rest
    return {split: parts[split] for split in SPLITS if split in parts}


def write_splits(parts: Mapping[str, tuple[Coco, Path]], out: str | Path, link: str = "hard") -> None:
    """Write splits, each with the folder of its images; see `write_split`. A killed run leaves none half or mixed.

    Raises:
        ValueError: as `write_split`, or there are splits of other images in the folder; before anything is changed.
    """
    for split, (coco, images) in parts.items():
        check_split(coco, images, out, split, link)
    for split in SPLITS:
        check_earlier(annotation_file(out, split), parts[split][0] if split in parts else None)
    forget_splits(out)
    for split, (coco, images) in parts.items():
        write_split(coco, images, out, split, link)
