"""Whole scenes: how hard one is, where its objects go, `make_scene`, which puts all parts together; and sets of them.

A set is JPEGs with annotations in the COCO layout, or the data set that reads them.
"""

import contextlib
import functools
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from ...files import progress as shown
from ...files import write_whole
from ..coco import CocoDataset, annotation_file, keep_single_objects
from .drawings import ALL_COLOURS, CLASS_NAMES, FAMILY_OF
from .painting import (
    Place,
    draw_sprite,
    local_colour,
    occluder_outline,
    paint_background,
    paint_distractors,
    paste_faded,
)
from .pen import mix, shaken

SPLIT_ID = {"train": 0, "calibration": 1, "test": 2, "pretrain": 3}

# How strong the causes of difficulty are, as (easy, hard) pairs.
SCALE = (0.68, 0.25)  # usual longest side of the object, as a share of the image side
CONTRAST = (1.0, 0.48)  # colour distance between object and surroundings, 1 = as painted
CLUTTER = (0.0, 13.0)  # number of distractors
OCCLUSION = (0.0, 0.38)  # hidden fraction of the object
BLUR = (0.0, 0.008)  # radius of the Gaussian blur, as a share of the image side (0.008 = 1 px of 128)
NOISE = (1.0, 15.0)  # standard deviation of the pixel noise, in grey levels of 255

JITTER = 0.13  # standard deviation of each cause's own deviation from the difficulty of the image
OCCLUSION_START = 0.25  # objects easier than this are never occluded ...
OCCLUSION_CHANCE = 0.65  # ... and harder ones only with this probability
MAX_HIDDEN = 0.45
OBJECT_COUNTS = (0.10, 0.60, 0.18, 0.08, 0.04)  # probabilities of 0, 1, 2, 3 and 4 objects
SIZE_LIMITS = (1.0, 1.0, 0.44, 0.37, 0.33)  # largest size that leaves room for that many objects
BACKGROUND_PALE = (0.65, 0.15)  # easy backgrounds are washed out, hard ones are as strong as the objects
BACKGROUND_BUSY = (0.1, 1.0)
_IMAGE_CAUSES = (CLUTTER, BLUR, NOISE, BACKGROUND_PALE, BACKGROUND_BUSY)
GENERATOR_VERSION = 2  # raise it whenever the same seed gives other pictures
JPEG_OPTIONS = {"quality": 92, "subsampling": 0, "optimize": False}


@dataclass(frozen=True)
class SceneObject:
    """One annotated object: `box` is (x0, y0, x1, y1) in pixels, `causes` says what makes it hard."""

    label: int
    name: str
    box: tuple[float, float, float, float]
    causes: dict[str, float]


@dataclass(frozen=True)
class Scene:
    """One picture: `image` is uint8 (H, W, 3), `difficulty` in 0..1."""

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    difficulty: float


@dataclass
class _Placed:
    """An object on the canvas: its mask (H, W) fills its box, which is given in canvas pixels."""

    label: int
    mask: np.ndarray
    box: tuple[int, int, int, int]
    causes: dict[str, float]
    occlusion_level: float


def make_scene(split: str, index: int, size: int = 128, seed: int = 0) -> Scene:
    """Draw scene number `index` of `split`: the same arguments always give the same picture.

    Another `size` (64..1024 pixels) gives the same layout at another resolution.
    Raises ValueError for an unknown split, a negative index or seed, or a size outside 64..1024.
    """
    check_arguments(split, index, size, seed)
    rng = np.random.default_rng([seed, SPLIT_ID[split], index])
    difficulty = float(rng.random())
    count = int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    clutter, blur, noise, pale, busy = (value_at(pair, level_of(difficulty, rng)) for pair in _IMAGE_CAUSES)
    zoom = 3 if size <= 192 else 2  # everything is painted larger and shrunk, which smooths the edges
    side = size * zoom
    canvas = paint_background(side, busy, pale, rng)
    places = layout(count, difficulty, rng)
    labels = [int(rng.integers(len(CLASS_NAMES))) for _ in places]
    contrasts = [value_at(CONTRAST, level_of(difficulty, rng)) for _ in places]
    usual = float(np.mean(contrasts)) if contrasts else value_at(CONTRAST, difficulty)
    paint_distractors(canvas, round(clutter), places, labels, usual, rng)
    placed = [
        _paint_object(canvas, *about, level_of(difficulty, rng), rng)
        for about in zip(labels, places, contrasts, strict=True)
    ]
    _hide(canvas, placed, usual, rng)
    image = _finish(canvas, size, blur, noise, rng)
    shared = {"clutter": float(round(clutter)), "blur": blur * 128, "noise": noise}
    return Scene(image, tuple(_annotation(item, shared, zoom, size) for item in placed), difficulty)


