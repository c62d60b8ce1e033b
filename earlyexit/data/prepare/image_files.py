"""The image files below a folder, and which of them an annotation means."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from .boxes import ImageBoxes
from .report import Report

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def list_files(folder: str | Path, suffixes: Sequence[str]) -> list[str]:
    """Files below a folder with one of these endings (in any case), sorted, relative, with "/" between folders."""
    found = []
    for path, _, names in os.walk(folder):
        inner = Path(path).relative_to(folder).as_posix()
        before = "" if inner == "." else inner + "/"
        found += [before + name for name in names if name.lower().endswith(tuple(suffixes)) and name[0] != "."]
    return sorted(found)


def find_images(
    records: Iterable[ImageBoxes], images: str | Path, report: Report, *, by_source: bool = True
) -> list[ImageBoxes]:
    """Set `file_name` of every record to its image below a folder; those without one are dropped.

    The XML file's own name decides, as in VOC and ImageNet: a/b.xml belongs to a/b.jpg, or else to the only b.* there
    is. Where there is no such image <filename> decides, with or without ending, with or without folders; it also
    chooses between b.jpg and b.png. An image that two files describe stays with the first, which counts the objects of
    the other as lost.

    Args:
        records: as `read_xml_folder` gives them; they are changed.
        images: the folder, searched to any depth.
        report: gets what was dropped and mended.
        by_source: whether `source` names a file that is called like the image; otherwise `file_name` alone decides.

    Raises:
        ValueError: there is no such folder.
    """
    if not Path(images).is_dir():
        raise ValueError(f"no image folder {str(images)!r}")
    find = _finder(list_files(images, IMAGE_SUFFIXES))
    taken, found = {}, []
    for record in records:
        named = PurePosixPath(record.file_name.replace("\\", "/"))  # some tools write Windows paths
        own = PurePosixPath(record.source).with_suffix("") if by_source else PurePosixPath()
        image = find(own, named)
        if image is None:
            looked_for = " and ".join(repr(name) for name in (own.name, named.name) if name)
            report.drop(record.source, f"no such image, or several: looked for {looked_for}")
        elif image in taken:
            first = taken[image]
            report.drop(record.source, f"image described twice: {image!r}, first by {first.source!r}")
            first.lost += len(record.objects) + record.lost
        else:
            if named.name and _stem(named).casefold() != PurePosixPath(image).stem.casefold():
                report.mend(record.source, f"wrong <filename>: {str(named)!r}, the image is {image!r}")
            taken[image] = record
            record.file_name = image
            found.append(record)
    return found


def _finder(names: list[str]) -> Callable[[PurePosixPath, PurePosixPath], str | None]:
    """A function from an annotation's path without ending, and the name that it gives, to the image."""
    by_path, by_name = defaultdict(list), defaultdict(list)
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        by_path[str(stem).casefold()].append(name)
        by_name[stem.name.casefold()].append(name)

    def find(own: PurePosixPath, named: PurePosixPath) -> str | None:
        choices = [(by_path, str(own)), (by_name, own.name)]
        if named.name:
            other = named.with_name(_stem(named))
            choices += [(by_path, str(own.parent / other)), (by_path, str(other)), (by_name, other.name)]
        return next(filter(None, (_choose(known.get(key.casefold()), named.name) for known, key in choices)), None)

    return find


def _choose(images: list[str] | None, named: str) -> str | None:
    """The only image, or the only one that is named so; never a guess."""
    same = [image for image in images or () if PurePosixPath(image).name == named] or images or ()
    return same[0] if len(same) == 1 else None


def _stem(path: PurePosixPath) -> str:
    """Without the ending of an image; another dot, as in "scan.0001", belongs to the name."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
