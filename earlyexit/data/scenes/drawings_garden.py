"""Two pairs from the garden: domes on a stalk, and discs with rays."""

from __future__ import annotations

import numpy as np

from .pen import Colour, Pen, arc, mix, oval, star

CREAM: Colour = (246, 234, 208)
INK: Colour = (30, 26, 38)
LEAF: Colour = (84, 154, 72)


def mushroom(pen: Pen, rng: np.random.Generator) -> None:
    """A thick stalk and pale spots on the cap."""
    thick = rng.uniform(0.24, 0.32)
    stalk = [(-thick, 0.0), (thick, 0.0), (thick + 0.08, 0.94), (-thick - 0.08, 0.94)]
    pen.shape(np.array(stalk), CREAM)
    pen.shape(oval(0.0, 0.06, 0.6, 0.14, count=24), mix(CREAM, (120, 90, 70), 0.35))
    cap = arc(0.0, 0.06, 0.95, rng.uniform(0.86, 1.0), 180, 360, count=30)
    pen.shape(cap, pen.body)
    spots = mix(pen.body, (255, 252, 244), 0.85)
    for x, y, radius in ((-0.5, -0.22, 0.15), (0.02, -0.5, 0.18), (0.5, -0.24, 0.15), (0.02, -0.1, 0.1)):
        pen.dot(x, y, radius * rng.uniform(0.85, 1.15), spots)


def umbrella(pen: Pen, rng: np.random.Generator) -> None:
    """A thin stick with a hook, coloured panels and a scalloped rim."""
    stick: Colour = (96, 64, 44)
    hook = arc(0.16, 0.78, 0.16, 0.18, 180, 0, count=10)
    pen.stroke(np.vstack([[(0.0, -0.9), (0.0, 0.7)], hook]), stick, 0.11)
    high = rng.uniform(0.8, 0.92)
    rim = [arc(x, 0.08, 0.2375, 0.15, 0, -180, count=8) for x in (0.7125, 0.2375, -0.2375, -0.7125)]
    dome = arc(0.0, 0.08, 0.95, high, 180, 360, count=28)
    pen.shape(np.vstack([dome, *rim]), pen.body)
    inner = arc(0.0, 0.08, 0.475, high, 180, 360, count=20)
    pen.shape(np.vstack([inner, rim[1], rim[2]]), pen.trim)
    pen.stroke([(0.0, 0.02), (0.0, 0.06 - high)], mix(pen.trim, INK, 0.5), 0.05)


def flower(pen: Pen, rng: np.random.Generator) -> None:
    """Round petals, a green stem and two leaves."""
    pen.stroke([(0.0, 0.0), (0.04, 0.55), (0.0, 1.08)], LEAF, 0.13)
    pen.shape(oval(0.26, 0.8, 0.28, 0.12, -30, 18), LEAF)
    pen.shape(oval(-0.26, 0.86, 0.28, 0.12, 30, 18), LEAF)
    count = int(rng.integers(6, 9))
    for angle in np.arange(count) * 360.0 / count + rng.uniform(0, 40):
        x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        pen.shape(oval(0.46 * x, 0.46 * y - 0.3, 0.3, 0.21, angle, 20), pen.body)
    pen.dot(0.0, -0.3, 0.31, pen.trim, 0.05)


def sun(pen: Pen, rng: np.random.Generator) -> None:
    """Pointed rays all round and a smiling face."""
    count = int(rng.integers(9, 13))
    pen.shape(star(0.0, 0.0, 1.02, 0.62, count, rng.uniform(0, 40)), pen.body)
    pen.dot(0.0, 0.0, rng.uniform(0.54, 0.6), pen.trim, 0.05)
    for x in (-0.2, 0.2):
        pen.dot(x, -0.12, 0.075, INK)
    pen.stroke(arc(0.0, 0.02, 0.28, 0.26, 25, 155, count=10), INK, 0.08)
