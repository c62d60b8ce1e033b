"""A folder of XML annotations, read by several processes if it is large."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from .boxes import ImageBoxes
from .image_files import list_files
from .report import Report
from .xml_boxes import read_xml

CHUNK = 500  # files a process takes at a time
# Below this other processes start, and import torch, more slowly than the first one reads the files alone.
PARALLEL_FROM = 100_000
MOST_WORKERS = 8


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
        return _join(map(read, chunks), report)
    # A fresh interpreter per worker: forking a process that has threads (as torch does) can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return _join(pool.imap(read, chunks), report)


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
