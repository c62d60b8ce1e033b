"""Swimmers: one long oval body, told apart by tail, fins and what stands on the back."""

from __future__ import annotations

import numpy as np

from .pen import Colour, Pen, arc, box, mix, oval

WHITE: Colour = (250, 250, 246)
INK: Colour = (30, 26, 38)


def _body(pen: Pen, rng: np.random.Generator, cy: float = 0.08) -> float:
    """Draw the common body, centred at (0.15, cy); return its half height."""
    high = rng.uniform(0.44, 0.54)
    pen.shape(oval(0.15, cy, 0.82, high, count=40), pen.body)
    return high


def _eye(pen: Pen, x: float, y: float) -> None:
    pen.dot(x, y, 0.12, WHITE, 0.03)
    pen.dot(x + 0.03, y, 0.06, INK)


def fish(pen: Pen, rng: np.random.Generator) -> None:
    """An upright tail fin, a fin on the back, a gill and stripes."""
    pen.shape(np.array([(-0.52, 0.08), (-1.05, -0.42), (-0.9, 0.08), (-1.05, 0.58)]), pen.trim)
    lift = rng.uniform(-0.8, -0.62)
    pen.shape(np.array([(-0.25, -0.3), (-0.15, lift), (0.25, lift + 0.08), (0.42, -0.3)]), pen.trim)
    high = _body(pen, rng)
    for x, reach in ((-0.34, 0.55), (-0.12, 0.72)):
        pen.stroke(arc(x, 0.08, 0.1, reach * high, -90, 90, count=10), mix(pen.trim, pen.body, 0.2), 0.09)
    pen.stroke(arc(0.34, 0.08, 0.14, 0.34, -80, 80, count=10), mix(pen.body, INK, 0.6), 0.06)
    pen.shape(np.array([(0.2, 0.12), (-0.12, 0.3), (0.12, 0.38)]), pen.trim)
    _eye(pen, 0.66, -0.04)


def whale(pen: Pen, rng: np.random.Generator) -> None:
    """A raised fluke of two lobes, a pale belly and a jet of water."""
    pen.stroke([(-0.45, 0.12), (-0.72, 0.0), (-0.82, -0.3)], mix(pen.body, INK, 0.55), 0.3)
    pen.shape(oval(-1.02, -0.46, 0.27, 0.14, 30, 20), pen.body)
    pen.shape(oval(-0.6, -0.46, 0.27, 0.14, -30, 20), pen.body)
    high = _body(pen, rng)
    pen.stroke([(-0.45, 0.12), (-0.72, 0.0), (-0.82, -0.38)], pen.body, 0.22)
    belly = arc(0.15, 0.08, 0.76, 0.92 * high, 12, 150, count=20)
    pen.shape(belly, mix(pen.body, WHITE, 0.78), 0)
    water = mix((120, 190, 230), WHITE, rng.uniform(0.0, 0.5))
    for side in (-1.0, 1.0):
        jet = arc(0.2, -0.55, 0.2, 0.28, 180, 310, count=10) * (side, 1.0) + (0.4, 0.0)
        pen.stroke(np.vstack([[(0.4, -0.36)], jet]), water, 0.1)
    pen.dot(0.66, 0.06, 0.075, INK)
    pen.stroke(arc(0.66, 0.12, 0.2, 0.2, 30, 110, count=8), mix(pen.body, INK, 0.7), 0.05)


def submarine(pen: Pen, rng: np.random.Generator) -> None:
    """A tower with a periscope, round windows and a propeller."""
    lean = rng.uniform(0.0, 0.12)
    pen.stroke([(0.22, -0.5), (0.22, -0.92), (0.46, -0.92)], mix(pen.trim, INK, 0.3), 0.12)
    tower = [(-0.2, -0.2), (-0.2 + lean, -0.64), (0.42 - lean, -0.64), (0.42, -0.2)]
    pen.shape(np.array(tower), pen.trim)
    pen.shape(oval(-0.92, -0.14, 0.09, 0.22, 10, 18), pen.trim)
    pen.shape(oval(-0.92, 0.3, 0.09, 0.22, -10, 18), pen.trim)
    pen.shape(box(-0.98, 0.0, -0.6, 0.16), mix(pen.body, INK, 0.3))
    _body(pen, rng)
    for x in (-0.26, 0.16, 0.58):
        pen.dot(x, 0.06, 0.15, mix(pen.trim, WHITE, 0.3), 0.04)
        pen.dot(x, 0.06, 0.09, (190, 224, 240))
