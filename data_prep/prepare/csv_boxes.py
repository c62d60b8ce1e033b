"""Boxes from a CSV file, its columns found by their names."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .boxes import Box, ImageBoxes, order_corners, show_box
from .cleaning import Report

# What the columns are called in the wild; case, spaces, "_" and "-" do not matter.
IMAGE = ("file", "filename", "image", "imagename", "imagefile", "path", "imagepath", "filepath", "imageid", "img")
LABEL = ("label", "class", "name", "category", "classname", "categoryname", "labelname", "object")
CORNERS = (("xmin", "x1", "left", "x0"), ("ymin", "y1", "top", "y0"), ("xmax", "x2", "right"), ("ymax", "y2", "bottom"))
# In this order of choice "width" and "height" beside corners are those of the image, as other tools write them.
EXTENT = (("x", "left", "xmin", "bboxx"), ("y", "top", "ymin", "bboxy"), ("width", "w"), ("height", "h"))


def read_csv(path: str | Path, report: Report) -> list[ImageBoxes]:
    """Read a CSV with one box a line, grouped by image, in the order of the file.

    Columns may stand in any order: the image; the class; and xmin, ymin, xmax, ymax (x2 and y2 outside the box, as in
    x2 = x1 + width) or x, y, width, height, in pixels from the image's top left corner, (0, 0). The separator is a
    comma, a semicolon or a tab. A line with an image alone is an image without an object. Lines that cannot be used
    are dropped and counted in `lost` of their image; corners in the wrong order are swapped.

    Raises:
        ValueError: the file is not readable, a column is missing, or the boxes are shares of the image, not pixels.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Excel begins its files with a byte order mark
    except (OSError, ValueError) as error:
        hint = "; save it as UTF-8" if isinstance(error, UnicodeError) else ""
        raise ValueError(f"{str(path)!r} is not readable: {error}{hint}") from None
    lines = text.splitlines()
    header = lines[0] if lines else ""
    table = csv.reader(lines, delimiter=max(",;\t", key=header.count))
    columns = find_columns(next(table, []), str(path))
    records: dict[str, ImageBoxes] = {}
    try:
        for row in table:
            if any(map(str.strip, row)):
                _add_row(records, columns, row, f"{Path(path).name} line {table.line_num}", report)
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} is not readable as CSV from line {table.line_num} on: {error}") from None
    _check_pixels(records.values(), str(path))
    return list(records.values())


def find_columns(header: list[str], path: str) -> dict[str, int]:
    """Where the columns are: "image", "label" and "x1", "y1", "x2", "y2" or "x", "y", "w", "h".

    Raises:
        ValueError: one is missing; it says which, what it may be called, and what the header is.
    """
    at = {re.sub(r"[\s_-]", "", name).lower(): place for place, name in reversed(list(enumerate(header)))}
    corners = dict(zip(("x1", "y1", "x2", "y2"), CORNERS, strict=True))
    extent = dict(zip(("x", "y", "w", "h"), EXTENT, strict=True))
    has_corners = any(alias in at for alias in CORNERS[2] + CORNERS[3])
    wanted = {"image": IMAGE, "label": LABEL, **(corners if has_corners else extent)}
    found = {key: next((at[a] for a in aliases if a in at), None) for key, aliases in wanted.items()}
    missing = [f"{key} (such as {', '.join(wanted[key][:3])})" for key, place in found.items() if place is None]
    if missing:
        boxes = "xmin, ymin, xmax, ymax or x, y, width, height"
        raise ValueError(
            f"{path!r} has no column for {'; '.join(missing)}. Its first line is {header}; "
            f"needed are the image, the class, and {boxes}"
        )
    return found


def _add_row(records: dict, columns: Mapping[str, int], row: list[str], source: str, report: Report) -> None:
    cells = {key: row[place].strip() if place < len(row) else "" for key, place in columns.items()}
    image, label = cells.pop("image").replace("\\", "/"), cells.pop("label")
    if not image:
        report.drop(source, f"line without an image: {row}")
        return
    record = records.setdefault(image, ImageBoxes(source, image))
    if not label and not any(cells.values()):
        return
    try:
        numbers = [float(text) for text in cells.values()]
    except ValueError:
        numbers = [math.nan]
    if not label or not all(map(math.isfinite, numbers)):
        fault = "a box of four numbers" if label else "a class"
        report.drop(source, f"line without {fault}: {row}")
        record.lost += 1
        return
    a, b, c, d = numbers
    box = (a, b, c, d) if "x2" in cells else (a, b, a + c, b + d)
    if order_corners(box) != box:
        report.mend(source, f"corners swapped: {label!r}, {show_box(box)}")
    record.objects.append((label, order_corners(box)))


def _check_pixels(records: Iterator[ImageBoxes], path: str) -> None:
    boxes: list[Box] = [box for record in records for _, box in record.objects]
    if boxes and max(max(box) for box in boxes) <= 1:
        raise ValueError(
            f"{path!r}: all coordinates are between 0 and 1, such as {show_box(boxes[0])}: shares of the image. "
            "Multiply them by its width and height; boxes are in pixels"
        )
