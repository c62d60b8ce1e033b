"""The parts of a scene: sprites of objects, the background, and what makes it harder without being annotated."""

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .drawings import ALL_COLOURS, CLASS_NAMES, DRAWINGS, FAMILIES, FAMILY_OF, pick_colours
from .pen import Colour, Pen, mix, shaken

SHADING = (0.10, 0.30)  # how much darker the side away from the light may be, at least and at most
TILT_DEGREES = 25.0
Place = tuple[float, float, float]  # of an object: centre x, centre y and size, in units of the side of the image


def draw_sprite(name: str, unit: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the category `name`, half of whose usual length is `unit` pixels, with random colours, tilt, side and light.

    Returns RGBA uint8 (H, W, 4), cropped to the drawn pixels, whose alpha is 0 or 255. The number of random draws does
    not depend on `unit`.
    """
    body, trim = pick_colours(FAMILY_OF[name], rng)
    pen = Pen(unit, rng.uniform(-TILT_DEGREES, TILT_DEGREES), rng.random() < 0.5, body, trim)
    light = rng.uniform(-math.pi, 0.0)
    depth = rng.uniform(*SHADING)
    DRAWINGS[name](pen, rng)
    return _shade(_cropped(pen.image), light, depth)


def cut_fragment(sprite: np.ndarray, share: float, direction: float) -> np.ndarray:
    """Keep only the `share` of the drawn pixels that lies farthest in `direction` (radians), cropped."""
    height, width = sprite.shape[:2]
    x = np.arange(width, dtype=np.float32) * math.cos(direction)
    y = np.arange(height, dtype=np.float32) * math.sin(direction)
    along = x[None, :] + y[:, None]
    drawn = sprite[..., 3] > 0
    limit = np.quantile(along[drawn][::5], 1.0 - share)
    piece = sprite.copy()
    piece[..., 3][along < limit] = 0
    return _cropped(Image.fromarray(piece))


def paste_faded(
    canvas: Image.Image, sprite: np.ndarray, corner: tuple[int, int], around: Colour, contrast: float
) -> None:
    """Paste `sprite` at `corner` (x, y), its colours pulled towards `around`; contrast 1 changes nothing."""
    piece = Image.fromarray(sprite)
    plain = Image.new("RGB", piece.size, around)
    canvas.paste(Image.blend(plain, piece.convert("RGB"), contrast), corner, piece.getchannel("A"))


def _cropped(image: Image.Image) -> np.ndarray:
    return np.array(image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1)))


def _shade(pixels: np.ndarray, light: float, depth: float) -> np.ndarray:
    """Darken `pixels` in place, from the side of the light (an angle in radians) to the other side."""
    height, width = pixels.shape[:2]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * math.cos(light)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * math.sin(light)
    gain = (1.0 - depth * 0.5) + depth * (x[None, :] + y[:, None])
    np.multiply(pixels[..., :3], gain[..., None], out=pixels[..., :3], casting="unsafe")
    return pixels


def paint_background(side: int, busy: float, pale: float, rng: np.random.Generator) -> Image.Image:
    """An RGB image; `busy` in 0..1 is the strength of the texture, `pale` in 0..1 how far colours are washed out."""
    first, second, third = (
        mix(shaken(ALL_COLOURS[int(rng.integers(len(ALL_COLOURS)))], rng), (252, 250, 244), pale) for _ in range(3)
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


FRAGMENT_SHARE = (0.15, 0.36)  # how much of a drawing a distractor shows; more could pass for an object
LOOKALIKE_SHARE = 0.6  # share of the fragments that come from the family of an object in the scene


def local_colour(canvas: Image.Image, x0: float, y0: float, x1: float, y1: float) -> Colour:
    """Return the mean colour of a rectangle of the canvas, given in pixels."""
    side = canvas.width
    x0, y0 = min(max(0, int(x0)), side - 2), min(max(0, int(y0)), side - 2)
    x1, y1 = max(x0 + 1, min(side, int(x1))), max(y0 + 1, min(side, int(y1)))
    return canvas.resize((1, 1), Image.Resampling.BOX, box=(x0, y0, x1, y1)).getpixel((0, 0))


def _colour_around(canvas: Image.Image, x: float, y: float, reach: float) -> Colour:
    ends = np.array([x - reach, y - reach, x + reach, y + reach]) * canvas.width
    return local_colour(canvas, *ends)


def paint_distractors(
    canvas: Image.Image, count: int, places: list[Place], labels: list[int], contrast: float, rng: np.random.Generator
) -> None:
    """Paint `count` distractors behind the objects, which have these places and labels; about half touch an object."""
    for _ in range(count):
        kind, near = rng.random(), rng.random() < 0.5
        x, y = rng.uniform(0.0, 1.0, 2)
        if places and near:
            cx, cy, size = places[int(rng.integers(len(places)))]
            angle, reach = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.5, 0.75)
            x, y = cx + reach * np.cos(angle), cy + reach * np.sin(angle)
        reference = float(np.mean([size for _, _, size in places])) if places else 0.4
        size = reference * rng.uniform(0.55, 0.95)
        if kind < 0.6:
            _paint_fragment(canvas, (x, y, size), labels, contrast, rng)
        else:
            _paint_mark(canvas, (x, y, size), contrast, rng)


def _paint_fragment(
    canvas: Image.Image, place: Place, labels: list[int], contrast: float, rng: np.random.Generator
) -> None:
    name = CLASS_NAMES[int(rng.integers(len(CLASS_NAMES)))]
    if labels and rng.random() < LOOKALIKE_SHARE:
        members = FAMILIES[FAMILY_OF[CLASS_NAMES[labels[int(rng.integers(len(labels)))]]]]
        name = members[int(rng.integers(len(members)))]
    (x, y, size), side = place, canvas.width
    sprite = draw_sprite(name, size / 2 * side, rng)
    sprite = cut_fragment(sprite, rng.uniform(*FRAGMENT_SHARE), rng.uniform(0, 2 * np.pi))
    around = _colour_around(canvas, x, y, size / 4)
    height, width = sprite.shape[:2]
    corner = (round(x * side - width / 2), round(y * side - height / 2))
    paste_faded(canvas, sprite, corner, around, contrast)


def _paint_mark(canvas: Image.Image, place: Place, contrast: float, rng: np.random.Generator) -> None:
    (x, y, size), side = place, canvas.width
    raw = shaken(ALL_COLOURS[int(rng.integers(len(ALL_COLOURS)))], rng)
    angle, wave, blob = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35), rng.random() < 0.5
    radius = size * rng.uniform(0.12, 0.25)
    around = _colour_around(canvas, x, y, radius)
    colour = mix(around, raw, contrast)
    draw = ImageDraw.Draw(canvas)
    if blob:
        outline = (blob_outline(radius, wave, angle) + (x, y)) * side
        draw.polygon(outline.ravel().tolist(), fill=colour)
        return
    bend = np.linspace(-1.0, 1.0, 10)
    points = np.stack([bend * size * 0.45, wave * size * bend**2], axis=1)
    c, s = np.cos(angle), np.sin(angle)
    points = points @ np.array([[c, s], [-s, c]]) + (x, y)
    draw.line((points * side).ravel().tolist(), fill=colour, width=max(1, round(0.25 * radius * side)))


def blob_outline(radius: float, wave: float, turn: float) -> np.ndarray:
    """Return a closed wavy outline (28, 2) around the origin."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radii = radius * (1.0 + wave * np.sin(3 * angles + turn))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def occluder_outline(mask: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A polygon (N, 2), in pixels of `mask`, that hides about `fraction` of it: a bar across, or a blob over its edge.

    Its extent follows from a quantile of the distances of the pixels, so the fraction comes out right for every shape.
    """
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1)[:: max(1, len(rows) // 1500)].astype(float)
    middle = points.mean(axis=0)
    reach = float(np.sqrt(((points - middle) ** 2).sum(axis=1).max()))
    angle, start, wave, bar = rng.uniform(0, 2 * np.pi), rng.random(), rng.uniform(0, 0.2), rng.random() < 0.5
    normal = np.array([np.cos(angle), np.sin(angle)])
    if bar:
        along = np.array([-normal[1], normal[0]])
        below = start * (1 - fraction)
        low, high = np.quantile((points - middle) @ normal, [below, below + fraction])
        corners = [(low, -reach), (high, -reach), (high, reach), (low, reach)]
        return np.array([middle + a * normal + b * 1.05 * along for a, b in corners])
    centre = middle + normal * reach * 0.85
    offsets = points - centre
    bearing = np.arctan2(offsets[:, 1], offsets[:, 0])
    stretched = np.sqrt((offsets**2).sum(axis=1)) / (1.0 + wave * np.sin(3 * bearing + angle))
    return blob_outline(float(np.quantile(stretched, fraction)), wave, angle) + centre
