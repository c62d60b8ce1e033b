"""What becomes of a COCO file's records as other tools write them, which are refused, and can their boxes be right?

Ids are links and nothing more: a text or 1.0 serves as well as 1. What nobody needs may be missing. A problem is a
sentence for the report, "" if there is none.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from pycocotools import mask

PARTS = ("images", "annotations", "categories")
FLAGS = {"false": 0, "true": 1}


def tidy(coco: Any) -> tuple[Any, list[str]]:
    """The data set with whole numbers as ids and numbers where numbers belong, and notes on what is not as it was.

    What is given, whatever a file holds, is not changed.

    - Ids that are equal in value are equal (1, 1.0, "1"); texts and very long numbers get numbers of their own.
    - Ids of annotations stay if each is that of one annotation; otherwise all are counted anew from 1.
    - Sizes and areas that are null or 0 are left out: they are taken from the photo and from the box.
    - A missing box is that of the outline; a class that is called by a number has it as its name.
    - A category that only groups others, and has no object, is left out.
    """
    if not isinstance(coco, dict) or not all(isinstance(coco.get(part), list) for part in PARTS):
        return coco, []
    images, classes = _numbers(coco["images"]), _numbers(coco["categories"])
    found, notes = _numbered([_annotation(record, images, classes) for record in coco["annotations"]])
    categories = [_changed(record, **_linked(record, id=classes), **_named(record)) for record in coco["categories"]]
    groups = _groups(categories, {link(record.get("category_id")) for record in found if isinstance(record, dict)})
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
    changes = {}
    for key, numbers in known.items() if isinstance(record, dict) else ():
        old = record.get(key)
        new = numbers.get(old if type(old) is int else link(old))  # `link` costs time, for there may be millions
        if new is not None and (type(old) is not int or new != old):
            changes[key] = new
    return changes


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
    if not isinstance(record, dict):
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
    elif isinstance(box, list) and str in map(type, box):
        changes["bbox"] = [_number(side) for side in box]
    return _changed(record, **changes)


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
            why = f"missing, shared or no numbers, {record.get('id')!r:.40}"
            return new, [f"ids of annotations counted anew from 1: {why}"]
    pairs = zip(ids, found, strict=True)
    return [r if i is None or type(r["id"]) is int else _changed(r, id=i) for i, r in pairs], []


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
    """What is wrong with an annotation, "" if nothing is; `sizes` by the ids of images, infinite if not known."""
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
    missing = NEEDED[part] - record.keys()
    return f"no {min(missing)!r}" if missing else ""


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
        cure = "data_prep/own_data.py coco leaves out or mends such"
        raise ValueError(f"{label(kind, record, number)}: {problem} ({cure})")


MOST, SOME = 0.9, 0.1  # shares of the boxes
UNITS = {100: ("percent", 300), 1000: ("thousandths", 2000)}  # from which side of images on it is odd to end there
SLACK = 1.01  # of a pixel: a share of 1.0004 is rounding
FEW = 5  # boxes that say nothing yet about all


def check_plausible(coco: dict) -> list[str]:
    """Sentences about a data set, with usable records, whose boxes look as if something went wrong; [] if all is well.

    Raises:
        ValueError: boxes are shares of the image instead of pixels, or are all smaller than a pixel.
    """
    images = {image["id"]: image for image in coco["images"]}
    found = [record for record in coco["annotations"] if min(record["bbox"][2:]) > 0]
    boxes = np.array([record["bbox"] for record in found], dtype=float).reshape(-1, 4)
    ends = boxes[:, :2] + boxes[:, 2:]
    known = {image_id: image_size(image) for image_id, image in images.items()}
    sizes = np.array([known[record["image_id"]] for record in found]).reshape(-1, 2)

    def said(which: np.ndarray, what: str) -> str:
        first = found[int(which.argmax())]
        place = f"{first['bbox']} of {images[first['image_id']]['file_name']!r}"
        return f"{which.sum()} of {len(found)} boxes, such as {place}, {what}"

    shares = (boxes[:, :2] >= -SLACK).all(1) & (boxes <= SLACK).all(1)
    tiny = (boxes[:, 2:] <= SLACK).all(1)
    if shares.sum() > SOME * len(found):
        cure = "multiply them by its width and height, for boxes are in pixels"
        raise ValueError(said(shares, f"lie in the first pixel: shares of the image (0 to 1), it seems; {cure}"))
    if tiny.sum() > 0.5 * len(found):
        raise ValueError(said(tiny, "are under a pixel: in other units, it seems; boxes are in pixels of their image"))
    notes = [said(tiny, "are under a pixel")] if tiny.any() else []
    whole = ((boxes[:, :2] <= 1) & (ends >= sizes - 1)).all(1)
    cut = (ends >= sizes).any(1)
    unit = next((unit for unit in UNITS if not (ends > unit + SLACK).any()), 0)
    if len(found) < FEW:
        return notes
    if whole.sum() > MOST * len(found):
        notes.append(said(whole, "cover their whole image: were they drawn at all, or do they only tell its class?"))
    elif cut.sum() > MOST * len(found):
        causes = "(x1, y1, x2, y2) taken for (x, y, width, height), or boxes for larger photos"
        notes.append(said(cut, f"end at the right or lower border, or are cut off there: {causes}?"))
    elif unit and np.median(sizes.min(1)) >= UNITS[unit][1]:
        question = f"are they {UNITS[unit][0]} of the image?"
        notes.append(said(tiny | True, f"end within {unit} pixels of large images: {question}"))
    return notes
