"""Vehicles: a painted body on two wheels, told apart by windows, cabin and load."""

from __future__ import annotations

import numpy as np

from .pen import Colour, Pen, box, mix

GLASS: Colour = (190, 224, 240)
TYRE: Colour = (44, 42, 50)
LAMP: Colour = (255, 226, 120)


def _wheels(pen: Pen, rng: np.random.Generator, y: float = 0.5) -> None:
    radius = rng.uniform(0.2, 0.25)
    for x in (-0.53, 0.53):
        pen.dot(x, y, radius, TYRE)
        pen.dot(x, y, 0.5 * radius, (190, 190, 196))


def car(pen: Pen, rng: np.random.Generator) -> None:
    """A cabin with two windows on a low body."""
    roof = rng.uniform(-0.62, -0.5)
    nose = rng.uniform(0.6, 0.7)
    pen.shape(np.array([(-0.82, 0.02), (-0.52, roof), (0.3, roof), (nose, 0.02)]), pen.body)
    for x0, x1, lean0, lean1 in ((-0.64, -0.14, 0.2, 0.0), (-0.02, nose - 0.14, 0.0, -0.26)):
        window = [(x0, -0.02), (x0 + lean0, roof + 0.12), (x1 + lean1, roof + 0.12), (x1, -0.02)]
        pen.shape(np.array(window), GLASS)
    hull = [(-1.0, 0.1), (-0.9, -0.03), (0.75, -0.03), (0.97, 0.1), (1.0, 0.46), (-1.0, 0.46)]
    pen.shape(np.array(hull), pen.body)
    pen.stroke([(-0.12, 0.16), (0.06, 0.16)], mix(pen.body, (20, 12, 24), 0.6), 0.06)
    pen.dot(0.88, 0.2, 0.09, LAMP)
    _wheels(pen, rng, 0.46)


def bus(pen: Pen, rng: np.random.Generator) -> None:
    """One long box with a row of windows and a stripe."""
    top = rng.uniform(-0.66, -0.54)
    pen.shape(box(-1.0, top, 1.0, 0.48), pen.body)
    pen.shape(box(-0.98, 0.1, 0.98, 0.24), pen.trim, 0)
    count = int(rng.integers(3, 5))
    edges = np.linspace(-0.88, 0.56, count + 1)
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        pen.shape(box(left, top + 0.16, right - 0.1, -0.02), GLASS)
    pen.shape(box(0.62, top + 0.16, 0.9, 0.42), GLASS)
    _wheels(pen, rng)


def truck(pen: Pen, rng: np.random.Generator) -> None:
    """A closed cargo box behind a lower cab with one window."""
    top = rng.uniform(-0.72, -0.58)
    load = pen.body if rng.random() < 0.5 else pen.trim
    pen.shape(box(-1.0, 0.3, 0.98, 0.48), (92, 90, 100))
    pen.shape(box(-1.0, top, 0.36, 0.32), load)
    for x in (-0.66, -0.32, 0.02):
        pen.stroke([(x, top + 0.12), (x, 0.2)], mix(load, (20, 12, 24), 0.4), 0.06)
    cab = [(0.44, -0.32), (0.78, -0.32), (0.98, 0.04), (1.0, 0.46), (0.44, 0.46)]
    pen.shape(np.array(cab), pen.body)
    pen.shape(np.array([(0.54, -0.2), (0.74, -0.2), (0.87, 0.06), (0.54, 0.06)]), GLASS)
    pen.dot(0.92, 0.26, 0.07, LAMP)
    _wheels(pen, rng)
