"""Round things: one body, told apart by what grows out of it or runs across it."""

from __future__ import annotations

import numpy as np

from .pen import Colour, Pen, arc, mix, oval, star

LEAF: Colour = (74, 150, 62)
WOOD: Colour = (112, 72, 40)


def _body(pen: Pen, rng: np.random.Generator, cy: float, radius: float, dip: float) -> tuple[float, float]:
    """Draw the common round body with a dip of relative depth `dip` on top; return its two radii."""
    wide = radius * rng.uniform(0.94, 1.12)
    high = radius * rng.uniform(0.92, 1.04)
    points = oval(0.0, 0.0, 1.0, 1.0, count=48)
    from_top = np.arccos(np.clip(-points[:, 1], -1.0, 1.0))
    points = points * (1.0 - dip * np.exp(-((from_top / 0.5) ** 2)))[:, None]
    pen.shape(points * (wide, high) + (0.0, cy), pen.body)
    pen.shine(-0.42 * wide, cy - 0.38 * high, 0.2 * wide, 0.12 * high)
    return wide, high


def apple(pen: Pen, rng: np.random.Generator) -> None:
    """A stem and one big leaf."""
    _, high = _body(pen, rng, 0.18, 0.8, rng.uniform(0.18, 0.28))
    top = 0.18 - 0.74 * high
    pen.stroke([(0.0, top + 0.12), (0.03, top - 0.18), (-0.06, top - 0.42)], WOOD, 0.13)
    tilt = rng.uniform(-35, -12)
    pen.shape(oval(0.36, top - 0.22, 0.36, 0.17, tilt, 24), LEAF)
    pen.stroke([(0.14, top - 0.14), (0.52, top - 0.3)], mix(LEAF, (255, 255, 255), 0.4), 0.04)


def tomato(pen: Pen, rng: np.random.Generator) -> None:
    """A green star of sepals lying on the body."""
    _, high = _body(pen, rng, 0.1, 0.85, rng.uniform(0.04, 0.14))
    top = 0.1 - 0.72 * high
    reach = rng.uniform(0.52, 0.66)
    pen.shape(star(0.0, top + 0.1, reach, 0.17, int(rng.integers(5, 7)), 90.0, 0.72), LEAF)
    pen.stroke([(0.0, top + 0.05), (0.05, top - 0.24)], mix(LEAF, (0, 0, 0), 0.25), 0.13)


def ball(pen: Pen, rng: np.random.Generator) -> None:
    """Seams: a cross and two arcs, or bands of the trim colour."""
    wide, high = _body(pen, rng, 0.0, 0.9, 0.0)
    if rng.random() < 0.5:
        seam = mix(pen.body, (20, 12, 24), 0.75)
        pen.stroke([(-0.93 * wide, 0.0), (0.93 * wide, 0.0)], seam, 0.09)
        pen.stroke([(0.0, -0.93 * high), (0.0, 0.93 * high)], seam, 0.09)
        for side in (-1.0, 1.0):
            # Bent towards the middle, with both ends on the rim.
            curve = arc(1.0, 0.0, 0.62, 0.8, 121, 239) * (side * 0.93 * wide, 0.93 * high)
            pen.stroke(curve, seam, 0.09)
        return
    for start in (10, 130, 250):
        rim = arc(0.0, 0.0, 0.96 * wide, 0.96 * high, start, start + 60, count=12)
        pen.shape(np.vstack([rim, [(0.0, -0.1)]]), pen.trim, 0.04)
    pen.dot(0.0, -0.1, 0.17, mix(pen.trim, (255, 255, 255), 0.5), 0.04)


def balloon(pen: Pen, rng: np.random.Generator) -> None:
    """A knot below and a wavy string."""
    _, high = _body(pen, rng, -0.3, 0.74, 0.0)
    knot = -0.3 + high
    heights = np.linspace(knot + 0.1, 1.08, 14)
    sway = rng.uniform(0.08, 0.16) * np.sin((heights - knot) * rng.uniform(9, 13))
    pen.stroke(np.stack([sway, heights], axis=1), mix(pen.body, (40, 30, 40), 0.6), 0.07)
    pen.shape(np.array([(0.0, knot - 0.08), (0.18, knot + 0.17), (-0.18, knot + 0.17)]), pen.body)
