"""The twenty categories: their drawings, and the families, names and colours that follow from them."""

from collections.abc import Callable

import numpy as np

from .pen import Colour, Pen, arc, box, mix, oval, shaken, star

# Parts that look the same whatever the colours of an object are.
WHITE, INK, WOOD, DOOR = (250, 250, 246), (30, 26, 38), (112, 72, 40), (112, 72, 48)
LEAF, STEM, STALK = (74, 150, 62), (84, 154, 72), (246, 234, 208)
WINDOW, LAMPLIGHT = (190, 224, 240), (250, 222, 130)
TYRE, LAMP = (44, 42, 50), (255, 226, 120)


# Round things: one body, told apart by what grows out of it or runs across it.


def _ball_body(pen: Pen, rng: np.random.Generator, cy: float, radius: float, dip: float) -> tuple[float, float]:
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
    _, high = _ball_body(pen, rng, 0.18, 0.8, rng.uniform(0.18, 0.28))
    top = 0.18 - 0.74 * high
    pen.stroke([(0.0, top + 0.12), (0.03, top - 0.18), (-0.06, top - 0.42)], WOOD, 0.13)
    tilt = rng.uniform(-35, -12)
    pen.shape(oval(0.36, top - 0.22, 0.36, 0.17, tilt, 24), LEAF)
    pen.stroke([(0.14, top - 0.14), (0.52, top - 0.3)], mix(LEAF, (255, 255, 255), 0.4), 0.04)


def tomato(pen: Pen, rng: np.random.Generator) -> None:
    """A green star of sepals lying on the body."""
    _, high = _ball_body(pen, rng, 0.1, 0.85, rng.uniform(0.04, 0.14))
    top = 0.1 - 0.72 * high
    reach = rng.uniform(0.52, 0.66)
    pen.shape(star(0.0, top + 0.1, reach, 0.17, int(rng.integers(5, 7)), 90.0, 0.72), LEAF)
    pen.stroke([(0.0, top + 0.05), (0.05, top - 0.24)], mix(LEAF, (0, 0, 0), 0.25), 0.13)


def ball(pen: Pen, rng: np.random.Generator) -> None:
    """Seams: a cross and two arcs, or bands of the trim colour."""
    wide, high = _ball_body(pen, rng, 0.0, 0.9, 0.0)
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
    _, high = _ball_body(pen, rng, -0.3, 0.74, 0.0)
    knot = -0.3 + high
    heights = np.linspace(knot + 0.1, 1.08, 14)
    sway = rng.uniform(0.08, 0.16) * np.sin((heights - knot) * rng.uniform(9, 13))
    pen.stroke(np.stack([sway, heights], axis=1), mix(pen.body, (40, 30, 40), 0.6), 0.07)
    pen.shape(np.array([(0.0, knot - 0.08), (0.18, knot + 0.17), (-0.18, knot + 0.17)]), pen.body)


# Vehicles: a painted body on two wheels, told apart by windows, cabin and load.


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
        pen.shape(np.array(window), WINDOW)
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
        pen.shape(box(left, top + 0.16, right - 0.1, -0.02), WINDOW)
    pen.shape(box(0.62, top + 0.16, 0.9, 0.42), WINDOW)
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
    pen.shape(np.array([(0.54, -0.2), (0.74, -0.2), (0.87, 0.06), (0.54, 0.06)]), WINDOW)
    pen.dot(0.92, 0.26, 0.07, LAMP)
    _wheels(pen, rng)


# Swimmers: one long oval body, told apart by tail, fins and what stands on the back.


def _long_body(pen: Pen, rng: np.random.Generator) -> float:
    """Draw the common body; return its half height."""
    high = rng.uniform(0.44, 0.54)
    pen.shape(oval(0.15, 0.08, 0.82, high, count=40), pen.body)
    return high


def _eye(pen: Pen, x: float, y: float) -> None:
    pen.dot(x, y, 0.12, WHITE, 0.03)
    pen.dot(x + 0.03, y, 0.06, INK)