def check_arguments(split: str, index: int, size: int, seed: int) -> None:
    """Raise ValueError, with the bad value, unless `make_scene` can draw with these arguments."""
    if split not in SPLIT_ID:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLIT_ID)}")
    if index < 0:
        raise ValueError(f"index is {index}: it must be 0 or more")
    if not 64 <= size <= 1024:
        raise ValueError(f"size is {size}: it must be between 64 and 1024 pixels")
    if seed < 0:
        raise ValueError(f"seed is {seed}: it must be 0 or more")


def level_of(difficulty: float, rng: np.random.Generator) -> float:
    """One cause's own level in 0..1: the difficulty of the image and some chance."""
    return float(np.clip(difficulty + rng.normal(0.0, JITTER), 0.0, 1.0))


def value_at(pair: tuple[float, float], level: float) -> float:
    """The strength between the easy (0) and the hard end (1) of `pair`."""
    return pair[0] + (pair[1] - pair[0]) * level


def layout(count: int, difficulty: float, rng: np.random.Generator) -> list[Place]:
    """The places of so many objects, which hardly overlap."""
    places: list[Place] = []
    sizes = [min(value_at(SCALE, level_of(difficulty, rng)), SIZE_LIMITS[count]) for _ in range(count)]
    for wanted in sorted(sizes, reverse=True):
        size = wanted
        for attempt in range(120):
            if attempt % 20 == 19:
                size *= 0.92  # a crowded picture: make room
            x, y = rng.uniform(0.5 * size, 1.0 - 0.5 * size, 2)
            if all(max(abs(x - a), abs(y - b)) > 0.52 * (size + other) for a, b, other in places):
                places.append((float(x), float(y), size))
                break
    return places


def _paint_object(
    canvas: Image.Image, label: int, place: Place, contrast: float, level: float, rng: np.random.Generator
) -> _Placed:
    (x, y, size), side = place, canvas.width
    sprite = draw_sprite(CLASS_NAMES[label], size / 2 * side, rng)
    height, width = sprite.shape[:2]
    left = int(np.clip(round(x * side - width / 2), 0, max(0, side - width)))
    top = int(np.clip(round(y * side - height / 2), 0, max(0, side - height)))
    box = (left, top, min(side, left + width), min(side, top + height))
    paste_faded(canvas, sprite, (left, top), local_colour(canvas, *box), contrast)
    longest = max(box[2] - box[0], box[3] - box[1]) / side
    return _Placed(label, sprite[..., 3] > 0, box, {"scale": round(longest, 4), "contrast": contrast}, level)


def _hide(canvas: Image.Image, placed: list[_Placed], contrast: float, rng: np.random.Generator) -> None:
    """Paint one occluder over some objects, and tell their causes how much of each is hidden in the end."""
    cover = Image.new("1", canvas.size)
    for item in placed:
        chance, colour = rng.random(), shaken(ALL_COLOURS[int(rng.integers(len(ALL_COLOURS)))], rng)
        share = value_at(OCCLUSION, item.occlusion_level)
        child = np.random.default_rng(int(rng.integers(2**32)))  # its draws never shift those that follow
        if chance > OCCLUSION_CHANCE or item.occlusion_level < OCCLUSION_START:
            continue
        outline = (occluder_outline(item.mask, share, child) + item.box[:2]).ravel().tolist()
        trial = cover.copy()
        ImageDraw.Draw(trial).polygon(outline, fill=1)
        if any(_hidden(other, trial) > MAX_HIDDEN for other in placed):
            continue
        cover = trial
        around = local_colour(canvas, *item.box)
        ImageDraw.Draw(canvas).polygon(outline, fill=mix(around, colour, contrast))
    for item in placed:
        item.causes["occlusion"] = round(_hidden(item, cover), 4)


