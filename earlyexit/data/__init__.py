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
from .finder import PhotoFiles, PhotoFinder, find_photos, list_files, stays_inside, without_ending
from .photos import Header, Photo, open_photo, read_header, size_problem
from .plausible import check_plausible
from .scenes import scene_dataset
from .single import KEPT, LOST, Coco, classify_images, keep_single_objects, take_images
from .tidy import tidy

__all__ = [
    "KEPT",
    "LOST",
    "Header",
    "Coco",
    "CocoDataset",
    "Photo",
    "PhotoFiles",
    "PhotoFinder",
    "annotation_file",
    "check_plausible",
    "check_records",
    "classify_images",
    "coco_split",
    "collate",
    "eval_transforms",
    "find_photos",
    "index_coco",
    "keep_single_objects",
    "list_files",
    "load_coco",
    "make_loader",
    "open_photo",
    "read_coco",
    "read_header",
    "scene_dataset",
    "size_problem",
    "stays_inside",
    "take_images",
    "tidy",
    "train_transforms",
    "without_ending",
    "without_traceback",
]
