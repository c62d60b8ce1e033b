"""What records were made of, so that they are never mixed up with records of something else."""

import hashlib
import json
from pathlib import Path

import torch

from ..data.coco import CocoDataset
from ..detector import EarlyExitRetinaNet

SETTINGS = ("score_thresh", "nms_thresh", "topk_candidates", "detections_per_img")
TRANSFORM = ("min_size", "max_size", "size_divisible", "image_mean", "image_std")


def describe(model: EarlyExitRetinaNet, dataset: CocoDataset, filler: str | None) -> dict:
    """Everything that decides what records of `model` on `dataset` hold, in plain values.

    Returns:
        "weights" (a hash of the model's state dict), "settings" (of resizing and post-processing), "filler" (None for
        a neck that has none), "data" (a hash of the annotations and of names and sizes of the image files),
        "classes" and "category_ids".
    """
    settings = {name: getattr(model, name) for name in SETTINGS}
    settings |= {name: getattr(model.transform, name) for name in TRANSFORM}
    if model.exit_target != "single":
        settings["exit_target"] = model.exit_target
    if any(tuple(scale) != (1.0, 0.0) for scale in model.score_scales):
        settings["score_scales"] = model.score_scales
    about = {
        "weights": hash_weights(model),
        "settings": settings,
        "filler": filler,
        "data": hash_data(dataset),
        "classes": dataset.classes,
        "category_ids": dataset.category_ids,
    }
    return json.loads(json.dumps(about))  # tuples become lists, as they will be when read back


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256, shortened to 16 digits, of names, types and values of all weights and statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def hash_data(dataset: CocoDataset) -> str:
    """SHA-256, shortened to 16 digits, of the annotations and of the names and sizes in bytes of the images."""
    digest = hashlib.sha256()
    for image_id in dataset.ids:
        path = Path(dataset.root) / dataset.coco.imgs[image_id]["file_name"]
        size = path.stat().st_size if path.is_file() else -1  # a missing image is reported when it is read
        found = dataset.coco.imgToAnns.get(image_id, [])
        boxes = [[a["category_id"], a["bbox"], a["area"], a["iscrowd"]] for a in found]
        digest.update(json.dumps([image_id, path.name, size, boxes]).encode())
    return digest.hexdigest()[:16]


def check_same(found: dict, wanted: dict, where: object) -> None:
    """`ValueError` with both values if records found in `where` were made of something else than wanted."""
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    if changed:
        what = "; ".join(f"{key} {found.get(key)!r}, not {wanted[key]!r}"[:300] for key in changed)
        raise ValueError(f"{str(where)!r} holds records of other {' and '.join(changed)}: {what}. Choose another file")
