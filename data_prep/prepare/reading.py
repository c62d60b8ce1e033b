"""Annotations of every kind as COCO instances, without what cannot be used: one file, or one of each split."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePosixPath

from earlyexit.data import Coco, load_coco, without_ending

from .boxes import ImageBoxes, fill_size, find_images, fit_boxes, to_coco
from .cleaning import Report, check_photos, clean_coco
from .csv_boxes import read_csv
from .sources import find_sources, images_of, merge
from .splits import read_lists
from .xml_boxes import read_xml_folder
from .yolo import read_yolo


class Kind(str, Enum):
    """What the annotations are."""

    coco = "coco"
    voc = "voc"
    csv = "csv"
    yolo = "yolo"


def read(kind: Kind, source: Path, images: Path | None, origin: int, faults: Report) -> tuple[Coco, Path]:
    """The annotations, and the folder that file names are relative to; images are opened to their last byte.

    An image of which a file says what split it is in has this under "split".

    Args:
        kind: of the annotations.
        source: the file, or the folder of the files.
        images: the folder of the images; None if it is that of `source`.
        origin: number of the first pixel in XML.
        faults: gets what was dropped and mended, and what was taken for what.
    """
    folder = images or (source if source.is_dir() else source.parent)
    if kind == Kind.coco:
        parts = [_part(file, split, folder, faults) for file, split in find_sources(source, ".json").items()]
        coco = check_photos(merge(parts), folder, faults)
        return clean_coco(coco, faults, source.name), folder  # now all sizes are known
    classes = None
    if kind == Kind.voc:
        records = find_images(read_xml_folder(source, faults, origin=origin), folder, faults)
        lists = read_lists(source.parent / "ImageSets" / "Main")
        for record in records:
            record.split = lists.get(without_ending(PurePosixPath(record.file_name)), "")
    elif kind == Kind.csv:
        tables = [_table(file, split, folder, faults) for file, split in find_sources(source, ".csv").items()]
        records = find_images([record for table in tables for record in table], folder, faults, by_source=False)
    else:
        records, classes, folder = read_yolo(source, images, faults)
    return check_photos(_coco(records, folder, classes, faults), folder, faults), folder


def _part(file: Path, split: str, images: Path, faults: Report) -> Coco:
    """One COCO file, clean; file names are relative to `images`."""
    coco = clean_coco(load_coco(file, outlines=False), faults, file.name, fit=False)
    folder = images_of(file, split, images, [image["file_name"] for image in coco["images"][:100]])
    more = {"split": split} if split else {}
    before = f"{folder}/" if folder else ""
    return {**coco, "images": [{**i, "file_name": before + i["file_name"], **more} for i in coco["images"]]}


def _table(file: Path, split: str, images: Path, faults: Report) -> list[ImageBoxes]:
    """One CSV file; file names are relative to `images` as far as that is known."""
    records = read_csv(file, faults)
    folder = images_of(file, split, images, [record.file_name for record in records[:100]])
    for record in records:
        record.split = record.split or split
        if folder and (images / folder / record.file_name).is_file():
            record.file_name = f"{folder}/{record.file_name}"
    return records


def _coco(records: list[ImageBoxes], images: Path, classes: Mapping[str, str] | None, faults: Report) -> Coco:
    """The records whose size is known or can be read, with boxes inside their images."""
    records = [record for record in records if fill_size(record, images, faults, compare=True)]
    for record in records:
        fit_boxes(record, faults)
    coco, splits = to_coco(records, classes), {record.file_name: record.split for record in records}
    return {**coco, "images": [{**i, "split": splits[i["file_name"]]} for i in coco["images"]]}