def _hidden(item: _Placed, cover: Image.Image) -> float:
    left, top = item.box[:2]
    height, width = item.mask.shape
    covered = np.asarray(cover.crop((left, top, left + width, top + height)))
    return float((covered & item.mask).sum() / item.mask.sum())


def _finish(canvas: Image.Image, size: int, blur: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the canvas to `size` pixels, blur it and add pixel noise."""
    image = canvas.reduce(canvas.width // size)
    if blur * size > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur * size))
    grain = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(noise)
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


def _annotation(item: _Placed, shared: dict[str, float], zoom: int, size: int) -> SceneObject:
    box = tuple(min(float(size), max(0.0, value / zoom)) for value in item.box)
    causes = {name: float(value) for name, value in {**item.causes, **shared}.items()}
    return SceneObject(item.label, CLASS_NAMES[item.label], box, causes)  # type: ignore[arg-type]


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

    Gives `out/<split>/000000000012.jpg` and `out/annotations/instances_<split>.json`, each of which appears only when
    it is complete, annotations after their images. The bytes depend on `size` and `seed` alone, not on `workers`
    (processes; one per core unless told). With `progress`, standard error says how far it is. `ValueError` for what
    cannot be drawn, and if there are annotations of something else, or of more scenes.
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
    alone = workers == 1 or sum(counts.values()) < 2
    # A fresh interpreter per worker: forking a process that has threads (as torch does) can hang.
    with contextlib.nullcontext() if alone else multiprocessing.get_context("spawn").Pool(workers) as pool:
        run = map if alone else functools.partial(pool.imap, chunksize=32)
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
    drawn = run(functools.partial(_write_image, out / split, split, size, seed), range(count))
    images, objects = zip(*(shown(drawn, f"drawing {split}", count) if progress else drawn), strict=True)
    found = [{"id": number, **one} for number, one in enumerate(itertools.chain(*objects), 1)]
    categories = [{"id": n, "name": name, "supercategory": FAMILY_OF[name]} for n, name in enumerate(CLASS_NAMES, 1)]
    coco = {"info": _info(size, seed), "images": images, "annotations": found, "categories": categories}
    return write_whole(path, lambda file: file.write_text(json.dumps(coco, separators=(",", ":"))))


def _write_image(folder: Path, split: str, size: int, seed: int, index: int) -> tuple[dict, list[dict]]:
    """The record of an image that is drawn into the folder, and those of its objects without their ids."""
    scene = make_scene(split, index, size, seed)
    name, image = f"{index:012d}.jpg", Image.fromarray(scene.image)
    write_whole(folder / name, lambda file: image.save(file, "JPEG", **JPEG_OPTIONS), sync=False)
    difficulty, found = round(scene.difficulty, 6), []
    for item in scene.objects:
        x0, y0, x1, y1 = item.box
        width, height = x1 - x0, y1 - y0
        box, area = [round(value, 3) for value in (x0, y0, width, height)], round(width * height, 3)
        about = {"category_id": item.label + 1, "bbox": box, "area": area, "iscrowd": 0, "segmentation": []}
        causes = {name: round(value, 5) for name, value in item.causes.items()}
        found.append({"image_id": index, **about, "difficulty": difficulty, "causes": causes})
    return {"id": index, "file_name": name, "difficulty": difficulty, "width": size, "height": size}, found


def _info(size: int, seed: int) -> dict:
    return {"description": "scenes", "seed": seed, "size": size, "generator_version": GENERATOR_VERSION}
