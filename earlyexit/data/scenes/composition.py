"""Whole scenes: how hard one is, where its objects go, and `make_scene`, which puts all parts together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .drawings import ALL_COLOURS, CLASS_NAMES
from .painting import draw_sprite, local_colour, occluder_outline, paint_background, paint_distractors, paste_faded
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
    shared = {"clutter": float(round(clutter)), "blur": blur * 128, "noise": noise}
    placed = [
        _paint_object(canvas, label, place, contrast, shared, level_of(difficulty, rng), rng)
        for label, place, contrast in zip(labels, places, contrasts, strict=True)
    ]
    _hide(canvas, placed, usual, rng)
    image = _finish(canvas, size, blur, noise, rng)
    objects = tuple(_annotation(item, zoom, size) for item in placed)
    return Scene(image, objects, difficulty)


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


def layout(count: int, difficulty: float, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Return (centre x, centre y, size) per object in units of the image side, hardly overlapping."""
    places: list[tuple[float, float, float]] = []
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
    canvas: Image.Image,
    label: int,
    place: tuple[float, float, float],
    contrast: float,
    shared: dict[str, float],
    level: float,
    rng: np.random.Generator,
) -> _Placed:
    side = canvas.width
    x, y, size = place
    sprite = draw_sprite(CLASS_NAMES[label], size / 2 * side, rng)
    height, width = sprite.shape[:2]
    left = int(np.clip(round(x * side - width / 2), 0, max(0, side - width)))
    top = int(np.clip(round(y * side - height / 2), 0, max(0, side - height)))
    box = (left, top, min(side, left + width), min(side, top + height))
    paste_faded(canvas, sprite, (left, top), local_colour(canvas, *box), contrast)
    longest = max(box[2] - box[0], box[3] - box[1]) / side
    causes = {"scale": round(longest, 4), "contrast": contrast, "occlusion": 0.0, **shared}
    return _Placed(label, sprite[..., 3] > 0, box, causes, level)


def _hide(canvas: Image.Image, placed: list[_Placed], contrast: float, rng: np.random.Generator) -> None:
    """Paint one occluder over some objects and record how much of every object is hidden in the end."""
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


def _annotation(item: _Placed, zoom: int, size: int) -> SceneObject:
    box = tuple(min(float(size), max(0.0, value / zoom)) for value in item.box)
    causes = {name: float(value) for name, value in item.causes.items()}
    return SceneObject(item.label, CLASS_NAMES[item.label], box, causes)  # type: ignore[arg-type]
