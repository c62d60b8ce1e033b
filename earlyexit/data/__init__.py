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
    read_coco,
    train_transforms,
)
from .photos import open_image, to_rgb
from .scenes import scene_dataset
from .single import classify_images, keep_single_objects

__all__ = [
    "CocoDataset",
    "annotation_file",
    "check_records",
    "classify_images",
    "coco_split",
    "collate",
    "eval_transforms",
    "index_coco",
    "keep_single_objects",
    "load_coco",
    "open_image",
    "read_coco",
    "scene_dataset",
    "to_rgb",
    "train_transforms",
]
