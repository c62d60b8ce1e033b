"""The twenty categories, their families, colours and drawings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import drawings_building as building
from . import drawings_garden as garden
from . import drawings_round as round_things
from . import drawings_sea as sea
from . import drawings_vehicle as vehicle
from . import drawings_vessel as vessel
from .pen import Colour, Pen

Drawing = Callable[[Pen, np.random.Generator], None]

FAMILIES: dict[str, tuple[str, ...]] = {
    "round": ("apple", "tomato", "ball", "balloon"),
    "vehicle": ("car", "bus", "truck"),
    "sea": ("fish", "whale", "submarine"),
    "building": ("house", "church", "barn"),
    "vessel": ("cup", "teapot", "bucket"),
    "dome": ("mushroom", "umbrella"),
    "radial": ("flower", "sun"),
}
CLASS_NAMES: tuple[str, ...] = tuple(name for members in FAMILIES.values() for name in members)
FAMILY_OF: dict[str, str] = {name: family for family, members in FAMILIES.items() for name in members}

RED, ORANGE, YELLOW, GREEN = (214, 62, 54), (236, 140, 52), (242, 200, 72), (128, 178, 78)
TEAL, BLUE, PURPLE, PINK = (70, 168, 164), (84, 130, 204), (146, 104, 184), (232, 132, 160)
CREAM, BRICK, GREY = (240, 226, 196), (172, 92, 70), (140, 146, 160)
ALL_COLOURS: tuple[Colour, ...] = (
    RED, ORANGE, YELLOW, GREEN, TEAL, BLUE, PURPLE, PINK, CREAM, BRICK, GREY,
)  # fmt: skip

# One palette for a whole family: a colour says little about the member.
PALETTES: dict[str, tuple[Colour, ...]] = {
    "round": (RED, RED, ORANGE, GREEN, YELLOW, PINK),
    "vehicle": (RED, YELLOW, BLUE, GREEN, CREAM),
    "sea": (BLUE, TEAL, GREY, ORANGE, PURPLE),
    "building": (CREAM, BRICK, RED, YELLOW, GREY),
    "vessel": (BLUE, CREAM, RED, TEAL, PINK),
    "dome": (RED, ORANGE, PURPLE, BLUE, PINK),
    "radial": (YELLOW, ORANGE, PINK, CREAM, RED),
}

_MODULES = (round_things, vehicle, sea, building, vessel, garden)
DRAWINGS: dict[str, Drawing] = {
    name: next(getattr(module, name) for module in _MODULES if hasattr(module, name)) for name in CLASS_NAMES
}


def shaken(colour: Colour, rng: np.random.Generator, spread: float = 14.0) -> Colour:
    """Return `colour` with a little random change in each channel, still within 0..255."""
    values = np.clip(np.asarray(colour) + rng.normal(0.0, spread, 3), 0, 255)
    return tuple(int(value) for value in values)  # type: ignore[return-value]


def pick_colours(family: str, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return a body and a trim colour that differ visibly, both from the family's palette."""
    palette = PALETTES[family]
    first = int(rng.integers(len(palette)))
    others = [colour for colour in palette if colour != palette[first]]
    return shaken(palette[first], rng), shaken(others[int(rng.integers(len(others)))], rng)
