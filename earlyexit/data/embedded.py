"""The scenes as a ready data set: drawn once, kept in torch's cache folder, read as any COCO folder is."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from ..files import write_whole
from .coco import CocoDataset
from .filtering import keep_single_objects
from .scenes import export_scenes
from .scenes.export import GENERATOR_VERSION


def scene_dataset(
    split: str,
    count: int,
    *,
    single: bool = True,
    size: int = 128,
    seed: int = 0,
    transforms: Callable | None = None,
    cache: str | Path | None = None,
) -> CocoDataset:
    """The first `count` scenes of a split, as a `CocoDataset`.

    Args:
        split: "train", "calibration", "test" or "pretrain".
        count: scenes that are drawn, about 8 ms each the first time.
        single: keep only those with exactly one object, about 60 %, as COCO-Single does with COCO.
        size: side of the square images in pixels.
        seed: another seed draws other scenes.
        transforms: see `CocoDataset`.
        cache: where the files are kept; a folder beside torch hub's unless told.
    """
    cache = Path(cache or Path(torch.hub.get_dir()).parent / "earlyexit")
    folder = cache / f"scenes-v{GENERATOR_VERSION}-{size}-{seed}-{count}"
    annotations = folder / "annotations" / f"instances_{split}.json"
    if not annotations.exists():
        export_scenes(folder, {split: count}, size=size, seed=seed, workers=1)
    if single:
        chosen = annotations.with_name(f"instances_{split}_single.json")
        text = json.dumps(keep_single_objects(json.loads(annotations.read_text())))
        annotations = write_whole(chosen, lambda path: path.write_text(text))
    return CocoDataset(folder / split, annotations, transforms)
