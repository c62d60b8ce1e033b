"""What can be wrong with one record of a COCO file. A problem is a sentence for the report, "" if there is none."""

import math
from collections import Counter
from typing import Any

from .tidy import PARTS, is_id

NEEDED = {"images": {"id", "file_name"}, "annotations": {"image_id", "category_id", "bbox"}}
NUMBERS = {int, float}  # not bool, which is an int to isinstance
TOO_LARGE = 1e30  # for a coordinate or an area: float32 has to hold it


def check_records(coco: Any) -> None:
    """`ValueError` that shows the first record of a COCO data set, after `tidy`, that cannot be used."""
    known, sizes = category_ids(coco), {}
    for number, image in enumerate(coco["images"]):
        problem = image_problem(image)
        if not problem and image["id"] in sizes:
            problem = f"several images have the same id, {image['id']}; each needs its own"
        _refuse("image", image, number, problem)
        sizes[image["id"]] = image_size(image)
    for number, found in enumerate(coco["annotations"]):
        _refuse("annotation", found, number, annotation_problem(found, sizes, known))


def category_ids(coco: Any) -> set[int]:
    """The ids of the categories; `ValueError` if a list is missing altogether, or the categories are unusable."""
    for part in PARTS:
        if not isinstance(coco, dict) or not isinstance(coco.get(part), list):
            raise ValueError(f"no list {part!r}, so it is not a COCO instances file")
    for category in coco["categories"]:
        usable = isinstance(category, dict) and is_id(category.get("id")) and isinstance(category.get("name"), str)
        if not usable or not category["name"]:
            raise ValueError(f"a category is {{id: a whole number, name: a word}}, got {str(category)[:80]}")
    for key in ("id", "name"):
        for value, count in Counter(category[key] for category in coco["categories"]).items():
            if count > 1:
                raise ValueError(f"each category needs its own {key}, but {value!r} occurs {count} times")
    return {category["id"] for category in coco["categories"]}


def image_problem(image: Any) -> str:
    """What is wrong with the record of an image, "" if nothing is; its size may be missing."""
    problem = _missing(image, "images")
    if problem:
        return problem
    if not is_id(image["id"]):
        return f"id is neither a whole number nor a text: {image['id']!r:.40}"
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"file name is not a text: {image['file_name']!r:.40}"
    size = image.get("width") or 0, image.get("height") or 0
    if not all(is_id(side) and side >= 0 for side in size):
        return f"width and height are not whole numbers above 0: {size!r:.40}"
    return ""


def image_size(image: dict) -> tuple[float, float]:
    """Width and height, infinite where they are not known."""
    return image.get("width") or math.inf, image.get("height") or math.inf


def annotation_problem(found: Any, sizes: dict[int, tuple[float, float]], categories: set[int]) -> str:
    """What is wrong with an annotation, "" if nothing is.

    Args:
        found: the record.
        sizes: image id to width and height, infinite where they are not known.
        categories: the ids that there are.
    """
    problem = _missing(found, "annotations")
    if problem:
        return problem
    if not is_id(found["image_id"]) or found["image_id"] not in sizes:
        return f"annotation of an unknown image: {found['image_id']!r:.40}"
    if not is_id(found["category_id"]) or found["category_id"] not in categories:
        return f"unknown category: {found['category_id']!r:.40}"
    if found.get("iscrowd", 0) not in (0, 1):
        return f"iscrowd is not 0 or 1: {found['iscrowd']!r:.40}"
    if not is_area(found.get("area", 0)):
        return f"area is not a number from 0 on: {found['area']!r:.40}"
    return _box_problem(found["bbox"], *sizes[found["image_id"]])


def _box_problem(box: Any, width: float, height: float) -> str:
    if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
        return f"bbox is not four numbers [x, y, width, height]: {box!r:.60}"
    x, y, w, h = box
    if not all(map(_is_number, box)):
        return f"bbox is not finite: {box!r:.60}"
    if w < 0 or h < 0:
        return f"bbox with a negative width or height: {box}"
    # A box without area is no box, but an annotation: it is for the filters to decide.
    if w > 0 and h > 0 and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        return f"bbox outside its image: {box} in {width} x {height}"
    return ""


def _missing(record: Any, part: str) -> str:
    if not isinstance(record, dict):
        return f"not a record: {record!r:.40}"
    if record.keys() >= NEEDED[part]:
        return ""
    return f"no {min(NEEDED[part] - record.keys())!r}"


def label(kind: str, record: Any, number: int) -> str:
    """The name of a record in the report: its id if it has one, its place in the list if not."""
    if isinstance(record, dict) and is_id(record.get("id")):
        return f"{kind} {record['id']}"
    return f"{kind} number {number + 1}"


def is_area(value: Any) -> bool:
    """Whether a value can be an area in pixels."""
    return _is_number(value) and value >= 0


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; not a whole one of hundreds of digits either, which no float can hold."""
    return type(value) in NUMBERS and abs(value) < TOO_LARGE


def _refuse(kind: str, record: Any, number: int, problem: str) -> None:
    if problem:
        raise ValueError(
            f"{label(kind, record, number)}: {problem} (data_prep/own_data.py coco leaves out or mends such)"
        )
