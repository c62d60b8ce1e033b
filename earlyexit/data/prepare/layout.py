"""Images that belong to annotations: opened to see whether they are whole, and put where the package reads them."""

import functools
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ...files import write_whole
from .placing import LINKS, place_image
from .report import Report
from .splits import Coco, take_images


def check_images(coco: Coco, images: str | Path, report: Report, workers: int | None = None) -> Coco:
    """Open every image to its last byte and leave out, with their annotations, those that cannot be used.

    Found are names that leave the folder, missing and truncated files, and sizes that are not those in the
    annotations. A width or height that is missing or 0 is filled in from the image.

    Args:
        coco: instances in COCO's layout; it is not changed.
        images: the folder that the file names are relative to.
        report: takes a line for every image that is dropped or mended.
        workers: images that are read at the same time; one for each core unless told.

    Returns:
        The same keys; records in their order.

    Raises:
        ValueError: there is no such folder.
    """
    if not Path(images).is_dir():
        raise ValueError(f"no image folder {str(images)!r}")
    names = [image["file_name"] for image in coco["images"]]
    # Threads suffice: Pillow lets go of Python's lock while it decodes.
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        read = pool.map(functools.partial(_read_size, Path(images)), names)
        sizes = list(tqdm(read, "checking images", len(names), leave=False, disable=None))
    kept = {}
    for image, (size, problem) in zip(coco["images"], sizes, strict=True):
        said = image.get("width") or 0, image.get("height") or 0
        if not problem and all(said) and said != size:
            problem = f"image of another size: {size[0]} x {size[1]}, its annotations are for {said[0]} x {said[1]}"
        if problem:
            report.drop(image["file_name"], problem)
            continue
        if not all(said):
            report.mend(image["file_name"], f"size filled in from the image: {size[0]} x {size[1]}")
            image = {**image, "width": size[0], "height": size[1]}
        kept[image["id"]] = image
    return {**take_images(coco, set(kept)), "images": list(kept.values())}


def stays_inside(file_name: str) -> bool:
    """Whether a file name names something below the folder that it is relative to."""
    return Path(file_name).name != "" and not Path(file_name).is_absolute() and ".." not in Path(file_name).parts


def _read_size(folder: Path, name: str) -> tuple[tuple[int, int], str]:
    """Width and height of an image that is read to its end, and what is wrong with it ("" if nothing is)."""
    if not stays_inside(name):
        return (0, 0), "file name leaves the image folder"
    try:
        if not (folder / name).is_file():
            return (0, 0), "no such image"
        with Image.open(folder / name) as image:
            size = image.size
            image.draft(image.mode, (1, 1))  # a JPEG is read whole but decoded small: twice as fast
            image.load()
    except Exception as error:  # Pillow raises errors of many kinds for broken files
        return (0, 0), f"unreadable image: {error}"
    return size, ""


def write_split(coco: Coco, images: str | Path, out: str | Path, split: str, link: str = "hard") -> Path:
    """Make a split that `coco_split` reads: `out/<split>/` and, last, `out/annotations/instances_<split>.json`.

    It may be stopped at any point and run again: every file appears under its name only when it is complete, and an
    image that is already in place is not done again.

    Args:
        coco: instances in COCO's layout.
        images: the folder that holds the images now; it is never written to.
        out: the folder to make.
        split: its name, such as "train".
        link: "hard" links take no space (across file systems they become copies), "symlink" or "copy".

    Returns:
        The annotation file.

    Raises:
        ValueError: unknown `link`, a file name that leaves the folder, or `out` would overwrite the images.
        OSError: `out` cannot be written, an image cannot be read.
    """
    check_split(coco, images, out, split, link)
    images, folder = Path(images), Path(out) / split
    names = [image["file_name"] for image in coco["images"]]
    for parent in {(folder / name).parent for name in names} | {folder, Path(out) / "annotations"}:
        parent.mkdir(parents=True, exist_ok=True)
        for half_written in [*parent.glob(".*.part"), *parent.glob(f".instances_{split}.json.*.tmp")]:
            half_written.unlink()  # left by a run that was killed while it wrote
    for name in tqdm(names, f"placing {split}", leave=False, disable=None):
        place_image(images / name, folder / name, link)
    text = json.dumps(coco, separators=(",", ":"))
    path = annotation_file(out, split)
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def forget_splits(out: str | Path, splits: Iterable[str] = ("train", "calibration", "test")) -> None:
    """Remove the annotation files of splits, before they are made again.

    A run that is killed half way then leaves splits missing, never old beside new ones that share images.
    """
    for split in splits:
        annotation_file(out, split).unlink(missing_ok=True)


def annotation_file(out: str | Path, split: str) -> Path:
    """Where the annotations of a split are in a folder."""
    return Path(out) / "annotations" / f"instances_{split}.json"


def check_writable(out: str | Path) -> None:
    """`ValueError` if a folder cannot be made or written to; nothing is made."""
    existing = next(path for path in (Path(out).absolute(), *Path(out).absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"cannot write to {str(out)!r}: {str(existing)!r} is no folder that may be written to")


def check_split(coco: Coco, images: str | Path, out: str | Path, split: str, link: str) -> None:
    """`ValueError` as of `write_split`, before anything is written."""
    if link not in LINKS:
        raise ValueError(f"link must be one of {LINKS}, got {link!r}")
    folder, names = Path(out) / split, [image["file_name"] for image in coco["images"]]
    for name in names:
        if not stays_inside(name):
            raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
    from_folder, to_folder = os.path.realpath(images), os.path.realpath(folder)
    sources = {os.path.normpath(os.path.join(from_folder, name)) for name in names}
    for name in names:
        if os.path.normpath(os.path.join(to_folder, name)) in sources:
            raise ValueError(f"{str(folder)!r} would overwrite {name!r}, one of the images read; give another folder")
