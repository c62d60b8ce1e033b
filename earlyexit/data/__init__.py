"""What is read: COCO-layout folders as data sets, photos of every kind, the single-object filter, the scenes."""

from .checks import check_records
from .coco import (
    CocoDataset,
    annotation_file,
    coco_split,
    collate,
    eval_transforms,
    index_coco,
    load_coco,
    make_loader,
    read_coco,
    train_transforms,
    without_traceback,
)
from .photos import PhotoFinder, list_files, open_image, stays_inside, to_rgb, without_ending
from .scenes import scene_dataset
from .single import KEPT, LOST, Coco, classify_images, keep_single_objects, take_images

__all__ = [
    "KEPT",
    "LOST",
    "Coco",
    "CocoDataset",
    "PhotoFinder",
    "annotation_file",
    "check_records",
    "classify_images",
    "coco_split",
    "collate",
    "eval_transforms",
    "index_coco",
    "keep_single_objects",
    "list_files",
    "load_coco",
    "make_loader",
    "open_image",
    "read_coco",
    "scene_dataset",
    "stays_inside",
    "take_images",
    "to_rgb",
    "train_transforms",
    "without_ending",
    "without_traceback",
]
