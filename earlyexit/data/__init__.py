"""What is read: COCO-layout folders as data sets, photos of every kind, the single-object filter, the scenes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "annotations": ["check_plausible", "check_records", "tidy"],
        "coco": [
            "KEPT",
            "LOST",
            "Coco",
            "CocoDataset",
            "annotation_file",
            "classify_images",
            "coco_split",
            "collate",
            "eval_transforms",
            "index_coco",
            "keep_single_objects",
            "load_coco",
            "make_loader",
            "read_coco",
            "take_images",
            "train_transforms",
            "without_traceback",
        ],
        "photos": [
            "Header",
            "Photo",
            "PhotoFiles",
            "PhotoFinder",
            "find_photos",
            "list_files",
            "open_photo",
            "read_header",
            "size_problem",
            "stays_inside",
            "without_ending",
        ],
        "scenes": ["scene_dataset"],
    },
)
