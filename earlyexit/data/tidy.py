"""A COCO file's records in one form, whatever tool wrote them; what is wrong in meaning is left for the checks to say.

Ids are links and nothing more: a text or 1.0 serves as well as 1. What nobody needs may be missing.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pycocotools import mask

PARTS = ("images", "annotations", "categories")
FLAGS = {"false": 0, "true": 1}


def tidy(coco: Any) -> tuple[Any, list[str]]:
    """The data set with whole numbers as ids and numbers where numbers belong, and notes on what is not as it was.

    - Ids that are equal in value are equal (1, 1.0, "1"); texts and very long numbers get numbers of their own.
    - Ids of annotations stay if each is that of one annotation; otherwise all are counted anew from 1.
    - Sizes and areas that are null or 0 are left out: they are taken from the photo and from the box.
    - A missing box is that of the outline; a class that is called by a number has it as its name.
    - A category that only groups others, and has no object, is left out.

    Args:
        coco: what the file holds; it is not changed.
    """
    if not isinstance(coco, dict) or not all(isinstance(coco.get(part), list) for part in PARTS):
        return coco, []
    images, classes = _numbers(coco["images"]), _numbers(coco["categories"])
    found, notes = _numbered([_annotation(record, images, classes) for record in coco["annotations"]])
    categories = [_changed(record, **_linked(record, id=classes), **_named(record)) for record in coco["categories"]]
    groups = _groups(categories, {record.get("category_id") for record in found if _is_linked(record)})
    notes += [f"category that only groups others left out: {g['name']!r} (id {g['id']}), no object" for g in groups]
    kept = {"categories": [record for record in categories if record not in groups], "annotations": found}
    return {**coco, "images": [_image(record, images) for record in coco["images"]], **kept}, notes


def link(value: Any) -> int | str | None:
    """What an id stands for: equal for ids that are equal in value, None for what is no id."""
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if math.isfinite(value) and value == int(value) else None
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if re.fullmatch(r"-?\d{1,40}(\.0*)?", text) else text or None
    return None


def is_id(value: Any) -> bool:
    """Whether a value is a whole number of 64 bits, as ids are once they are tidy."""
    return type(value) is int and -(2**63) <= value < 2**63


def outline_box(outline: Any) -> list[float] | None:
    """The box [x, y, width, height] around an outline, polygons or a mask in run lengths; None if it is neither."""
    try:
        if isinstance(outline, dict):
            runs, (height, width) = outline["counts"], outline["size"]
            coded = mask.frPyObjects(outline, height, width) if isinstance(runs, list) else outline
            return mask.toBbox(coded).tolist()
        points = [float(value) for value in _flat(outline)]
        xs, ys = points[0::2], points[1::2]
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)] if len(xs) == len(ys) else None
    except (KeyError, TypeError, ValueError):
        return None


def _flat(values: Any) -> Iterable:
    return itertools.chain.from_iterable(map(_flat, values)) if isinstance(values, list) else [values]


def _numbers(records: list) -> dict[int | str, int]:
    """The number that stands for each id of the records: itself, or one that is free."""
    links = {link(record.get("id")) for record in records if isinstance(record, dict)} - {None}
    whole = {value for value in links if is_id(value)}
    free = (number for number in itertools.count(1) if number not in whole)
    others = sorted(links - whole, key=str)  # the same numbers whatever the order of the file
    return {**{value: value for value in whole}, **dict(zip(others, free, strict=False))}


def _linked(record: Any, **known: dict) -> dict[str, int]:
    """The ids of a record that have to be replaced by their numbers."""
    if not isinstance(record, dict):
        return {}
    numbers = {key: (record.get(key), numbers.get(link(record.get(key)))) for key, numbers in known.items()}
    return {key: new for key, (old, new) in numbers.items() if new is not None and new is not old}


def _named(category: Any) -> dict[str, str]:
    """The name as a text where it is a number: digits are classes, too."""
    name = category.get("name") if isinstance(category, dict) else None
    return {"name": str(_number(name))} if type(name) in (int, float) else {}


def _changed(record: Any, **changes: Any) -> Any:
    """The record with changes, None for what is left out: itself where there are none, for there may be millions."""
    if not changes:
        return record
    return {key: value for key, value in {**record, **changes}.items() if value is not None or key not in changes}


def _image(record: Any, images: dict) -> Any:
    changes = _linked(record, id=images)
    for side in ("width", "height"):
        if isinstance(record, dict) and side in record and (type(record[side]) is not int or not record[side]):
            changes[side] = _number(record[side]) or None
    return _changed(record, **changes)


def _annotation(record: Any, images: dict, classes: dict) -> Any:
    if not isinstance(record, dict) or _is_plain(record, images, classes):
        return record
    changes = _linked(record, image_id=images, category_id=classes)
    box, outline = record.get("bbox"), record.get("segmentation")
    if type(record.get("iscrowd", 0)) is not int:
        flag = record["iscrowd"]
        changes["iscrowd"] = FLAGS.get(flag.strip().casefold(), flag) if isinstance(flag, str) else flag
        changes["iscrowd"] = _number(changes["iscrowd"]) or 0
    if not record.get("area", 1) or type(record.get("area", 1)) not in (int, float):
        changes["area"] = _number(record["area"]) or None
    if not box and outline:
        changes["bbox"] = outline_box(outline)
    elif isinstance(box, list) and any(isinstance(side, str) for side in box):
        changes["bbox"] = [_number(side) for side in box]
    return _changed(record, **changes)


def _is_plain(record: dict, images: dict, classes: dict) -> bool:
    """Whether a record is tidy as it is: a quick look, for there may be millions of them."""
    get, box = record.get, record.get("bbox")
    if not type(get("image_id")) is type(get("category_id")) is type(get("iscrowd", 0)) is int:
        return False
    image, category = record["image_id"], record["category_id"]
    linked = images.get(image) == image and classes.get(category) == category
    measured = bool(get("area", 1)) and type(get("area", 1)) in (int, float)
    return linked and measured and bool(box) and isinstance(box, list) and str not in map(type, box)


def _number(value: Any) -> Any:
    """The number that a text or a flag stands for, whole if it can be; None for an empty text; all else as it is."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value if value.strip() else None
    whole = isinstance(value, bool) or (type(value) is float and math.isfinite(value) and value == int(value))
    return int(value) if whole else value


