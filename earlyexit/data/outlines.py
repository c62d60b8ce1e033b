"""The box of an outline: COCO files of polygons alone have no `bbox`."""

from typing import Any

from pycocotools import mask


def add_box(record: dict) -> dict:
    """A record of a COCO file; where an annotation has an outline and no box, the box that encloses the outline.

    The record itself is changed. What is no outline changes nothing: the checks say what such a record lacks.
    """
    box = record.get("bbox")
    if "segmentation" in record and (not box or box == [0, 0, 0, 0]):
        found = outline_box(record["segmentation"])
        if found:
            record["bbox"] = found
    return record


def outline_box(outline: Any) -> list[float] | None:
    """The box [x, y, width, height] around an outline, in its units; None if it is none.

    Args:
        outline: a list of polygons, each x and y in turn, or of points; or a dict with the runs of a mask.
    """
    if isinstance(outline, dict):
        return _mask_box(outline)
    numbers = _flat(outline)
    if len(numbers) < 6 or len(numbers) % 2 or not all(type(number) in (int, float) for number in numbers):
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _flat(outline: Any) -> list:
    return [number for part in outline for number in _flat(part)] if isinstance(outline, list) else [outline]


def _mask_box(runs: dict) -> list[float] | None:
    try:
        if isinstance(runs["counts"], list):
            runs = mask.frPyObjects(runs, *runs["size"])
        box = mask.toBbox(runs).tolist()
    except (KeyError, TypeError, ValueError):
        return None
    return box if box[2] > 0 and box[3] > 0 else None
