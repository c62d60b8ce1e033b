"""How hard a scene is: the strengths of the causes of difficulty, as (easy, hard) pairs, and where objects go."""

from __future__ import annotations

import numpy as np

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
