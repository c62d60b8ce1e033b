"""Boxes from a CSV file, a line each; see `csv_columns` for what its columns may be called."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .boxes import Box, ImageBoxes, order_corners, show_box
from .cleaning import Report
from .csv_columns import Columns, find_columns
from .splits import note_split, read_text, split_of_name

SEPARATORS = ",;\t|"
Line = tuple[str, list[str]]  # where it stands, its cells


def read_csv(path: str | Path, report: Report) -> list[ImageBoxes]:
    """Read a CSV with one box a line, grouped by image, in the order of the file.

    Columns may stand in any order: the image; the class; and xmin, ymin, xmax, ymax (x2 and y2 outside the box, as in
    x2 = x1 + width) or x, y, width, height, in pixels from the image's top left corner, (0, 0). The separator is a
    comma, a semicolon, a tab or a bar; where it is no comma, numbers may have a decimal comma. A line with an image
    alone is an image without an object. Lines that cannot be used are dropped and counted in `lost` of their image;
    corners in the wrong order are swapped.

    Raises:
        ValueError: the file is not readable, a column is missing, or a column or a number could mean two things.
    """
    header, lines = _read_lines(Path(path))
    columns = find_columns(header, str(path))
    lines = _whole_lines(lines, len(header), str(path), report)
    columns = _decide(columns, header, [row for _, row in lines], str(path))
    report.note(f"{Path(path).name}: {columns.said(header)}")
    records: dict[str, ImageBoxes] = {}
    sizes, splits = defaultdict(set), {}
    for source, row in lines:
        record = _add_row(records, columns, row, source, report)
        if record and columns.size:
            sizes[record.file_name].add(tuple(row[place].strip() for place in columns.size))
        if record and columns.split is not None:
            note_split(splits, record.file_name, split_of_name(row[columns.split]) or "")
            record.split = splits[record.file_name]
    _set_sizes(records, sizes)
    return list(records.values())


def _read_lines(path: Path) -> tuple[list[str], list[Line]]:
    """The first line's cells, and all other lines that are not empty."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        hint = "; save it as UTF-8" if isinstance(error, UnicodeError) else ""
        raise ValueError(f"{str(path)!r} is not readable: {error}{hint}") from None
    lines = text.splitlines()
    told = re.fullmatch(r'"?sep=(.)"?', lines[0].strip()) if lines else None  # a line of Excel's
    start = 1 if told else 0
    header = lines[start] if lines[start:] else ""
    table = csv.reader(lines[start:], delimiter=told[1] if told else max(SEPARATORS, key=header.count))
    try:
        first = next(table, [])
        rows = [(f"{path.name} line {table.line_num + start}", row) for row in table if any(map(str.strip, row))]
    except csv.Error as error:
        where = table.line_num + start
        raise ValueError(f"{str(path)!r} is not readable as CSV from line {where} on: {error}") from None
    return first, rows


def _whole_lines(lines: list[Line], width: int, path: str, report: Report) -> list[Line]:
    """The lines with as many cells as there are names; shorter ones are filled up, longer ones are dropped."""
    long = {source for source, row in lines if any(map(str.strip, row[width:]))}
    if len(long) > len(lines) / 2:
        row = next(row for source, row in lines if source in long)
        raise ValueError(
            f"{path!r}: {len(long)} of {len(lines)} lines have more cells than the first line has names, {width}, such "
            f"as {row}. Numbers with a decimal comma need another separator, such as a semicolon, or a point"
        )
    for source, row in lines:
        if source in long:
            report.drop(source, f"line with more cells than names, a comma without quotes: {row}")
    return [(source, [*row, *[""] * width][:width]) for source, row in lines if source not in long]


def _decide(columns: Columns, header: Sequence[str], rows: list[list[str]], path: str) -> Columns:
    """The columns where what stands in them had to decide; `ValueError` if that cannot either."""
    texts = [row[place] for row in rows for place in columns.box if "," in row[place]]
    if texts and all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", text.strip()) for text in texts):
        raise ValueError(f"{path!r}: {texts[0]!r} could be a thousand or a decimal comma; write it without a comma")
    labels = columns.labels
    if len(labels) > 1:  # of several the only one that is not of numbers
        labels = tuple(p for p in labels if any(row[p].strip() and math.isnan(_number(row[p])) for row in rows))
    if len(labels) != 1:
        names = " and ".join(repr(header[place].strip()) for place in columns.labels)
        raise ValueError(f"{path!r}: {names} could each be the class; leave out, or rename, what is not")
    size = columns.size
    if columns.kind == "corners" and size:  # width and height beside corners are those of the image, or of the box
        boxes = [[_number(row[place]) for place in (*columns.box, *size)] for row in rows]
        same = sum(abs(x2 - x1 - w) + abs(y2 - y1 - h) <= 2 for x1, y1, x2, y2, w, h in boxes)
        size = () if same > len(rows) / 2 else size
    return replace(columns, labels=labels, size=size)


def _add_row(records: dict, columns: Columns, row: list[str], source: str, report: Report) -> ImageBoxes | None:
    image, label = row[columns.image].strip().replace("\\", "/"), row[columns.labels[0]].strip()
    if not image:
        report.drop(source, f"line without an image: {row}")
        return None
    record = records.setdefault(image, ImageBoxes(source, image))
    texts = [row[place].strip() for place in columns.box]
    if not label and not any(texts):
        return record
    numbers = [_number(text) for text in texts]
    if not label or not all(map(math.isfinite, numbers)):
        fault = "a box of four numbers" if label else "a class"
        report.drop(source, f"line without {fault}: {row}")
        record.lost += 1
        return record
    box = _corners(columns.kind, numbers)
    if order_corners(box) != box:
        report.mend(source, f"corners swapped: {label!r}, {show_box(box)}")
    record.objects.append((label, order_corners(box)))
    return record


def _corners(kind: str, numbers: Sequence[float]) -> Box:
    if kind == "outline":
        xs, ys = numbers[::2], numbers[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    a, b, c, d = numbers
    if kind == "corners":
        return a, b, c, d
    return (a, b, a + c, b + d) if kind == "corner and size" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)


def _number(text: str) -> float:
    """The number, with a decimal point or comma; NaN if it is none."""
    text = text.strip()
    try:
        return float(text.replace(",", ".") if re.fullmatch(r"[-+]?\d*,\d+", text) else text)
    except ValueError:
        return math.nan


def _set_sizes(records: Mapping[str, ImageBoxes], sizes: Mapping[str, set[tuple[str, ...]]]) -> None:
    """Width and height of the images whose lines agree on them."""
    for name, found in sizes.items():
        sides = [_number(text) for text in next(iter(found))]
        if len(found) == 1 and all(side.is_integer() and side > 0 for side in sides):
            records[name].width, records[name].height = map(int, sides)
