"""Boxes in YOLO's text files, a line each: read, with outlines too, and written."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from earlyexit.data import Coco, annotation_file, list_files, read_coco
from earlyexit.files import progress, write_whole

from .boxes import Box, ImageBoxes, fill_size, find_images
from .cleaning import Report
from .layout import SPLITS, place_image
from .splits import note_split, read_text
from .yolo_set import YoloSet, describe, label_files, label_folders

# Shares are written with few digits; what sticks out of the image by no more than this is rounding, and is cut off.
ROUNDING = 1e-3
YOLO_SPLITS = dict(zip(SPLITS, ("train", "val", "test"), strict=True))  # what other tools call ours


def read_yolo(source: Path, images: Path | None, report: Report) -> tuple[list[ImageBoxes], dict[str, str], Path]:
    """The objects of every image, in pixels; the classes in the order of their numbers; the folder of all images.

    A line is a class's number and x, y, width and height of the box, x and y of its centre, as shares of the image.
    More numbers are the corners of an outline, or of a turned box, which the box then encloses. A file that is empty
    or missing belongs to an image without an object.

    Args:
        source: a data.yaml; a list of classes, such as classes.txt; or a folder with one of them.
        images: the folder of the images, if it is another one.
        report: gets what was dropped and mended, and what was taken for what.

    Raises:
        ValueError: see `describe`; no image has a label, or boxes are in pixels.
    """
    found = describe(source, images)
    splits = {}
    for split, names in found.images.items():
        for name in names:
            note_split(splits, name, split)
    read = _read_labels(found, source, report)
    _check_shares(read, found.root)
    labelled = {record.file_name: record for record in find_images(read, found.root, report, by_source=False)}
    records = []
    for name, split in progress(splits.items(), "reading sizes of images", len(splits)):
        record = labelled.get(name) or ImageBoxes(name, name)
        record.split = split
        if _to_pixels(record, found.root, report):
            records.append(record)
    _note(found, records, len(splits.keys() - labelled.keys()), report)
    used = {name for record in records for name, _ in record.objects}
    return records, {name: name for _, name in sorted(found.classes.items()) if name in used}, found.root


def _read_labels(found: YoloSet, source: Path, report: Report) -> list[ImageBoxes]:
    """A record for every label file; boxes are shares of the image."""
    records = []
    for folder, inner in label_folders(found, source).items():
        for path in progress(label_files(folder), f"reading {folder.name}"):
            name = str(PurePosixPath(inner or "") / path.stem)
            record = ImageBoxes(f"{folder.name}/{path.name}", name)
            try:
                lines = read_text(path).splitlines()
            except (OSError, ValueError) as error:
                report.drop(record.source, f"label file not readable: {error}")
                continue
            for number, line in enumerate(lines, 1):
                _add_line(record, line, number, found, report)
            records.append(record)
    if not records:
        raise ValueError(f"no label files (*.txt) in `labels` or beside the images below {str(found.root)!r}")
    return records


def _add_line(record: ImageBoxes, line: str, number: int, found: YoloSet, report: Report) -> None:
    where = f"{record.source} line {number}"
    try:
        numbers = [float(text) for text in line.split()]
    except ValueError:
        numbers = [math.nan]
    if not numbers:
        return
    label, *rest = numbers
    if not all(map(math.isfinite, numbers)):
        problem = f"line that is not of numbers with a decimal point: {line:.60}"
    elif label not in found.classes:
        problem = f"unknown class: {label:g}, there are {min(found.classes)} to {max(found.classes)}"
    elif not (box := _box(rest, found.keypoints)):
        problem = f"line that is neither a box nor an outline: {len(rest)} numbers after the class"
    elif (found.classes[int(label)], box) in record.objects:
        report.drop(where, "repeated line")
        return
    else:
        if len(rest) == 5:
            report.mend(where, "sixth number, a confidence, not used")
        record.objects.append((found.classes[int(label)], box))
        return
    report.drop(where, problem)
    record.lost += 1


def _box(numbers: list[float], keypoints: int) -> Box | None:
    """Corners from what follows the class; None if that is neither a box, with or without more, nor an outline."""
    if len(numbers) in (4, 5) or keypoints and len(numbers) == 4 + keypoints:
        x, y, w, h = numbers[:4]
        return (x - w / 2, y - h / 2, x + w / 2, y + h / 2) if w >= 0 and h >= 0 else None
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _check_shares(records: Iterable[ImageBoxes], root: Path) -> None:
    boxes = [box for record in records for _, box in record.objects]
    far = [box for box in boxes if max(map(abs, box)) > 2]
    if len(far) > len(boxes) / 2:
        raise ValueError(
            f"labels below {str(root)!r}: {len(far)} of {len(boxes)} boxes are in pixels; YOLO's are shares of the "
            "image, from 0 to 1: divide x and width by its width, y and height by its height"
        )


def _to_pixels(record: ImageBoxes, root: Path, report: Report) -> bool:
    """Multiply the boxes by the size of the image; False, and a line in the report, if it cannot be read."""
    opened = Report()
    if not fill_size(record, root, opened):
        report.extend(opened)
        return False
    sides = (record.width, record.height) * 2
    record.objects = [
        (name, tuple(_round(share) * side for share, side in zip(box, sides, strict=True)))
        for name, box in record.objects
    ]
    return True


def _round(share: float) -> float:
    return min(max(share, 0.0), 1.0) if -ROUNDING <= share <= 1 + ROUNDING else share


def _note(found: YoloSet, records: list[ImageBoxes], unlabelled: int, report: Report) -> None:
    for note in found.notes:
        report.note(note)
    if unlabelled:
        report.note(f"images without a label file, taken as images without an object: {unlabelled}")
    used = {name for record in records for name, _ in record.objects}
    unused = [name for name in found.classes.values() if name not in used]
    if unused:
        report.note(f"classes without an object, left out: {', '.join(unused[:5])}{' ...' * (len(unused) > 5)}")


def write_yolo(parts: Mapping[str, tuple[Coco, Path]], out: Path, link: str = "hard") -> dict[str, int]:
    """Write splits as YOLO's tools read them: out/images/SPLIT/, out/labels/SPLIT/ and, last of all, out/data.yaml.

    Classes are numbered from 0 in the order of the categories' ids. Crowds and boxes without area are left out.

    Args:
        parts: {split: (instances in COCO's layout, the folder of the images)}, all of the same categories.
        out: the folder to make; the same command may be run again.
        link: how images get there, see `place_image`.

    Returns:
        How many boxes each split has.

    Raises:
        ValueError: two images would share a label file, other files are in the folder, or the categories differ.
        OSError: an image cannot be read, or the folder not written.
    """
    names = [_names(coco) for coco, _ in parts.values()]
    if any(other != names[0] for other in names):
        raise ValueError(f"the splits have other classes: {names[0]} and {next(n for n in names if n != names[0])}")
    labels = {split: _labels(coco, split) for split, (coco, _) in parts.items()}
    placed = [
        (images / i["file_name"], _target(split, i), split) for split, (c, images) in parts.items() for i in c["images"]
    ]
    _check_free(out, {str(target) for _, target, _ in placed}.union(*labels.values()))
    (out / "data.yaml").unlink(missing_ok=True)
    for image, target, _ in progress(placed, "placing images"):
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        place_image(image, out / target, link)
    for path, lines in (item for files in labels.values() for item in files.items()):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    text = "".join(f"{YOLO_SPLITS[split]}: images/{YOLO_SPLITS[split]}\n" for split in parts) + "names:\n"
    # JSON's way to write a text is YAML's, too, whatever stands in it.
    text += "".join(f"  {n}: {json.dumps(name, ensure_ascii=False)}\n" for n, name in enumerate(names[0]))
    write_whole(out / "data.yaml", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return {split: sum(map(len, files.values())) for split, files in labels.items()}


def read_parts(data: Path) -> dict[str, tuple[Coco, Path]]:
    """The splits of a folder in this package's layout, each with the folder of its images; `ValueError` if none."""
    found = {split: annotation_file(data, split) for split in SPLITS}
    parts = {split: (read_coco(path, outlines=False), data / split) for split, path in found.items() if path.exists()}
    if not parts:
        raise ValueError(f"{str(data)!r} holds no annotations/instances_SPLIT.json of {', '.join(SPLITS)}")
    return parts


def _names(coco: Coco) -> list[str]:
    return [category["name"] for category in sorted(coco["categories"], key=lambda category: category["id"])]


def _target(split: str, image: Coco) -> PurePosixPath:
    return PurePosixPath("images", YOLO_SPLITS[split], image["file_name"])


def _labels(coco: Coco, split: str) -> dict[str, list[str]]:
    """{label file: its lines}; `ValueError` if two images would share one."""
    number = {name: place for place, name in enumerate(_names(coco))}
    number = {category["id"]: number[category["name"]] for category in coco["categories"]}
    images, lines = {image["id"]: image for image in coco["images"]}, defaultdict(list)
    for found in coco["annotations"]:
        (x, y, w, h), image = found["bbox"], images[found["image_id"]]
        if w > 0 and h > 0 and not found.get("iscrowd"):
            shares = (
                (x + w / 2) / image["width"],
                (y + h / 2) / image["height"],
                w / image["width"],
                h / image["height"],
            )
            lines[image["id"]].append(" ".join([str(number[found["category_id"]]), *(f"{v:.8g}" for v in shares)]))
    files, owner = {}, {}
    for image in images.values():
        parts = list(_target(split, image).with_suffix(".txt").parts)
        place = max(place for place, part in enumerate(parts[:-1]) if part == "images")  # the last, to YOLO's tools
        file = str(PurePosixPath(*parts[:place], "labels", *parts[place + 1 :]))
        if owner.setdefault(file, image["file_name"]) != image["file_name"]:
            raise ValueError(f"{owner[file]!r} and {image['file_name']!r} would share {file!r}; rename one of them")
        files[file] = lines[image["id"]]
    return files


def _check_free(out: Path, names: set[str]) -> None:
    """`ValueError` if files of another data set lie where this one is to be written."""
    there = [f"{part}/{name}" for part in ("images", "labels") for name in list_files(out / part, ("",))]
    other = [name for name in there if name not in names]
    if other:
        raise ValueError(f"{str(out)!r} holds files of other data, such as {other[0]!r}: choose another --out")
