"""The splits that a data set has already: found by folders, lists and names of files, and called by our names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from earlyexit.data import Coco, take_images, without_ending

from .cleaning import Report
from .layout import SPLITS

# What the splits are called in the wild; a year may follow, as in "val2017".
WORDS = {
    "train": ("train", "training"),
    "calibration": ("calibration", "valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
ANEW = "--split-share 0.7,0.1,0.2 divides all images anew"


def split_of_name(name: str) -> str | None:
    """Our name of the split that a name means: "calibration" for "Valid" or "instances_val2017"; None for others."""
    words = (re.sub(r"\d+$", "", word) for word in re.split(r"[\W_]+", name.casefold()))
    splits = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def split_of_path(path: str | PurePosixPath) -> str | None:
    """The split of a file by the folders it is in, the innermost that names one; None if none does."""
    named = (split_of_name(part) for part in reversed(PurePosixPath(path).parent.parts))
    return next(filter(None, named), None)


def only_several(found: Mapping[Any, str | None]) -> dict[Any, str]:
    """The entries with a split if there are several splits, training among them; otherwise nothing is divided yet."""
    known = {key: split for key, split in found.items() if split}
    return known if "train" in known.values() and len(set(known.values())) > 1 else {}


def splits_of(coco: Coco) -> dict[int, str]:
    """{image id: split} by what the images say under "split", or else by their folders; nothing if that is not so.

    Raises:
        ValueError: an image is in two splits.
    """
    both = next((image for image in coco["images"] if " and " in str(image.get("split", ""))), None)
    if both:
        where = f"{both['file_name']!r} is in {both['split']}"
        raise ValueError(f"{where}, so one of them would say nothing of new photos: {ANEW}")
    told = {image["id"]: split_of_name(str(image.get("split", ""))) for image in coco["images"]}
    by_folder = {image["id"]: split_of_path(image["file_name"]) for image in coco["images"]}
    return only_several(told) or only_several(by_folder)


def read_lists(folder: str | Path) -> dict[str, str]:
    """{name without ending: split} from lists such as VOC's ImageSets/Main/train.txt; nothing if there are none.

    Raises:
        ValueError: a list is not readable.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.txt")):
        split = SPLIT_OF.get(path.stem.casefold())  # not dog_train.txt: VOC has such lists of every class, too
        for line in read_lines(path) if split else ():
            named = PurePosixPath(
                re.sub(r"\s+-?[01]$", "", line).replace("\\", "/")
            )  # VOC may add whether it shows one
            note_split(found, without_ending(named), split)
    return only_several(found)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 where it begins so, as PowerShell's and Excel's "Unicode text" does."""
    data = path.read_bytes()
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty; `ValueError` if it is not readable."""
    try:
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not readable: {error}") from None


def note_split(found: dict[str, str], name: str, split: str) -> None:
    """Add an image to {image: split}; of one that has another split already both are noted, for `splits_of` to say."""
    before = found.setdefault(name, split)
    if before != split and " and " not in before:
        found[name] = f"{before or 'none'} and {split or 'none'}"


def drop_others(coco: Coco, splits: Mapping[int, str], report: Report) -> Coco:
    """The images that are in a split; the others are left out and counted."""
    for image in coco["images"]:
        if image["id"] not in splits:
            report.drop(image["file_name"], f"image in no split: {ANEW}")
    return take_images(coco, set(splits))


def take_splits(coco: Coco, images: Path, splits: Mapping[int, str]) -> dict[str, tuple[Coco, Path]]:
    """A data set as its splits say, each with the folder of its images.

    File names become relative to the folder that all images of a split are in: train/images/a.jpg becomes a.jpg,
    which is then written as train/a.jpg.

    Args:
        coco: instances in COCO's layout, without an image in no split; it is not changed.
        images: the folder that file names are relative to.
        splits: {image id: split}.
    """
    ids = {split: {image["id"] for image in coco["images"] if splits[image["id"]] == split} for split in SPLITS}
    return {split: _below(take_images(coco, ids[split]), images) for split in SPLITS if ids[split]}


def _below(coco: Coco, images: Path) -> tuple[Coco, Path]:
    """The data set with file names relative to the folder that holds all its images, and that folder."""
    names = {image["id"]: PurePosixPath(image["file_name"]) for image in coco["images"]}
    common = Path(os.path.commonpath([name.parent for name in names.values()])).as_posix()
    renamed = [{**image, "file_name": str(names[image["id"]].relative_to(common))} for image in coco["images"]]
    return {**coco, "images": renamed}, images / common


def kept_lines(parts: Mapping[str, Coco]) -> list[str]:
    """That splits were kept, and which are not there, for people."""
    missing = [split for split in SPLITS if split not in parts]
    lines = [f"the splits that are there are kept; val or valid is called calibration here ({ANEW})"]
    return lines + [f"no images for {' and '.join(missing)}"] * bool(missing)
