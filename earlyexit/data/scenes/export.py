"""Scenes as files: JPEGs with annotations in the COCO layout, and the data set that reads them."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image

from ...files import write_whole
from ..coco import CocoDataset, annotation_file
from ..progress import progress as shown
from ..single import keep_single_objects
from .composition import Scene, check_arguments, make_scene
from .drawings import CLASS_NAMES, FAMILY_OF

GENERATOR_VERSION = 2  # raise it whenever the same seed gives other pictures
JPEG_OPTIONS = {"quality": 92, "subsampling": 0, "optimize": False}


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
    """The first `count` scenes of a split as a data set: drawn once, kept, and read as any COCO folder is.

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
    annotations = annotation_file(folder, split)
    if not annotations.exists():
        export_scenes(folder, {split: count}, size=size, seed=seed, workers=1)
    if single:
        chosen = annotations.with_name(f"instances_{split}_single.json")
        text = json.dumps(keep_single_objects(json.loads(annotations.read_text())))
        annotations = write_whole(chosen, lambda path: path.write_text(text))
    return CocoDataset(folder / split, annotations, transforms)


def export_scenes(
    out: str | Path,
    counts: dict[str, int],
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, Path]:
    """Write `counts[split]` scenes of every split below `out` and return the annotation file per split.

    Gives `out/<split>/000000000012.jpg` and `out/annotations/instances_<split>.json`. The bytes depend only
    on `size` and `seed`, not on `workers` (processes; default: one per core). Every file appears under its
    name only when complete, the annotations of a split after its images; a later run with the same
    arguments writes the same again. With `progress`, standard error says how far it is.
    Raises ValueError for an unknown split, a negative count, or a bad size, seed or number of workers, and if there
    are annotations of something else, or of more scenes; OSError if `out` cannot be written.
    """
    for split, count in counts.items():
        if count < 0:
            raise ValueError(f"the count for {split!r} is {count}: it must be 0 or more")
        check_arguments(split, 0, size, seed)
    workers = workers if workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"workers is {workers}: it must be 1 or more")
    out = Path(out)
    counts = {split: count for split, count in counts.items() if count}
    for split, count in counts.items():
        _check_earlier(annotation_file(out, split), _info(size, seed), count)
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    if workers == 1 or sum(counts.values()) < 2:
        return {split: _export_split(out, split, count, size, seed, map, progress) for split, count in counts.items()}
    # A fresh interpreter per worker: forking a process that has threads (as torch does) can hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        run = functools.partial(pool.imap, chunksize=32)
        return {split: _export_split(out, split, count, size, seed, run, progress) for split, count in counts.items()}


def _check_earlier(path: Path, info: dict, count: int) -> None:
    """`ValueError` if there is an annotation file that is not of the first scenes of the same kind."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        same = there["info"] == info and len(there["images"]) <= count
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        what = "something else, or of more scenes, than what is to be drawn"
        raise ValueError(f"{str(path)!r} is of {what}: choose another folder, or delete {str(path.parent.parent)!r}")


def _export_split(out: Path, split: str, count: int, size: int, seed: int, run: Callable, progress: bool) -> Path:
    (out / split).mkdir(exist_ok=True)
    path = annotation_file(out, split)
    # An annotation file left by other arguments must not describe half-replaced images.
    path.unlink(missing_ok=True)
    job = functools.partial(_write_image, out / split, split, size, seed)
    records = run(job, range(count))
    coco = _coco(shown(records, f"drawing {split}", count) if progress else records, size, seed)
    _write(path, json.dumps(coco, separators=(",", ":")).encode())
    return path


def _write_image(folder: Path, split: str, size: int, seed: int, index: int) -> dict:
    scene = make_scene(split, index, size, seed)
    name = f"{index:012d}.jpg"
    buffer = BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", **JPEG_OPTIONS)
    _write(folder / name, buffer.getvalue())
    difficulty = round(scene.difficulty, 6)
    return {"id": index, "file_name": name, "difficulty": difficulty, "objects": _objects(scene)}


def _objects(scene: Scene) -> list[dict]:
    """Return the annotations of a scene without their ids."""
    found = []
    for item in scene.objects:
        x0, y0, x1, y1 = item.box
        width, height = x1 - x0, y1 - y0
        found.append(
            {
                "category_id": item.label + 1,
                "bbox": [round(value, 3) for value in (x0, y0, width, height)],
                "area": round(width * height, 3),
                "iscrowd": 0,
                "segmentation": [],
                "difficulty": round(scene.difficulty, 6),
                "causes": {name: round(value, 5) for name, value in item.causes.items()},
            }
        )
    return found


def _coco(records: Iterable[dict], size: int, seed: int) -> dict:
    images, annotations = [], []
    for record in records:
        image = {key: value for key, value in record.items() if key != "objects"}
        images.append({**image, "width": size, "height": size})
        for item in record["objects"]:
            annotations.append({"id": len(annotations) + 1, "image_id": record["id"], **item})
    categories = [
        {"id": number, "name": name, "supercategory": FAMILY_OF[name]} for number, name in enumerate(CLASS_NAMES, 1)
    ]
    return {"info": _info(size, seed), "images": images, "annotations": annotations, "categories": categories}


def _info(size: int, seed: int) -> dict:
    return {"description": "scenes", "seed": seed, "size": size, "generator_version": GENERATOR_VERSION}


def _write(path: Path, data: bytes) -> None:
    """Write to a temporary name first, so that an interrupted run leaves no half file under `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
