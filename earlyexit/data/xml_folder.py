"""A folder of XML annotations, read by several processes, and the images that belong to them."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from .boxes import ImageBoxes
from .report import Report
from .xml_boxes import read_xml

CHUNK = 500  # files a process takes at a time
# Below this a second process starts, and imports torch, more slowly than the first one reads the files.
PARALLEL_FROM = 20_000
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_xml_folder(
    folder: str | Path, report: Report, *, origin: int = 1, only: str = "*", workers: int | None = None
) -> list[ImageBoxes]:
    """Read every XML file below a folder, in the order of their names; see `read_xml`.

    Args:
        folder: it is searched to any depth; `source` of a record is the path below it.
        report: gets what was dropped and mended, by file.
        origin: number of the first pixel, see `read_xml`.
        only: a pattern as of a shell for the path below the folder; others are not read.
        workers: processes; by default one, or one per core for 20,000 files and more.

    Raises:
        ValueError: there is no such folder, or no XML file in it.
    """
    folder = Path(folder)
    names = [name for name in list_files(folder, (".xml",)) if fnmatchcase(name, only)]
    if not names:
        what = f"holds no XML file {only!r}" if folder.is_dir() else "is no folder"
        raise ValueError(f"{str(folder)!r} {what}; give the folder with the annotations (*.xml)")
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    read = functools.partial(_read_chunk, folder, origin)
    workers = workers or (os.cpu_count() or 1 if len(names) >= PARALLEL_FROM else 1)
    if workers == 1:
        return _join(map(read, chunks), report)
    # A fresh interpreter per worker: forking a process that has threads (as torch does) can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return _join(pool.imap(read, chunks), report)


def list_files(folder: str | Path, suffixes: Sequence[str]) -> list[str]:
    """Files below a folder with one of these endings (in any case), sorted, relative, with "/" between folders."""
    found = []
    for path, _, names in os.walk(folder):
        inner = Path(path).relative_to(folder).as_posix()
        before = "" if inner == "." else inner + "/"
        found += [before + name for name in names if name.lower().endswith(tuple(suffixes)) and name[0] != "."]
    return sorted(found)


def find_images(records: Iterable[ImageBoxes], images: str | Path, report: Report) -> list[ImageBoxes]:
    """Set `file_name` of every record to its image below a folder; those without one are dropped.

    The XML file's own name decides, as in VOC and ImageNet: a/b.xml belongs to a/b.jpg, or else to the only b.* there
    is. Where there is no such image <filename> decides, with or without ending, with or without folders; it also
    chooses between b.jpg and b.png. An image that two files describe stays with the first.
    """
    by_path, by_name = defaultdict(list), defaultdict(list)
    for name in list_files(images, IMAGE_SUFFIXES):
        stem = PurePosixPath(name).with_suffix("")
        by_path[str(stem).casefold()].append(name)
        by_name[stem.name.casefold()].append(name)
    taken, found = {}, []
    for record in records:
        named = PurePosixPath(record.file_name.replace("\\", "/"))  # some tools write Windows paths
        own = PurePosixPath(record.source).with_suffix("")
        choices = [(by_path, str(own)), (by_name, own.name)]
        if named.name:
            other = named.with_name(_stem(named))
            choices += [(by_path, str(own.parent / other)), (by_path, str(other)), (by_name, other.name)]
        image = next(filter(None, (_choose(known.get(key.casefold()), named.name) for known, key in choices)), None)
        if image is None:
            report.drop(record.source, f"no such image, or several: looked for {own.name!r} and {named.name!r}")
        elif image in taken:
            report.drop(record.source, f"image described twice: {image!r}, first by {taken[image]!r}")
        else:
            if named.name and _stem(named).casefold() != PurePosixPath(image).stem.casefold():
                report.mend(record.source, f"wrong <filename>: {str(named)!r}, the image is {image!r}")
            taken[image] = record.source
            record.file_name = image
            found.append(record)
    return found


def _choose(images: list[str] | None, named: str) -> str | None:
    """The only image, or the only one that is named so; never a guess."""
    same = [image for image in images or () if PurePosixPath(image).name == named] or images or ()
    return same[0] if len(same) == 1 else None


def _stem(path: PurePosixPath) -> str:
    """Without the ending of an image; another dot, as in "scan.0001", belongs to the name."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _read_chunk(folder: Path, origin: int, names: Sequence[str]) -> tuple[list[ImageBoxes], Report]:
    report = Report()
    records = [read_xml(folder / name, report, origin=origin, name=name) for name in names]
    return [record for record in records if record is not None], report


def _join(chunks: Iterable[tuple[list[ImageBoxes], Report]], report: Report) -> list[ImageBoxes]:
    records = []
    for found, faults in chunks:
        records += found
        report.extend(faults)
    return records
