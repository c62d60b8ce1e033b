"""Leaving out what cannot be used, records of a COCO file and photos, and saying what and why."""

from __future__ import annotations

import csv
import functools
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from earlyexit.data import LOST, Coco, find_photos, open_photo, read_header, size_problem, take_images, tidy
from earlyexit.data.annotations import (
    annotation_problem,
    category_ids,
    image_problem,
    image_size,
    is_area,
    is_id,
    label,
)
from earlyexit.files import progress, write_whole

ROUNDING = 0.02  # pixels; COCO's coordinates have two decimals, so a box at the border may stick out by one of them


@dataclass
class Report:
    """Files or records that were dropped or mended while a data set was prepared, in the order of the events.

    A reason is "what is wrong" or "what is wrong: the details"; `counts` and `lines` group by what stands before the
    first ": ".

    Attributes:
        dropped: (file or record, reason) of everything that was left out.
        mended: (file or record, what was done) of everything that was put right.
        notes: what was taken for what, a line each.
    """

    dropped: list[tuple[str, str]] = field(default_factory=list)
    mended: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list, compare=False)

    def drop(self, file: str, reason: str) -> None:
        """Note that a file or record is left out."""
        self.dropped.append((str(file), reason))

    def mend(self, file: str, what: str) -> None:
        """Note that a file or record was put right."""
        self.mended.append((str(file), what))

    def note(self, line: str) -> None:
        """Note what was taken for what."""
        self.notes.append(line)

    def extend(self, other: Report) -> None:
        """Take over everything from another report."""
        self.dropped += other.dropped
        self.mended += other.mended
        self.notes += other.notes

    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason, without its details, the most frequent first."""
        return {reason: len(files) for reason, files in _groups(self.dropped)}

    def commonest(self) -> str:
        """Why most of what was dropped was: the reason, its count and the first file; "" if nothing was dropped."""
        if not self.dropped:
            return ""
        reason, files = _groups(self.dropped)[0]
        return f"{reason}: {len(files)}, such as {files[0]}"

    def lines(self, limit: int = 10) -> list[str]:
        """The report for people: notes, then each reason with its count and, indented, at most `limit` files."""
        found = list(self.notes)
        for action, entries in (("dropped", self.dropped), ("mended", self.mended)):
            for reason, files in _groups(entries):
                found.append(f"{action}, {reason}: {len(files)}")
                found += [f"  {file}" for file in files[:limit]]
                if len(files) > limit:
                    found.append(f"  and {len(files) - limit} more")
        return found

    def check_strict(self, limit: int = 10) -> None:
        """`ValueError` that lists the first `limit` if anything was dropped."""
        if not self.dropped:
            return
        listed = [f"{file}: {reason}" for file, reason in self.dropped[:limit]]
        more = [f"and {len(self.dropped) - limit} more"] if len(self.dropped) > limit else []
        raise ValueError("\n  ".join([f"{len(self.dropped)} cannot be used:", *listed, *more]))

    def write(self, path: str | Path) -> Path:
        """Write a CSV with the columns file, action (dropped or mended) and reason; whole or not at all."""
        return write_whole(path, self._write_csv)

    def _write_csv(self, path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file)
            rows.writerow(("file", "action", "reason"))
            rows.writerows((name, "dropped", reason) for name, reason in self.dropped)
            rows.writerows((name, "mended", what) for name, what in self.mended)


def _groups(entries: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Reasons with their files, the most frequent first; details follow the file in brackets."""
    groups = defaultdict(list)
    for file, reason in entries:
        kind, _, details = reason.partition(": ")
        groups[kind].append(f"{file} ({details})" if details else file)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def clean_coco(coco: Coco, report: Report, name: str, *, fit: bool = True) -> Coco:
    """A COCO data set without what cannot be used; every record that is left out or mended goes into the report.

    First it is made `tidy`. Left out are then records without a key that they need, images whose id or file name
    another image has too (nobody can say whose annotations are whose), annotations of an image that is not there or of
    an unknown category, or with a bbox that is not four finite numbers, has a negative side or lies outside its image.
    A repetition, word for word, of a record is left out and nothing else. An area that is none is that of the box, and
    a box that lies partly outside is clipped.

    An image that loses an annotation keeps the others but remembers how many it lost, under the key
    "unusable_annotations". It did show one object more than are left, so `keep_single_objects` leaves it out: dropping
    a bad record must not turn a picture of two objects into one of a single object.

    Boxes are compared with the image only where its width and height are known; `check_photos` fills them in, and
    finds those that are wrong, for which boxes must not be clipped; so the data set may be cleaned again.

    Args:
        coco: instances in COCO's layout; it is not changed.
        report: takes a line for every record that is dropped or mended; none for the annotations of a dropped image.
        name: of the file, for the report.
        fit: whether to compare boxes with the sizes that are known.

    Returns:
        The same keys, with records in their order.

    Raises:
        ValueError: a list is missing altogether, or the categories are unusable.
    """
    coco, notes = tidy(coco)
    for note in notes:
        report.mend(name, note)
    try:
        known = category_ids(coco)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from None
    images, dropped = _clean_images(coco["images"], report, name)
    sizes = {i: image_size(image if fit else {}) for i, image in images.items()}
    kept, lost = {}, Counter()
    for number, found in enumerate(coco["annotations"]):
        if isinstance(found, dict) and not is_area(found.get("area", 0)):
            report.mend(f"{name}: {label('annotation', found, number)}", f"area computed: it was {found['area']!r:.40}")
            found = {key: value for key, value in found.items() if key != "area"}
        problem = annotation_problem(found, sizes, known)
        if problem == "" and found["id"] in kept:
            report.drop(f"{name}: annotation {found['id']}", "repeated annotation")
        elif problem:
            image_id = found.get("image_id") if isinstance(found, dict) else None
            if not is_id(image_id) or image_id not in dropped:
                report.drop(f"{name}: {label('annotation', found, number)}", problem)
                lost[image_id if is_id(image_id) else None] += 1
        else:
            kept[found["id"]] = found
    cleaned = [_clip(found, sizes[found["image_id"]], report, name) for found in kept.values()]
    marked = [{**image, LOST: image.get(LOST, 0) + lost[i]} if lost[i] else image for i, image in images.items()]
    return {**coco, "images": marked, "annotations": cleaned}


