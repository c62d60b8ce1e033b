"""A small drawing tool: shapes in unit coordinates, painted turned, mirrored and enlarged on a sprite."""

import math

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

SPRITE_REACH = 1.35  # half the side of a sprite, in units; drawings stay within about one unit of the centre
INK_WIDTH = 0.05  # width of the outlines, in units


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from `first` (0) to `second` (1)."""
    pairs = zip(first, second, strict=True)
    return tuple(int(round(a + (b - a) * share)) for a, b in pairs)  # type: ignore[return-value]


def shaken(colour: Colour, rng: np.random.Generator) -> Colour:
    """Return `colour` with a little random change in each channel, still within 0..255."""
    values = np.clip(np.asarray(colour) + rng.normal(0.0, 14.0, 3), 0, 255)
    return tuple(int(value) for value in values)  # type: ignore[return-value]


def oval(cx: float, cy: float, rx: float, ry: float, tilt: float = 0.0, count: int = 36) -> np.ndarray:
    """Return the outline of an ellipse as an array of shape (count, 2); `tilt` is in degrees."""
    return arc(cx, cy, rx, ry, 0.0, 360.0 * (count - 1) / count, tilt, count)


def arc(
    cx: float, cy: float, rx: float, ry: float, start: float, stop: float, tilt: float = 0.0, count: int = 18
) -> np.ndarray:
    """Return points (count, 2) along an ellipse from `start` to `stop` degrees (0 right, 90 down)."""
    angles = np.radians(np.linspace(start, stop, count))
    points = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    if tilt:
        points = points @ turn_matrix(tilt)
    return points + (cx, cy)


def star(
    cx: float, cy: float, outer: float, inner: float, tips: int, start: float = -90.0, squash: float = 1.0
) -> np.ndarray:
    """Return the outline (2 * tips, 2) of a star; `squash` flattens it vertically."""
    angles = np.radians(start + np.arange(2 * tips) * 180.0 / tips)
    radii = np.where(np.arange(2 * tips) % 2 == 0, outer, inner)
    return np.stack([cx + radii * np.cos(angles), cy + squash * radii * np.sin(angles)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return the four corners (4, 2) of a rectangle."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def turn_matrix(degrees: float) -> np.ndarray:
    """Return the (2, 2) matrix that turns row vectors clockwise on the screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


class Pen:
    """Draws one object on its own transparent sprite.

    `unit` is the length of one unit in pixels of the sprite. `body` and `trim` are the two colours the
    drawing should use for its main parts.
    """

    def __init__(self, unit: float, angle: float, mirrored: bool, body: Colour, trim: Colour) -> None:
        side = max(4, math.ceil(2 * SPRITE_REACH * unit))
        self.unit = unit
        self.body = body
        self.trim = trim
        self.image = Image.new("RGBA", (side, side), (*body, 0))
        self._draw = ImageDraw.Draw(self.image)
        mirror = np.diag([-1.0 if mirrored else 1.0, 1.0])
        self._matrix = mirror @ turn_matrix(angle) * unit
        self._centre = side / 2

    def shape(self, points: np.ndarray, fill: Colour, ink: float = INK_WIDTH) -> None:
        """Fill the polygon `points` (N, 2) and outline it with a darker line of `ink` units (0: no line)."""
        pixels = self._pixels(points)
        self._draw.polygon(pixels, fill=(*fill, 255))
        if ink:
            self._line(pixels + pixels[:4], mix(fill, (20, 12, 24), 0.62), ink)

    def stroke(self, points: np.ndarray | list, colour: Colour, width: float) -> None:
        """Draw the open line `points` (N, 2), `width` units wide, with round ends."""
        pixels = self._pixels(np.asarray(points, dtype=float))
        self._line(pixels, colour, width)
        radius = width * self.unit / 2
        if radius >= 1:
            for x, y in (pixels[:2], pixels[-2:]):
                self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*colour, 255))

    def dot(self, cx: float, cy: float, radius: float, fill: Colour, ink: float = 0.0) -> None:
        """Draw a filled circle."""
        self.shape(oval(cx, cy, radius, radius, count=24), fill, ink)

    def shine(self, cx: float, cy: float, rx: float, ry: float, tilt: float = -35.0) -> None:
        """Draw a highlight in a light tint of the body colour."""
        self.shape(oval(cx, cy, rx, ry, tilt, 20), mix(self.body, (255, 255, 255), 0.6), 0)

    def _pixels(self, points: np.ndarray) -> list[float]:
        return (points @ self._matrix + self._centre).ravel().tolist()

    def _line(self, pixels: list[float], colour: Colour, width: float) -> None:
        # Rounded joints are slow and only show at the corners of shapes with few points.
        joint = "curve" if len(pixels) <= 28 else None
        self._draw.line(pixels, fill=(*colour, 255), width=max(1, round(width * self.unit)), joint=joint)