def fish(pen: Pen, rng: np.random.Generator) -> None:
    """An upright tail fin, a fin on the back, a gill and stripes."""
    pen.shape(np.array([(-0.52, 0.08), (-1.05, -0.42), (-0.9, 0.08), (-1.05, 0.58)]), pen.trim)
    lift = rng.uniform(-0.8, -0.62)
    pen.shape(np.array([(-0.25, -0.3), (-0.15, lift), (0.25, lift + 0.08), (0.42, -0.3)]), pen.trim)
    high = _long_body(pen, rng)
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
    high = _long_body(pen, rng)
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
    _long_body(pen, rng)
    for x in (-0.26, 0.16, 0.58):
        pen.dot(x, 0.06, 0.15, mix(pen.trim, WHITE, 0.3), 0.04)
        pen.dot(x, 0.06, 0.09, (190, 224, 240))


# Buildings: a wall and a gable, told apart by what stands on the roof and by the doors.


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
        pen.shape(box(x, 0.1, x + 0.34, 0.42), LAMPLIGHT)
        pen.stroke([(x + 0.17, 0.12), (x + 0.17, 0.4)], DOOR, 0.04)
        pen.stroke([(x + 0.02, 0.26), (x + 0.32, 0.26)], DOOR, 0.04)
    pen.shape(box(-0.14, 0.46, 0.18, 0.92), DOOR)
    pen.dot(0.1, 0.7, 0.04, LAMPLIGHT)


def church(pen: Pen, rng: np.random.Generator) -> None:
    """A cross on the ridge, a round window and an arched door."""
    ridge = _walls(pen, rng)
    cross = mix(pen.trim, (40, 30, 30), 0.55)
    pen.stroke([(0.0, ridge + 0.05), (0.0, ridge - 0.5)], cross, 0.13)
    pen.stroke([(-0.2, ridge - 0.3), (0.2, ridge - 0.3)], cross, 0.13)
    pen.dot(0.0, 0.12, 0.18, LAMPLIGHT, 0.05)
    pen.stroke([(0.0, -0.04), (0.0, 0.28)], DOOR, 0.04)
    pen.stroke([(-0.16, 0.12), (0.16, 0.12)], DOOR, 0.04)
    arch = arc(0.0, 0.66, 0.22, 0.24, 180, 360, count=12)
    pen.shape(np.vstack([arch, [(0.22, 0.92), (-0.22, 0.92)]]), DOOR)
    for x in (-0.46, 0.46):
        arch = arc(x, 0.42, 0.1, 0.12, 180, 360, count=8)
        pen.shape(np.vstack([arch, [(x + 0.1, 0.66), (x - 0.1, 0.66)]]), LAMPLIGHT)


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


# Vessels: one bellied body, told apart by handle, spout, lid and foot.


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


# Two pairs from the garden: domes on a stalk, and discs with rays.


def mushroom(pen: Pen, rng: np.random.Generator) -> None:
    """A thick stalk and pale spots on the cap."""
    thick = rng.uniform(0.24, 0.32)
    stalk = [(-thick, 0.0), (thick, 0.0), (thick + 0.08, 0.94), (-thick - 0.08, 0.94)]
    pen.shape(np.array(stalk), STALK)
    pen.shape(oval(0.0, 0.06, 0.6, 0.14, count=24), mix(STALK, (120, 90, 70), 0.35))
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
    pen.stroke([(0.0, 0.0), (0.04, 0.55), (0.0, 1.08)], STEM, 0.13)
    pen.shape(oval(0.26, 0.8, 0.28, 0.12, -30, 18), STEM)
    pen.shape(oval(-0.26, 0.86, 0.28, 0.12, 30, 18), STEM)
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


# What belongs together, and so looks alike.
_FAMILIES: dict[str, tuple[Callable[[Pen, np.random.Generator], None], ...]] = {
    "round": (apple, tomato, ball, balloon),
    "vehicle": (car, bus, truck),
    "sea": (fish, whale, submarine),
    "building": (house, church, barn),
    "vessel": (cup, teapot, bucket),
    "dome": (mushroom, umbrella),
    "radial": (flower, sun),
}
FAMILIES: dict[str, tuple[str, ...]] = {name: tuple(m.__name__ for m in members) for name, members in _FAMILIES.items()}
DRAWINGS = {drawing.__name__: drawing for members in _FAMILIES.values() for drawing in members}
CLASS_NAMES: tuple[str, ...] = tuple(DRAWINGS)
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


def pick_colours(family: str, rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return a body and a trim colour that differ visibly, both from the family's palette."""
    palette = PALETTES[family]
    first = int(rng.integers(len(palette)))
    others = [colour for colour in palette if colour != palette[first]]
    return shaken(palette[first], rng), shaken(others[int(rng.integers(len(others)))], rng)
