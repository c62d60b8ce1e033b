"""Vessels: one bellied body, told apart by handle, spout, lid and foot."""

from __future__ import annotations

import numpy as np

from .pen import Pen, arc, mix, oval


def _belly(pen: Pen, rng: np.random.Generator, top: float, bottom: float, half: float) -> float:
    """Draw the common body with a band of the trim colour; return half the width of its foot."""
    foot = half * rng.uniform(0.6, 0.7)
    curve = np.linspace(0.0, 1.0, 12)
    reach = half + (foot - half) * curve**2
    heights = top + (bottom - top) * curve
    right = np.stack([reach, heights], axis=1)
    pen.shape(np.vstack([right, right[::-1] * (-1.0, 1.0)]), pen.body)
    band = slice(4, 7) if rng.random() < 0.5 else slice(5, 9)
    pen.shape(np.vstack([right[band], right[band][::-1] * (-1.0, 1.0)]) * (0.97, 1.0), pen.trim, 0)
    pen.shine(-0.62 * half, top + 0.22 * (bottom - top), 0.08, 0.16, 8)
    return foot


def _ring(pen: Pen, x: float, y: float, rx: float, ry: float, start: float, stop: float) -> None:
    """Draw a thick bow (a handle) with a dark rim."""
    outer = arc(x, y, rx + 0.1, ry + 0.1, start, stop)
    inner = arc(x, y, rx - 0.08, ry - 0.08, stop, start)
    pen.shape(np.vstack([outer, inner]), pen.body)


def cup(pen: Pen, rng: np.random.Generator) -> None:
    """One handle, a saucer and a little steam."""
    pen.shape(oval(-0.1, 0.7, 0.86, 0.16, count=28), mix(pen.trim, (255, 255, 255), 0.35))
    _ring(pen, 0.56, 0.02, 0.32, 0.3, -90, 100)
    _belly(pen, rng, -0.42, 0.68, 0.7)
    pen.shape(oval(0.0, -0.42, 0.68, 0.13, count=28), mix(pen.body, (60, 30, 20), 0.6))
    heights = np.linspace(-0.52, -0.98, 10)
    for x in (-0.22, 0.2):
        wave = x + 0.08 * np.sin((heights + 0.5) * rng.uniform(11, 14))
        pen.stroke(np.stack([wave, heights], axis=1), (238, 238, 240), 0.09)


def teapot(pen: Pen, rng: np.random.Generator) -> None:
    """A spout on one side, a handle on the other and a lid with a knob."""
    _ring(pen, 0.55, 0.12, 0.4, 0.36, -100, 100)
    tip = rng.uniform(-0.42, -0.3)
    spout = [(-0.5, 0.0), (-0.74, -0.06), (-0.92, tip), (-1.1, tip + 0.06), (-0.9, 0.3), (-0.5, 0.5)]
    pen.shape(np.array(spout), pen.body)
    _belly(pen, rng, -0.38, 0.78, 0.66)
    pen.shape(arc(0.0, -0.36, 0.6, 0.34, 180, 360, count=20), pen.trim)
    pen.dot(0.0, -0.78, 0.13, pen.body, 0.05)


def bucket(pen: Pen, rng: np.random.Generator) -> None:
    """A bow over the open top with a grip, and an open rim."""
    lift = rng.uniform(0.62, 0.74)
    bow = arc(0.0, -0.28, 0.72, lift, 180, 360, count=20)
    pen.stroke(bow, (70, 66, 76), 0.09)
    pen.stroke(arc(0.0, -0.28, 0.72, lift, 250, 290, count=6), pen.trim, 0.2)
    _belly(pen, rng, -0.3, 0.92, 0.76)
    pen.shape(oval(0.0, -0.3, 0.78, 0.17, count=28), mix(pen.body, (30, 24, 34), 0.6))
    for x in (-0.72, 0.72):
        pen.dot(x, -0.24, 0.1, (190, 190, 196), 0.04)
