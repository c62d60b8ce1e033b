"""Sprites: one drawing (or a part of one), cropped, shaded and ready to be pasted."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from .catalogue import DRAWINGS, FAMILY_OF, pick_colours
from .pen import Colour, Pen

SHADING = (0.10, 0.30)  # how much darker the side away from the light may be, at least and at most
TILT_DEGREES = 25.0


def draw_sprite(name: str, unit: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the category `name` with random colours, proportions, tilt, side and light.

    `unit` is half the usual length of the object in pixels. Returns RGBA uint8 of shape (H, W, 4), cropped
    to the drawn pixels, whose alpha is 0 or 255. The number of random draws does not depend on `unit`.
    """
    body, trim = pick_colours(FAMILY_OF[name], rng)
    pen = Pen(unit, rng.uniform(-TILT_DEGREES, TILT_DEGREES), rng.random() < 0.5, body, trim)
    light = rng.uniform(-math.pi, 0.0)
    depth = rng.uniform(*SHADING)
    DRAWINGS[name](pen, rng)
    return _shade(_cropped(pen.image), light, depth)


def cut_fragment(sprite: np.ndarray, share: float, direction: float) -> np.ndarray:
    """Keep only the `share` of the drawn pixels that lies farthest in `direction` (radians), cropped."""
    height, width = sprite.shape[:2]
    x = np.arange(width, dtype=np.float32) * math.cos(direction)
    y = np.arange(height, dtype=np.float32) * math.sin(direction)
    along = x[None, :] + y[:, None]
    drawn = sprite[..., 3] > 0
    limit = np.quantile(along[drawn][::5], 1.0 - share)
    piece = sprite.copy()
    piece[..., 3][along < limit] = 0
    return _cropped(Image.fromarray(piece))


def paste_faded(
    canvas: Image.Image, sprite: np.ndarray, corner: tuple[int, int], around: Colour, contrast: float
) -> None:
    """Paste `sprite` at `corner` (x, y), its colours pulled towards `around`; contrast 1 changes nothing."""
    piece = Image.fromarray(sprite)
    plain = Image.new("RGB", piece.size, around)
    canvas.paste(Image.blend(plain, piece.convert("RGB"), contrast), corner, piece.getchannel("A"))


def _cropped(image: Image.Image) -> np.ndarray:
    return np.array(image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1)))


def _shade(pixels: np.ndarray, light: float, depth: float) -> np.ndarray:
    """Darken `pixels` in place, from the side of the light (an angle in radians) to the other side."""
    height, width = pixels.shape[:2]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * math.cos(light)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * math.sin(light)
    gain = (1.0 - depth * 0.5) + depth * (x[None, :] + y[:, None])
    np.multiply(pixels[..., :3], gain[..., None], out=pixels[..., :3], casting="unsafe")
    return pixels
