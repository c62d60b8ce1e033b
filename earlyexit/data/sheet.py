"""A contact sheet: some images of every class with their boxes and names, to look at before anything is trained."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, UnidentifiedImageError

from ..files import write_whole

CELL = 2.2  # inches
DOTS = 110  # per inch: a cell is 242 pixels wide
# Ten colours that differ, also from their neighbours in the order of classes.
COLOURS = [colormaps["tab10"](i) for i in range(10)]


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

    Every image has all its boxes; its title is the class that it was chosen for, in the colour of that class.

    Args:
        coco: instances in COCO's layout.
        images: the folder of the images.
        path: the PNG file; it appears whole or not at all.
        per_class, most, seed: see `choose_images`.

    Raises:
        ValueError: no image has an object, or an image that was chosen cannot be read.
    """
    chosen = choose_images(coco, per_class=per_class, most=most, seed=seed)
    if not chosen:
        raise ValueError("there is nothing to show: no image has an object")
    names = {category["id"]: category["name"] for category in coco["categories"]}
    colour = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names.values())}
    by_id = {image["id"]: image for image in coco["images"]}
    objects = defaultdict(list)
    for found in coco["annotations"]:
        objects[found["image_id"]].append((names[found["category_id"]], found["bbox"]))
    columns = min(len(chosen), 8 if len(chosen) > 24 else 6)
    rows = -(-len(chosen) // columns)
    figure = Figure((columns * CELL, rows * CELL * 1.1), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(rows, columns, squeeze=False).flat
    for cell, (name, image_id) in zip(cells, chosen, strict=False):
        _draw(cell, Path(images) / by_id[image_id]["file_name"], objects[image_id], colour)
        cell.set_title(_short(name, 26), fontsize=9, color=colour[name], fontweight="bold", pad=3)
    for cell in list(cells)[0:]:
        cell.remove()
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png"))
    return len(chosen)


def _draw(cell, path: Path, objects: list[tuple[str, list[float]]], colour: dict) -> None:
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.draft("RGB", (512, 512))  # a large JPEG is decoded small
            small = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from None
    small.thumbnail((512, 512))
    cell.imshow(small, extent=(0, width, height, 0), interpolation="antialiased")
    cell.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for name, (x, y, w, h) in objects:
        cell.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="white", linewidth=2.6))
        cell.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour[name], linewidth=1.4))
        text = cell.text(x, y, _short(name, 14), fontsize=6.5, color="white", va="top", clip_on=True)
        text.set_bbox({"facecolor": colour[name], "edgecolor": "none", "pad": 0.8, "alpha": 0.9})
        text.set_path_effects([withStroke(linewidth=0.6, foreground="black")])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
