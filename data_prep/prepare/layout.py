"""The COCO layout that training reads: images divided into splits, put in place, never mixed with earlier ones."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from earlyexit.data import Coco, annotation_file, load_coco, stays_inside, take_images
from earlyexit.files import progress, write_whole

SPLITS = ("train", "calibration", "test")
LINKS = ("hard", "symlink", "copy")
Shares = tuple[float, float, float]


def take_calibration(
    coco: Coco, share: float = 0.2, seed: int = 0, copies: Iterable[Iterable[int]] = (), leave: int = 1
) -> tuple[Coco, Coco]:
    """Divide a data set into disjoint training and calibration images; no image and no annotation is lost.

    The images are ranked by the SHA-256 of "seed:image id" and the first `share` of them is the calibration split. So
    the division depends on the ids and the seed alone: not on the order of the file, the machine or a library's random
    numbers. And it moves little when images are added or left out.

    Args:
        coco: instances in COCO's layout; it is not changed.
        share: of the images that are for calibration, above 0 and below 1; each side gets at least one image.
        seed: another seed takes other images.
        copies: ids of images that show one photo and go to one side; ids that do not occur are ignored.
        leave: at least so many photos remain for training, for it may be divided again.

    Returns:
        The training and the calibration part, records in the order of the file, all other keys as they were.

    Raises:
        ValueError: `share` is not between 0 and 1, or there are fewer than two images, copies counted once.
    """
    check_share(share)
    ids = [image["id"] for image in coco["images"]]
    if len(ids) < 2:
        raise ValueError(f"a training and a calibration split need at least two images, there is {len(ids)}")
    photos = photos_of(ids, copies)
    if len(photos) <= leave:
        raise ValueError(f"{leave + 1} splits need at least {leave + 1} photos, and the images are of {len(photos)}")
    ranked = sorted(photos, key=lambda photo: hashlib.sha256(f"{seed}:{photo[0]}".encode()).digest())
    count = min(max(round(share * len(ids)), 1), len(ids) - 1)
    chosen, left = set(), len(photos)
    for photo in ranked:
        if left > leave and len(chosen) + len(photo) <= count:
            chosen.update(photo)
            left -= 1
    chosen = chosen or set(min(ranked, key=len))  # every photo has more copies than there are to be images
    return take_images(coco, set(ids) - chosen), take_images(coco, chosen)


def photos_of(ids: Iterable[int], copies: Iterable[Iterable[int]]) -> list[list[int]]:
    """The ids of the images of each photo, the smallest first: those in `copies`, and every other id by itself."""
    left = set(ids)
    photos = [sorted(left.intersection(group)) for group in copies]
    alone = left.difference(*photos)
    return [photo for photo in photos if photo] + [[image_id] for image_id in sorted(alone)]


def check_share(share: float) -> None:
    """`ValueError` unless a share of the images can be taken for calibration."""
    if not 0 < share < 1:
        raise ValueError(f"the share for calibration is between 0 and 1, such as 0.2, got {share}")


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


def divide(coco: Coco, shares: Shares, seed: int = 0, copies: Iterable[Iterable[int]] = ()) -> dict[str, Coco]:
    """Disjoint splits by name; one whose share is 0 is left out. See `take_calibration` for how images are chosen.

    Raises:
        ValueError: there are fewer images, or photos, than splits.
    """
    wanted = sum(share > 0 for share in shares)
    if len(coco["images"]) < wanted:
        raise ValueError(f"{wanted} splits need at least {wanted} images, {len(coco['images'])} can be used")
    train, calibration, test = shares
    parts, rest = {}, coco
    if test:
        rest, parts["test"] = take_calibration(rest, test, seed, copies, leave=wanted - 1)
    if calibration:
        rest, parts["calibration"] = take_calibration(rest, calibration / (train + calibration), seed, copies)
    parts["train"] = rest
    return {split: parts[split] for split in SPLITS if split in parts}


def write_splits(parts: Mapping[str, tuple[Coco, Path]], out: str | Path, link: str = "hard") -> None:
    """Write splits, each with the folder of its images, as `coco_split` reads them: `out/<split>/` and annotations.

    A run that is killed leaves splits missing, never half, and never old beside new ones that share images.

    Raises:
        ValueError: as `write_images`, or there are splits of other images in the folder; before anything is changed.
        OSError: as `write_images`.
    """
    for split, (coco, images) in parts.items():
        check_places(coco, images, Path(out) / split, link)
    for split in SPLITS:
        check_earlier(annotation_file(out, split), parts[split][0] if split in parts else None)
    for split in SPLITS:
        annotation_file(out, split).unlink(missing_ok=True)
    for split, (coco, images) in parts.items():
        write_images(coco, images, Path(out) / split, annotation_file(out, split), link)


def write_images(
    coco: Coco, images: str | Path, folder: str | Path, annotations: str | Path, link: str = "hard"
) -> None:
    """Put the images of a data set into a folder and then write its annotations.

    It may be stopped at any point and run again: every file appears under its name only when it is complete, and an
    image that is already in place is not done again.

    Args:
        coco: instances in COCO's layout.
        images: the folder that holds the images now; it is never written to.
        folder: the folder to make.
        annotations: the JSON file to make.
        link: "hard" links take no space (across file systems they become copies), "symlink" or "copy".

    Raises:
        ValueError: unknown `link`, a file name that leaves the folder, or the images would be overwritten.
        OSError: the folder cannot be written, an image cannot be read.
    """
    check_places(coco, images, folder, link)
    images, folder, annotations = Path(images), Path(folder), Path(annotations)
    names = [image["file_name"] for image in coco["images"]]
    for parent in {(folder / name).parent for name in names} | {folder, annotations.parent}:
        parent.mkdir(parents=True, exist_ok=True)
        for half_written in [*parent.glob(".*.part"), *parent.glob(f".{annotations.name}.*.tmp")]:
            half_written.unlink()  # left by a run that was killed while it wrote
    for name in progress(names, f"placing {folder.name}"):
        place_image(images / name, folder / name, link)
    text = json.dumps(coco, separators=(",", ":"))
    write_whole(annotations, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_places(coco: Coco, images: str | Path, folder: str | Path, link: str) -> None:
    """`ValueError` as of `write_images`, before anything is written."""
    if link not in LINKS:
        raise ValueError(f"link must be one of {LINKS}, got {link!r}")
    names = [image["file_name"] for image in coco["images"]]
    for name in names:
        if not stays_inside(name):
            raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
    from_folder, to_folder = os.path.realpath(images), os.path.realpath(folder)
    sources = {os.path.normpath(os.path.join(from_folder, name)) for name in names}
    for name in names:
        if os.path.normpath(os.path.join(to_folder, name)) in sources:
            raise ValueError(f"{str(folder)!r} would overwrite {name!r}, one of the images read; give another folder")


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


def check_writable(out: str | Path) -> None:
    """`ValueError` if a folder cannot be made or written to; nothing is made."""
    existing = next(path for path in (Path(out).absolute(), *Path(out).absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"cannot write to {str(out)!r}: {str(existing)!r} is no folder that may be written to")


def place_image(source: Path, target: Path, link: str) -> None:
    """Link or copy one image, unless it is in place already; what else is there is replaced.

    Args:
        source: the image; it is never changed.
        target: its new name, in a folder that exists.
        link: "hard" (a copy where the file system cannot), "symlink" or "copy".
    """
    if _is_in_place(source, target, link):
        return
    part = target.with_name(f".{target.name}.part")  # always the same name, so that the next run finds it
    part.unlink(missing_ok=True)
    if link == "symlink":
        part.symlink_to(source.resolve(strict=True))
    elif link == "copy" or not _hard_link(source, part):
        if _is_in_place(source, target, "copy"):
            return
        shutil.copy2(source, part)  # with its time, by which the next run knows the copy
    os.replace(part, target)


def _is_in_place(source: Path, target: Path, link: str) -> bool:
    if link == "symlink":
        return target.is_symlink() and os.path.realpath(target) == os.path.realpath(source)
    if target.is_symlink() or not target.exists():
        return False
    here, there = source.stat(), target.stat()
    if link == "hard":
        return os.path.samestat(here, there)
    same = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
    return same and not os.path.samestat(here, there)


def _hard_link(source: Path, target: Path) -> bool:
    """Make a hard link; False where that is impossible, as across file systems."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True
