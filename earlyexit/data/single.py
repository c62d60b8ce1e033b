"""Keep the images that show a single object: how COCO-Single is made from COCO."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from .annotations import check_records
from .coco import annotation_file, read_coco
from .photos import PhotoFiles, stays_inside

Coco = dict[str, Any]
LOST = "unusable_annotations"  # key of an image: how many of its annotations were left out
SPLITS = ("train", "calibration", "test")

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


def first_images(folder: str | Path, out: str | Path, limit: int, splits: Sequence[str] = SPLITS) -> Path:
    """Copy the first `limit` images of each split into a COCO layout of their own, to try things out; returns `out`."""
    if limit < 1:
        raise ValueError(f"at least one image is needed, got the limit {limit}")
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{str(out)!r} is the data set that is read; give another folder")
    for split in splits:
        content = read_coco(annotation_file(folder, split), outlines=False)
        content = take_images(content, set(sorted(image["id"] for image in content["images"])[:limit]))
        names = [image["file_name"] for image in content["images"]]
        files = PhotoFiles(folder / split, names)
        for name in names:
            if not stays_inside(name):
                raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
            (out / split / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / split / name, functools.partial(shutil.copyfile, files.path(name)))
        path, text = annotation_file(out, split), json.dumps(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary, text=text: temporary.write_text(text))
    return out
