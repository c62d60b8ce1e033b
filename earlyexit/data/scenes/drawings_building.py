"""Buildings: a wall and a gable, told apart by what stands on the roof and by the doors."""

from __future__ import annotations

import numpy as np

from .pen import Colour, Pen, arc, box, mix

GLASS: Colour = (250, 222, 130)
DOOR: Colour = (112, 72, 48)


def _walls(pen: Pen, rng: np.random.Generator) -> float:
    """Draw the wall and the gable roof; return the height of the ridge."""
    ridge = rng.uniform(-0.74, -0.6)
    eaves = rng.uniform(0.84, 0.94)
    pen.shape(box(-0.7, -0.12, 0.7, 0.92), pen.body)
    pen.shape(np.array([(-eaves, -0.06), (0.0, ridge), (eaves, -0.06)]), pen.trim)
    return ridge


def house(pen: Pen, rng: np.random.Generator) -> None:
    """A chimney with smoke, two windows and a door."""
    pen.shape(box(0.32, -0.88, 0.6, -0.2), mix(pen.trim, (40, 30, 30), 0.3))
    pen.shape(box(0.26, -0.92, 0.66, -0.78), mix(pen.trim, (40, 30, 30), 0.45))
    _walls(pen, rng)
    for x in (-0.55, 0.21):
        pen.shape(box(x, 0.1, x + 0.34, 0.42), GLASS)
        pen.stroke([(x + 0.17, 0.12), (x + 0.17, 0.4)], DOOR, 0.04)
        pen.stroke([(x + 0.02, 0.26), (x + 0.32, 0.26)], DOOR, 0.04)
    pen.shape(box(-0.14, 0.46, 0.18, 0.92), DOOR)
    pen.dot(0.1, 0.7, 0.04, GLASS)


def church(pen: Pen, rng: np.random.Generator) -> None:
    """A cross on the ridge, a round window and an arched door."""
    ridge = _walls(pen, rng)
    cross = mix(pen.trim, (40, 30, 30), 0.55)
    pen.stroke([(0.0, ridge + 0.05), (0.0, ridge - 0.5)], cross, 0.13)
    pen.stroke([(-0.2, ridge - 0.3), (0.2, ridge - 0.3)], cross, 0.13)
    pen.dot(0.0, 0.12, 0.18, GLASS, 0.05)
    pen.stroke([(0.0, -0.04), (0.0, 0.28)], DOOR, 0.04)
    pen.stroke([(-0.16, 0.12), (0.16, 0.12)], DOOR, 0.04)
    arch = arc(0.0, 0.66, 0.22, 0.24, 180, 360, count=12)
    pen.shape(np.vstack([arch, [(0.22, 0.92), (-0.22, 0.92)]]), DOOR)
    for x in (-0.46, 0.46):
        arch = arc(x, 0.42, 0.1, 0.12, 180, 360, count=8)
        pen.shape(np.vstack([arch, [(x + 0.1, 0.66), (x - 0.1, 0.66)]]), GLASS)


def barn(pen: Pen, rng: np.random.Generator) -> None:
    """A wide double door with white crosses and a loft window."""
    ridge = _walls(pen, rng)
    white: Colour = (248, 244, 236)
    top = rng.uniform(0.16, 0.26)
    door = mix(pen.body, (40, 20, 20), 0.3)
    for x in (-0.5, 0.0):
        pen.shape(box(x, top, x + 0.5, 0.92), door)
        pen.stroke([(x + 0.06, top + 0.06), (x + 0.44, 0.86)], white, 0.09)
        pen.stroke([(x + 0.44, top + 0.06), (x + 0.06, 0.86)], white, 0.09)
    frame = [(-0.5, 0.9), (-0.5, top), (0.5, top), (0.5, 0.9)]
    pen.stroke(frame, white, 0.09)
    loft = ridge + 0.26
    pen.shape(box(-0.15, loft, 0.15, loft + 0.24), mix(door, (0, 0, 0), 0.3))
