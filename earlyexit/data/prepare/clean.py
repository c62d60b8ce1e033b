"""Leaving out of a COCO file what cannot be used, and saying what and why."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from .faults import annotation_problem, category_ids, clip_box, image_problem, image_size, is_id, label
from .report import Report
from .splits import Coco

LOST = "unusable_annotations"  # key of an image: how many of its annotations were left out


def clean_coco(coco: Coco, report: Report, name: str) -> Coco:
    """A COCO data set without what cannot be used; every record that is left out or mended goes into the report.

    Left out are records without a key that they need, images whose id or file name another image has too (nobody can
    say whose annotations are whose), annotations of an image that is not there or of an unknown category, with an id
    that came before, or with a bbox that is not four finite numbers, has a negative side or lies outside its image.
    A repetition, word for word, of a record is left out and nothing else. A box that lies partly outside is clipped.

    An image that loses an annotation keeps the others but remembers how many it lost, under the key
    "unusable_annotations". It did show one object more than are left, so `keep_single_objects` leaves it out: dropping
    a bad record must not turn a picture of two objects into one of a single object.

    Boxes are compared with the image only where its width and height are known; `check_images` fills them in, and the
    data set may be cleaned again.

    Args:
        coco: instances in COCO's layout; it is not changed.
        report: takes a line for every record that is dropped or mended; none for the annotations of a dropped image.
        name: of the file, for the report.

    Returns:
        The same keys, with records in their order.

    Raises:
        ValueError: a list is missing altogether, or the categories are unusable.
    """
    try:
        known = category_ids(coco)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from None
    images, dropped = _clean_images(coco["images"], report, name)
    sizes = {i: image_size(image) for i, image in images.items()}
    kept, lost = {}, Counter()
    for number, found in enumerate(coco["annotations"]):
        problem = annotation_problem(found, sizes, known)
        if problem == "" and found["id"] in kept:
            if found == kept[found["id"]]:
                report.drop(f"{name}: annotation {found['id']}", "repeated annotation")
                continue
            problem = "annotation id that came before"
        if problem:
            image_id = found.get("image_id") if isinstance(found, dict) else None
            if not is_id(image_id) or image_id not in dropped:
                report.drop(f"{name}: {label('annotation', found, number)}", problem)
                lost[image_id if is_id(image_id) else None] += 1
        else:
            kept[found["id"]] = found
    cleaned = [_clip(found, sizes[found["image_id"]], report, name) for found in kept.values()]
    marked = [_mark(image, lost[i]) for i, image in images.items()]
    return {**coco, "images": marked, "annotations": cleaned}


def _clean_images(records: list, report: Report, name: str) -> tuple[dict[int, Coco], set[int]]:
    """Images by id, and the ids of those that were left out."""
    usable, dropped = [], set()
    for number, image in enumerate(records):
        problem = image_problem(image)
        if problem:
            report.drop(f"{name}: {label('image', image, number)}", problem)
            if isinstance(image, dict) and is_id(image.get("id")):
                dropped.add(image["id"])
        else:
            usable.append(image)
    unique = _without_repetitions(usable, report, name)
    shared = _sharing(unique, lambda image: image["id"]), _sharing(unique, lambda image: image["file_name"])
    kept = {}
    for image in unique:
        problem = "id of several images" if image["id"] in shared[0] else "file name of several images"
        if image["id"] in shared[0] or image["file_name"] in shared[1]:
            report.drop(f"{name}: image {image['id']}", f"{problem}: {image['file_name']}")
            dropped.add(image["id"])
        else:
            kept[image["id"]] = image
    return kept, dropped


def _without_repetitions(images: list[Coco], report: Report, name: str) -> list[Coco]:
    seen, unique = defaultdict(list), []
    for image in images:
        if image in seen[image["id"]]:
            report.drop(f"{name}: image {image['id']}", "repeated image")
        else:
            seen[image["id"]].append(image)
            unique.append(image)
    return unique


def _sharing(images: list[Coco], key: Callable[[Coco], Any]) -> set:
    return {value for value, count in Counter(map(key, images)).items() if count > 1}


def _clip(found: Coco, size: tuple[float, float], report: Report, name: str) -> Coco:
    clipped = clip_box(found, *size)
    if clipped is not found:
        what = f"bbox clipped to its image: {found['bbox']} to {clipped['bbox']}"
        report.mend(f"{name}: annotation {found['id']}", what)
    return clipped


def _mark(image: Coco, lost: int) -> Coco:
    return {**image, LOST: image.get(LOST, 0) + lost} if lost else image