def _numbered(found: list) -> tuple[list, list[str]]:
    """The annotations with ids that tell them apart, and a note if they are new."""
    ids = [record.get("id") if isinstance(record, dict) else None for record in found]
    if all(map(is_id, ids)) and len(set(ids)) == len(ids):
        return found, []
    ids, first = list(map(link, ids)), {}
    for number, record in zip(ids, found, strict=True):
        # The same record again, word for word, is a repetition and no second annotation of that id.
        if isinstance(record, dict) and (not is_id(number) or first.setdefault(number, record) != record):
            new = [_changed(r, id=i) if isinstance(r, dict) else r for i, r in enumerate(found, 1)]
            return new, [
                f"ids of annotations counted anew from 1: missing, shared or no numbers, {record.get('id')!r:.40}"
            ]
    same = (
        record if number is None or type(record["id"]) is int else _changed(record, id=number)
        for number, record in zip(ids, found, strict=True)
    )
    return list(same), []


def _is_linked(record: Any) -> bool:
    return isinstance(record, dict) and is_id(record.get("category_id"))


def _groups(categories: list, used: set[int]) -> list[dict]:
    """Categories that are no classes, as Roboflow's category 0, which is the project: all others are below them."""
    if not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in categories):
        return []
    names = Counter(c["name"] for c in categories)
    above = Counter(map(_above, categories))
    groups, below = [], []
    for c in categories:
        itself = _above(c) == c["name"]
        unused = is_id(c.get("id")) and c["id"] not in used
        is_group = unused and above[c["name"]] > itself and names[_above(c)] == itself  # above others, and below none
        (groups if is_group else below).append(c)
    known = {group["name"] for group in groups}
    return groups if all(_above(c) in known for c in below) else []


def _above(category: dict) -> str:
    return str(category.get("supercategory") or "")
