"""What can be wrong with one record of a COCO file. A problem is a sentence for the report, "" if there is none."""

import math
from typing import Any

ROUNDING = 0.02  # pixels; COCO's coordinates have two decimals, so a box at the border may stick out by one of them
NEEDED = {"images": {"id", "file_name"}, "annotations": {"id", "image_id", "category_id", "bbox"}}
NUMBERS = {int, float}  # not bool, which is an int to isinstance


def image_problem(image: Any) -> str:
    """What is wrong with the record of an image, "" if nothing is; its width and height may be missing or 0."""
    problem = _missing(image, "images")
    if problem:
        return problem
    if not is_id(image["id"]):
        return f"id is not a whole number: {image['id']!r:.40}"
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"file name is not a text: {image['file_name']!r:.40}"
    size = image.get("width") or 0, image.get("height") or 0
    if not all(is_id(side) and side >= 0 for side in size):
        return f"width and height are not whole numbers: {size!r:.40}"
    return ""


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
    if not is_id(found["id"]):
        return f"id is not a whole number: {found['id']!r:.40}"
    if not is_id(found["image_id"]) or found["image_id"] not in sizes:
        return f"annotation of an unknown image: {found['image_id']!r:.40}"
    if not is_id(found["category_id"]) or found["category_id"] not in categories:
        return f"unknown category: {found['category_id']!r:.40}"
    if type(found.get("area", 0)) not in NUMBERS or found.get("iscrowd", 0) not in (0, 1):
        return f"area is not a number, or iscrowd not 0 or 1: {found.get('area')!r:.20}, {found.get('iscrowd')!r:.20}"
    return _box_problem(found["bbox"], *sizes[found["image_id"]])


def _box_problem(box: Any, width: float, height: float) -> str:
    if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
        return f"bbox is not four numbers [x, y, width, height]: {box!r:.60}"
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        return f"bbox is not finite: {box}"
    if w < 0 or h < 0:
        return f"bbox with a negative width or height: {box}"
    # A box without area is no box, but an annotation: it is for the filters to decide.
    if w > 0 and h > 0 and (x >= width or y >= height or x + w <= 0 or y + h <= 0):
        return f"bbox outside its image: {box} in {width} x {height}"
    return ""


def clip_box(found: dict, width: float, height: float) -> dict:
    """The annotation with its box inside the image: itself, unless the box sticks out by more than rounding."""
    x, y, w, h = found["bbox"]
    if -ROUNDING <= x <= x + w <= width + ROUNDING and -ROUNDING <= y <= y + h <= height + ROUNDING:
        return found
    if not (w > 0 and h > 0):
        return found
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    box = [left, top, right - left, bottom - top]
    clipped = {**found, "bbox": box}
    if "area" in found:
        clipped["area"] = min(found["area"], box[2] * box[3])
    return clipped


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


def is_id(value: Any) -> bool:
    """Whether a value is a whole number, as the ids of images, annotations and categories are."""
    return type(value) is int
