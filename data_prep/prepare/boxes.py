"""The objects of one image as XML and CSV files give them: their photo found, fitted into it, turned into COCO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from earlyexit.data import LOST, PhotoFinder, read_header, size_problem, without_ending

from .cleaning import Report

Box = tuple[float, float, float, float]
HINTS = 10  # missing images whose nearest names are looked for; a report shows no more


@dataclass
class ImageBoxes:
    """One image and its objects.

    Attributes:
        source: the file, or file and line, that says so; reports show it.
        file_name: the image, relative to the folder of images; "" where the source does not say.
        width, height: in pixels, 0 while unknown.
        objects: (class name, box) pairs; boxes are xyxy in pixels, the image's top left corner is (0, 0).
        lost: how many objects were there but could not be used.
        split: which split the image is of, where the source says so.
    """

    source: str
    file_name: str = ""
    width: int = 0
    height: int = 0
    objects: list[tuple[str, Box]] = field(default_factory=list)
    lost: int = 0
    split: str = ""

    @property
    def is_single(self) -> bool:
        """Exactly one object, of any class. One that had two and lost one still shows two."""
        return len(self.objects) == 1 and self.lost == 0


def order_corners(box: Box) -> Box:
    """The same box with x1 <= x2 and y1 <= y2."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def clip_box(box: Box, width: int, height: int) -> Box | None:
    """The part of a box inside an image of this size; None if there is none."""
    x1, y1, x2, y2 = box
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def find_images(
    records: Iterable[ImageBoxes], images: str | Path, report: Report, *, by_source: bool = True
) -> list[ImageBoxes]:
    """Set `file_name` of every record to its image below a folder; those without one are dropped.

    The XML file's own name decides, as in VOC and ImageNet, and <filename> only where it cannot; see `PhotoFinder`.
    An image that two files describe stays with the first, which counts the objects of the other as lost.

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
    finder, taken, hints = PhotoFinder(images), {}, HINTS
    for record in records:
        named = PurePosixPath(record.file_name.replace("\\", "/"))  # some tools write Windows paths
        own = PurePosixPath(record.source).with_suffix("") if by_source else PurePosixPath()
        image = finder.find(own, named)
        if image is None:
            looked_for = " and ".join(repr(name) for name in (own.name, named.name) if name)
            near, hints = (finder.nearest((named if named.name else own).name) if hints else ""), max(hints - 1, 0)
            problem = f"no such image, or several: looked for {looked_for}"
            report.drop(record.source, problem + f"; {near}" * bool(near))
        elif image in taken:
            first = taken[image]
            report.drop(record.source, f"image described twice: {image!r}, first by {first.source!r}")
            first.lost += len(record.objects) + record.lost
        else:
            if named.name and without_ending(named).casefold() != PurePosixPath(image).stem.casefold():
                report.mend(record.source, f"wrong <filename>: {str(named)!r}, the image is {image!r}")
            record.file_name = image
            taken[image] = record
    return list(taken.values())


def fill_size(record: ImageBoxes, images: Path, report: Report, *, compare: bool = False) -> bool:
    """Read width and height from the image where they are unknown; False, and a line in the report, if it cannot.

    Args:
        record: is changed.
        images: the folder of its image.
        report: gets what was filled in, or why the record cannot be used.
        compare: whether a size that is known is compared with the image's, too: boxes must not be clipped to a wrong
            one. (An image that cannot be read is left to `check_photos` then.)
    """
    known = record.width > 0 and record.height > 0
    if known and not compare:
        return True
    try:
        header = read_header(images / record.file_name)
    except ValueError as error:
        if not known:
            report.drop(record.source, f"size unknown and image unreadable: {error}")
        return known
    if known:
        problem = size_problem((record.width, record.height), header)
        if problem:
            report.drop(record.source, problem)
        return not problem
    record.width, record.height = header.size
    report.mend(record.source, f"size filled in from the image: {record.width} x {record.height}")
    return True


def fit_boxes(record: ImageBoxes, report: Report) -> None:
    """Clip the boxes to the image, whose size has to be known; those wholly outside, or without area, are lost."""
    fitted = []
    for number, (name, box) in enumerate(record.objects, 1):
        inside = clip_box(box, record.width, record.height)
        what = f"object {number}, {name!r}, {show_box(box)}, image {record.width} x {record.height}"
        if inside is None:
            empty = box[0] == box[2] or box[1] == box[3]
            report.drop(record.source, f"object {'without area' if empty else 'outside the image'}: {what}")
            record.lost += 1
        else:
            if inside != box:
                report.mend(record.source, f"object clipped to the image: {what}")
            fitted.append((name, inside))
    record.objects = fitted


def to_coco(records: Iterable[ImageBoxes], categories: Mapping[str, str] | None = None) -> dict:
    """Images with objects as COCO instances.

    Images are numbered from 1 in the order of their file names, categories from 1 in the order of `categories`, or
    of the sorted class names: the same input gives the same numbers, in whatever order it was read.

    Args:
        records: with known sizes.
        categories: {name in the records: name to write}; by default the names that occur.
    """
    records = sorted(records, key=lambda record: record.file_name)
    if categories is None:
        categories = {name: name for name in sorted({name for record in records for name, _ in record.objects})}
    number = {name: i for i, name in enumerate(categories, 1)}
    images, annotations = [], []
    for image_id, record in enumerate(records, 1):
        size = {"width": record.width, "height": record.height}
        # What `clean_coco` notes too, so that an image which lost an object does not pass for one with a single object.
        lost = {LOST: record.lost} if record.lost else {}
        images.append({"id": image_id, "file_name": record.file_name, **size, **lost})
        for name, (x1, y1, x2, y2) in record.objects:
            box = [x1, y1, x2 - x1, y2 - y1]
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": number[name]}
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    shown = [{"id": number[name], "name": written} for name, written in categories.items()]
    return {"images": images, "annotations": annotations, "categories": shown}


def show_box(box: Box) -> str:
    """A box for people: (x1, y1, x2, y2)."""
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
