"""Sprites: one drawing (or a part of one) on a transparent square, shaded and ready to be pasted."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from .catalogue import DRAWINGS, FAMILY_OF, pick_colours
from .pen import Pen

SHADING = (0.10, 0.30)  # how much darker the side away from the light may be, at least and at most
TILT_DEGREES = 25.0


def draw_sprite(name: str, unit: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the category `name` with random colours, proportions, tilt, side and light.

    `unit` is half the usual length of the object in pixels. Returns RGBA uint8 of shape (S, S, 4) whose
    alpha is 0 or 255. The number of random draws does not depend on `unit`.
    """
    body, trim = pick_colours(FAMILY_OF[name], rng)
    pen = Pen(unit, rng.uniform(-TILT_DEGREES, TILT_DEGREES), rng.random() < 0.5, body, trim)
    light = rng.uniform(-np.pi, 0.0)
    depth = rng.uniform(*SHADING)
    DRAWINGS[name](pen, rng)
    return _shade(np.array(pen.image), light, depth)


def cut_fragment(sprite: np.ndarray, share: float, direction: float) -> np.ndarray:
    """Keep only the `share` of the drawn pixels that lies farthest in `direction` (radians)."""
    rows, columns = np.nonzero(sprite[..., 3])
    if not len(rows):
        return sprite
    along = columns * np.cos(direction) + rows * np.sin(direction)
    limit = np.quantile(along[::7], 1.0 - share)
    hidden = along < limit
    piece = sprite.copy()
    piece[rows[hidden], columns[hidden], 3] = 0
    return piece


def fade(sprite: np.ndarray, towards: np.ndarray, contrast: float) -> np.ndarray:
    """Pull the colours of `sprite` towards the colour `towards` (3,); contrast 1 changes nothing."""
    table = np.arange(256, dtype=np.float32)[:, None]
    table = np.clip(towards + contrast * (table - towards), 0, 255).astype(np.uint8)
    faded = sprite.copy()
    for channel in range(3):
        faded[..., channel] = table[:, channel][sprite[..., channel]]
    return faded


def alpha_box(sprite: np.ndarray) -> tuple[int, int, int, int]:
    """Return the tight box (x0, y0, x1, y1) of the drawn pixels, the far ends excluded."""
    return Image.fromarray(sprite[..., 3]).getbbox() or (0, 0, 1, 1)


def _shade(pixels: np.ndarray, light: float, depth: float) -> np.ndarray:
    ramp_x, ramp_y = _ramps(pixels.shape[0])
    gain = 1.0 - depth * (0.5 - 0.5 * (np.cos(light) * ramp_x + np.sin(light) * ramp_y))
    pixels[..., :3] = pixels[..., :3] * gain[..., None]
    return pixels


@functools.lru_cache(maxsize=256)
def _ramps(side: int) -> tuple[np.ndarray, np.ndarray]:
    ramp = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return ramp[None, :], ramp[:, None]
