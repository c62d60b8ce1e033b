"""A contact sheet: some images of every class with their boxes and names, to look at before anything is trained."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...plots import save_figure
from ..images import open_image, to_rgb
from .faults import check_records

CELL, DOTS = 2.4, 110  # side of a cell in inches, dots per inch
# Dark enough for white letters, and classes that follow each other differ.
COLOURS = ["#0B6FB8", "#C8370A", "#00795C", "#8E3A94", "#A36A00", "#B3225B", "#3F4FB5", "#5B6B00", "#00707F", "#7A4A32"]
FEW = 6  # objects in an image, up to which all of them are named


def choose_images(coco: dict, *, per_class: int = 3, most: int = 48, seed: int = 0) -> list[tuple[str, int]]:
    """Pick images that show the classes: (class name, image id), in the order of category ids.

    Of every class `per_class` different images are taken, fewer if that makes more than `most`, and if there are more
    than `most` classes some of the classes. No image stands for two classes. The seed decides which.
    """
    images = defaultdict(set)
    for found in coco["annotations"]:
        images[found["category_id"]].add(found["image_id"])
    pick = random.Random(seed)
    categories = [category for category in coco["categories"] if images[category["id"]]]
    if len(categories) > most:
        categories = pick.sample(categories, most)
    orders = {c["id"]: pick.sample(sorted(images[c["id"]]), len(images[c["id"]])) for c in categories}
    chosen, taken = [], set()
    for _ in range(per_class):  # one more of every class, as long as there is room
        for category in categories:
            image = next((i for i in orders[category["id"]] if i not in taken), None)
            if image is not None and len(chosen) < most:
                taken.add(image)
                chosen.append((category["id"], category["name"], image))
    return [(name, image) for _, name, image in sorted(chosen, key=lambda item: item[0])]


def contact_sheet(
    coco: dict, images: str | Path, path: str | Path, *, per_class: int = 3, most: int = 48, seed: int = 0
) -> int:
    """Draw a contact sheet into a PNG file and return how many images it shows.

    An image's title is the class that it was chosen for; the objects of this class stand out and are named. All other
    objects have thin boxes in the colours of their classes, and names where there are few of them.

    Args:
        coco: instances in COCO's layout.
        images: the folder of the images.
        path: the PNG file; it appears whole or not at all.
        per_class, most, seed: see `choose_images`.

    Raises:
        ValueError: a record cannot be used, no image has an object, or an image that was chosen cannot be read.
    """
    check_records(coco, sized=False)
    chosen = choose_images(coco, per_class=per_class, most=most, seed=seed)
    if not chosen:
        raise ValueError("there is nothing to show: no image has an object")
    names = {category["id"]: category["name"] for category in coco["categories"]}
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names.values())}
    by_id = {image["id"]: image for image in coco["images"]}
    objects = defaultdict(list)
    for found in coco["annotations"]:
        objects[found["image_id"]].append((names[found["category_id"]], found["bbox"]))
    figure, cells = _grid(len(chosen))
    for cell, (name, image_id) in zip(cells, chosen, strict=True):
        _show_image(cell, Path(images) / by_id[image_id]["file_name"])
        _draw_boxes(cell, objects[image_id], name, colours)
        cell.set_title(_short(name, 26), fontsize=10, color=colours[name], fontweight="bold", pad=3, parse_math=False)
    save_figure(figure, Path(path), format="png")
    return len(chosen)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """Empty cells; a figure of its own rather than pyplot's, which keeps every figure in memory."""
    columns = min(count, 6 if count <= 24 else 8)
    rows = -(-count // columns)
    figure = Figure((columns * CELL, rows * CELL * 1.08), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for cell in cells:
        cell.set_axis_off()
    return figure, cells[:count]


def _show_image(cell: Axes, path: Path) -> None:
    try:
        with open_image(path) as image:
            width, height = image.size
            image.draft("RGB", (512, 512))  # a large JPEG is decoded small
            small = to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from None
    small.thumbnail((512, 512))
    cell.imshow(small, extent=(0, width, height, 0), interpolation="antialiased")  # boxes keep their pixels
    cell.set(xlim=(0, width), ylim=(height, 0))


def _draw_boxes(cell: Axes, objects: list[tuple[str, list[float]]], chosen: str, colours: dict[str, str]) -> None:
    width, height = cell.get_xlim()[1], cell.get_ylim()[0]
    for name, (x, y, w, h) in sorted(objects, key=lambda item: item[0] == chosen):  # the chosen class on top
        strong = name == chosen
        for colour, line in (("white", 2.8 if strong else 1.4), (colours[name], 1.6 if strong else 0.7)):
            cell.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=line))
        if strong or len(objects) <= FEW:
            # Above the box, which it would hide if it is small, and to the left, unless that is outside the image.
            place = {"va": "bottom" if y > 0.08 * height else "top", "ha": "left" if x < 0.7 * width else "right"}
            label = {"facecolor": colours[name], "edgecolor": "none", "pad": 1.0, "alpha": 0.92}
            at = (x if x < 0.7 * width else min(x + w, width), y)
            cell.text(
                *at, _short(name, 16), fontsize=7, color="white", clip_on=True, bbox=label, parse_math=False, **place
            )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
