"""XML annotations in the style of PASCAL VOC and ImageNet, as they are found in the wild: a file, and a folder."""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from earlyexit.data import list_files
from earlyexit.files import progress

from .boxes import Box, ImageBoxes, order_corners, show_box
from .cleaning import Report

CHUNK = 500  # files a process takes at a time
WORK = f"reading XML files, {CHUNK} at a time"
# Below this other processes start, and import torch, more slowly than the first one reads the files alone.
PARALLEL_FROM = 100_000
MOST_WORKERS = 8


def read_xml(path: str | Path, report: Report, *, origin: int = 1, name: str | None = None) -> ImageBoxes | None:
    """Read one XML file; None if it is not readable.

    Tags are matched by name, in any order, whatever their namespace; only the direct children of an <object> say
    what it is, so the name and box of a <part> inside it are not taken for its own. Corners in the wrong order are
    swapped. An object without a name or with a box that is not four numbers is dropped and counted in `lost`. Where an
    outline, <polygon>, stands in place of <bndbox>, the box is the one around it; its points are from 0 on.

    VOC counts pixels from 1 and both corners belong to the box: (xmin, ymin, xmax, ymax) covers
    (xmin - 1, ymin - 1, xmax, ymax), as the VOC development kit defines and detectron2 reads it. From where ImageNet
    counts is not documented: `origin=0` takes the numbers as they stand, as the paper's published code does.

    Args:
        path: the file.
        report: gets what was dropped and mended.
        origin: number of the first pixel: 1 for VOC, 0 for ImageNet and for tools that count from 0.
        name: what reports and `ImageBoxes.source` call the file; its path by default.
    """
    name = name or str(path)
    try:
        root = _parse(Path(path).read_bytes())
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        report.drop(name, f"not readable as XML: {error}")
        return None
    parts, objects = {}, []
    for child in root:
        tag = _tag(child)
        if tag == "object":
            objects.append(child)
        else:
            parts.setdefault(tag, child)
    if _tag(root) != "annotation" and not objects and "filename" not in parts:
        report.drop(name, f"no annotation: its outermost tag is <{_tag(root)}>")
        return None
    size = {_tag(child): child.text for child in parts.get("size", ())}
    record = ImageBoxes(name, _text(parts.get("filename")), _pixels(size.get("width")), _pixels(size.get("height")))
    for number, item in enumerate(objects, 1):
        _add_object(record, number, item, report, origin)
    return record


def read_xml_folder(
    folder: str | Path, report: Report, *, origin: int = 1, only: str = "*", workers: int | None = None
) -> list[ImageBoxes]:
    """Read every XML file below a folder, in the order of their names; see `read_xml`.

    Args:
        folder: it is searched to any depth; `source` of a record is the path below it.
        report: gets what was dropped and mended, by file.
        origin: number of the first pixel, see `read_xml`.
        only: a pattern as of a shell for the path below the folder; others are not read.
        workers: processes; by default one, or for 100,000 files and more one per core, at most 8.

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
    if workers is None:
        workers = min(os.cpu_count() or 1, MOST_WORKERS) if len(names) >= PARALLEL_FROM else 1
    if workers == 1:
        return _join(progress(map(read, chunks), WORK, len(chunks)), report)
    # A fresh interpreter per worker: forking a process that has threads (as torch does) can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return _join(progress(pool.imap(read, chunks), WORK, len(chunks)), report)


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


def _add_object(record: ImageBoxes, number: int, item: ET.Element, report: Report, origin: int) -> None:
    parts = {}
    for child in item:
        parts.setdefault(_tag(child), child)
    name = _text(parts.get("name"))
    corners, fault = _corners(parts.get("bndbox"))
    around = _around(parts.get("polygon")) if "bndbox" not in parts else None
    if around and name:
        record.objects.append((name, around))
        return
    if fault or not name:
        report.drop(record.source, f"object without {fault or '<name>'}: object {number}" + f", {name!r}" * bool(name))
        record.lost += 1
        return
    box = order_corners(corners)
    if box != corners:
        report.mend(record.source, f"corners swapped: object {number}, {name!r}, {show_box(corners)}")
    record.objects.append((name, (box[0] - origin, box[1] - origin, box[2], box[3])))


def _corners(bndbox: ET.Element | None) -> tuple[Box | None, str]:
    """The numbers as they stand, or what is missing."""
    texts = {_tag(child): child.text for child in bndbox} if bndbox is not None else {}
    try:
        corners = tuple(float(texts[tag]) for tag in ("xmin", "ymin", "xmax", "ymax"))
    except (KeyError, TypeError, ValueError):
        corners = (math.nan,)
    return (corners, "") if all(map(math.isfinite, corners)) else (None, "a box of four numbers")


def _around(polygon: ET.Element | None) -> Box | None:
    """The box around an outline, <pt><x> and <y> as LabelMe writes it, or <x1>, <y1>, <x2>, ...; None if it is none."""
    found = {"x": [], "y": []}
    try:
        for element in polygon.iter() if polygon is not None else ():
            axis = re.fullmatch(r"([xy])\d*", _tag(element))
            if axis:
                found[axis[1]].append(float(element.text))
    except (TypeError, ValueError):
        return None
    xs, ys = found["x"], found["y"]
    usable = len(xs) == len(ys) >= 3 and all(map(math.isfinite, xs + ys))
    return (min(xs), min(ys), max(xs), max(ys)) if usable else None


def _parse(data: bytes) -> ET.Element:
    try:
        return ET.fromstring(data)
    except ValueError:  # expat knows no encoding of several bytes a character but Unicode's; Python does
        declared = re.match(rb"""\s*<\?xml[^>]*?encoding=["']([\w.-]+)["']""", data)
        if not declared:
            raise
        return ET.fromstring(data.decode(declared[1].decode()))


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _text(element: ET.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


def _pixels(text: str | None) -> int:
    """A width or height; 0, unknown, if it is no positive number."""
    try:
        return max(0, int(float(text or 0)))
    except (ValueError, OverflowError):
        return 0