def _clean_images(records: list, report: Report, name: str) -> tuple[dict[int, Coco], set[int]]:
    """Images by id, and the ids of those that were left out."""
    usable, dropped, kept = defaultdict(list), set(), {}
    for number, image in enumerate(records):
        problem = image_problem(image)
        if problem:
            report.drop(f"{name}: {label('image', image, number)}", problem)
            if isinstance(image, dict) and is_id(image.get("id")):
                dropped.add(image["id"])
        elif image in usable[image["id"]]:
            report.drop(f"{name}: image {image['id']}", "repeated image")
        else:
            usable[image["id"]].append(image)
    unique = [image for same_id in usable.values() for image in same_id]
    shared = _sharing(unique, "id"), _sharing(unique, "file_name")
    for image in unique:
        if image["id"] in shared[0] or image["file_name"] in shared[1]:
            problem = "id of several images" if image["id"] in shared[0] else "file name of several images"
            report.drop(f"{name}: image {image['id']}", f"{problem}: {image['file_name']}")
            dropped.add(image["id"])
        else:
            kept[image["id"]] = image
    return kept, dropped


def _sharing(images: list[Coco], key: str) -> set:
    return {value for value, count in Counter(image[key] for image in images).items() if count > 1}


def _clip(found: Coco, size: tuple[float, float], report: Report, name: str) -> Coco:
    """The annotation with its box inside the image: itself, unless the box sticks out by more than rounding."""
    (x, y, w, h), (width, height) = found["bbox"], size
    inside = -ROUNDING <= x <= x + w <= width + ROUNDING and -ROUNDING <= y <= y + h <= height + ROUNDING
    if inside or not (w > 0 and h > 0):
        return found
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    box = [left, top, right - left, bottom - top]
    report.mend(f"{name}: annotation {found['id']}", f"bbox clipped to its image: {found['bbox']} to {box}")
    return {**found, "bbox": box, **({"area": min(found["area"], box[2] * box[3])} if "area" in found else {})}


def check_photos(coco: Coco, images: str | Path, report: Report, workers: int | None = None) -> Coco:
    """Open every image to its last byte and leave out, with their annotations, those that cannot be used.

    Found are missing and truncated files, and sizes that are not those in the annotations. A width or height that is
    missing is filled in from the image, and a file name becomes that of the photo which `find_photos` finds for it.

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
    places = find_photos(images, [image["file_name"] for image in coco["images"]])
    # Threads suffice: Pillow lets go of Python's lock while it decodes.
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        read = pool.map(functools.partial(_look_at, Path(images)), coco["images"], places)
        seen = list(progress(read, "checking images", len(places)))
    kept = {}
    for image, (photo, _), (size, note, problem) in zip(coco["images"], places, seen, strict=True):
        name = image["file_name"]
        if problem:
            report.drop(name, problem)
            continue
        if photo != name:
            report.mend(name, f"file name that is written otherwise: {photo!r}")
        if note:
            report.mend(name, note)
        if not (image.get("width") and image.get("height")):
            report.mend(name, f"size filled in from the image: {size[0]} x {size[1]}")
        kept[image["id"]] = {**image, "file_name": photo, "width": size[0], "height": size[1]}
    return {**take_images(coco, set(kept)), "images": list(kept.values())}


def _look_at(folder: Path, image: Coco, place: tuple[str | None, str]) -> tuple[tuple[int, int], str, str]:
    """Size of an image that is read to its end, a note, and what is wrong with it ("" if nothing is)."""
    photo, problem = place
    if photo is None:
        return (0, 0), "", problem
    try:
        _, size, note = open_photo(folder / photo, longest=8)  # a JPEG is read whole but decoded small: twice as fast
        said = image.get("width") or size[0], image.get("height") or size[1]
        return size, note, size_problem(said, read_header(folder / photo)) if said != size else ""
    except (OSError, ValueError) as error:
        return (0, 0), "", f"unreadable image: {error}"
