"""Backgrounds: gradients, soft noise, stripes and blobs in the colours that objects have too."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .catalogue import ALL_COLOURS, shaken
from .pen import Colour, mix

WHITE: Colour = (252, 250, 244)


def paint_background(side: int, busy: float, pale: float, rng: np.random.Generator) -> Image.Image:
    """Return an RGB image of `side` pixels.

    `busy` in 0..1 is the strength of the texture and `pale` in 0..1 how far all colours are washed out.
    """
    first, second, third = (
        mix(shaken(ALL_COLOURS[int(rng.integers(len(ALL_COLOURS)))], rng), WHITE, pale) for _ in range(3)
    )
    second = mix(first, second, 0.25 + 0.5 * busy)
    third = mix(first, third, 0.15 + 0.5 * busy)
    image = _gradient(side, first, second, rng.uniform(0.0, 2 * np.pi))
    kind = int(rng.integers(4))
    if kind == 1:
        _stripes(image, third, rng)
    elif kind == 2:
        _blobs(image, third, rng)
    strength = (6.0 if kind != 3 else 14.0) * (0.4 + busy)
    return _soft_noise(image, strength, int(rng.integers(6, 28)), rng)


def _gradient(side: int, first: Colour, second: Colour, angle: float) -> Image.Image:
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) @ (np.cos(angle), np.sin(angle))
    share = np.clip(0.5 + 0.36 * corners, 0, 1)[:, None]
    colours = (np.array(first) * (1 - share) + np.array(second) * share).reshape(2, 2, 3)
    small = Image.fromarray(colours.astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BILINEAR)


def _stripes(image: Image.Image, colour: Colour, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    side = image.width
    angle, gap = rng.uniform(0, np.pi), rng.uniform(0.1, 0.26)
    across = np.array([np.cos(angle), np.sin(angle)])
    along = np.array([-across[1], across[0]])
    width = max(1, round(gap * rng.uniform(0.25, 0.5) * side))
    for shift in np.arange(-0.75, 0.75, gap):
        middle = 0.5 + across * shift
        draw.line([*((middle - along) * side), *((middle + along) * side)], fill=colour, width=width)


def _blobs(image: Image.Image, colour: Colour, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    side = image.width
    for x, y, radius in rng.uniform((0, 0, 0.03), (1, 1, 0.14), size=(int(rng.integers(5, 14)), 3)):
        corners = np.array([x - radius, y - radius, x + radius, y + radius]) * side
        draw.ellipse(corners.tolist(), fill=colour)


def _soft_noise(image: Image.Image, strength: float, cells: int, rng: np.random.Generator) -> Image.Image:
    grid = np.clip(128 + rng.normal(0, strength, (cells, cells)), 0, 255).astype(np.uint8)
    veil = Image.fromarray(grid).resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.add(image, Image.merge("RGB", (veil, veil, veil)), offset=-128)
