"""Keep the images that show a single object: how COCO-Single is made from COCO."""

from __future__ import annotations

from collections import Counter

from .prepare.clean import LOST
from .prepare.splits import Coco, take_images

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
    one that lost an annotation in :func:`clean_coco`: it shows more than what is left.

    Args:
        coco: instances in COCO's layout, with "images" and "annotations".

    Returns:
        Image id to one of ``KEPT``, ``NO_OBJECT``, ``SEVERAL``, ``CROWD``, ``NO_AREA``,
        ``UNUSABLE``, in the order of the images.

    Raises:
        ValueError: a key is missing, an image id or file name occurs twice, or an annotation
            names an unknown image.
    """
    check_layout(coco)
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


def check_layout(coco: Coco) -> None:
    """Raise a ValueError that shows the first thing that is not COCO's layout."""
    if not isinstance(coco, dict):
        raise ValueError(f"the top level is a {type(coco).__name__}; COCO's is an object with images, annotations")
    for key, needed in (("images", ("id", "file_name")), ("annotations", ("id", "image_id", "bbox"))):
        _check_entries(coco, key, needed)
    for field in ("id", "file_name"):
        value, count = Counter(image[field] for image in coco["images"]).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{count} images have the {field} {value!r}; each image needs its own")
    known = {image["id"] for image in coco["images"]}
    for annotation in coco["annotations"]:
        if annotation["image_id"] not in known:
            raise ValueError(
                f"annotation {annotation['id']!r} has image_id {annotation['image_id']!r}, "
                'which is the id of no entry in "images"'
            )


def _check_entries(coco: Coco, key: str, needed: tuple[str, ...]) -> None:
    if not isinstance(coco.get(key), list):
        raise ValueError(f'no list "{key}"; the keys are {sorted(coco)}, COCO has images, annotations, categories')
    if key == "images" and not coco[key]:
        raise ValueError('"images" is empty; at least one image is needed')
    for number, entry in enumerate(coco[key]):
        missing = [name for name in needed if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise ValueError(f'{key}[{number}] has no "{missing[0]}": {str(entry)[:80]}')


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
    box = annotation["bbox"]
    _, _, width, height = box if len(box) == 4 else (0, 0, 0, 0)
    # "area" is that of the outline; a data set without outlines may leave it out.
    return KEPT if width > 0 and height > 0 and annotation.get("area", width * height) > 0 else NO_AREA
