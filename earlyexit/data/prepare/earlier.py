"""Data sets that are in a folder already: made again from the same input, never replaced by another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..reading import load_coco
from .splits import Coco


def check_earlier(path: Path, coco: Coco | None) -> None:
    """`ValueError` if there is an annotation file at `path`, unless it is of the images and classes of `coco`.

    So a run that was stopped can be repeated, and annotations can be corrected. But other images, or other splits of
    them, would leave those that are there to lie about among the new ones.
    """
    if path.exists() and (coco is None or _identity(load_coco(path, outlines=False)) != _identity(coco)):
        where = str(path.parent.parent)
        raise ValueError(f"{str(path)!r} is of other images or classes: choose another --out, or delete {where!r}")


def _identity(coco: Any) -> list | None:
    """What images and categories are called; None for a file that is not in COCO's layout."""
    try:
        images = [[image["id"], image["file_name"]] for image in coco["images"]]
        return images + [[category["id"], category["name"]] for category in coco["categories"]]
    except (KeyError, TypeError):
        return None
