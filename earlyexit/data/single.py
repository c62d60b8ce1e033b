"""Keep the images that show a single object: how COCO-Single is made from COCO."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .checks import check_records

Coco = dict[str, Any]
LOST = "unusable_annotations"  # key of an image: how many of its annotations were left out

KEPT = "kept"
NO_OBJECT = "no annotation"
SEVERAL = "several annotations"
CROWD = "the only annotation is a crowd"
NO_AREA = "the only annotation has no area"
UNUSABLE = "an annotation was unusable"


def classify_images(coco: Coco) -> dict[int, str]:
    """Say for every image id whether the image is kept, or why not.

    Annotations of any kind count, crowds too: an image with an object and a crowd has two.
    An image whose only annotation is a crowd or has no area offers nothing to learn from. Nor does
    one that lost an annotation while it was prepared ("unusable_annotations"): it shows more than what is left.

    Args:
        coco: instances in COCO's layout, with "images" and "annotations".

    Returns:
        Image id to one of ``KEPT``, ``NO_OBJECT``, ``SEVERAL``, ``CROWD``, ``NO_AREA``,
        ``UNUSABLE``, in the order of the images.

    Raises:
        ValueError: a record cannot be used (see :func:`check_records`), or a file name occurs twice.
    """
    check_records(coco)
    if not coco["images"]:
        raise ValueError('"images" is empty; at least one image is needed')
    name, count = Counter(image["file_name"] for image in coco["images"]).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images have the file_name {name!r}; each image needs its own")
    annotations: dict[int, list[Coco]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return {image["id"]: _verdict(annotations[image["id"]], image.get(LOST, 0)) for image in coco["images"]}


def keep_single_objects(coco: Coco) -> Coco:
    """Reduce a COCO data set to its images with exactly one annotation, of any kind.

    Args:
        coco: instances in COCO's layout; it is not changed.

    Returns:
        The same keys; "images" and "annotations" are reduced, in their order, and everything
        else (categories, info, licences, own keys) is as it was.

    Raises:
        ValueError: as in :func:`classify_images`.
    """
    verdicts = classify_images(coco)
    return take_images(coco, {image_id for image_id, verdict in verdicts.items() if verdict == KEPT})


def take_images(coco: Coco, ids: set[int]) -> Coco:
    """The images with these ids and their annotations, in the order of the file; all other keys as they were."""
    return {
        **coco,
        "images": [image for image in coco["images"] if image["id"] in ids],
        "annotations": [found for found in coco["annotations"] if found["image_id"] in ids],
    }


def _verdict(annotations: list[Coco], lost: int) -> str:
    if len(annotations) > 1:
        return SEVERAL
    if lost:
        return UNUSABLE
    if not annotations:
        return NO_OBJECT
    (annotation,) = annotations
    if annotation.get("iscrowd", 0):
        return CROWD
    # Not "area", which is that of an outline: a data set without outlines may leave it out or say 0.
    return KEPT if min(annotation["bbox"][2:]) > 0 else NO_AREA
