"""What is in a data set, to look at before anything is trained: counts, and some images of every class with boxes."""

from __future__ import annotations

import random
import statistics
from collections import Counter, defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from earlyexit.data import LOST, PhotoFiles, check_records, open_photo
from earlyexit.evaluation.pictures import save_figure

# COCO's limits between small, medium and large objects, as areas in pixels.
SMALL, LARGE = 32**2, 96**2
CELL, DOTS = 2.4, 110  # side of a cell in inches, dots per inch
# Dark enough for white letters, and classes that follow each other differ.
COLOURS = ["#0B6FB8", "#C8370A", "#00795C", "#8E3A94", "#A36A00", "#B3225B", "#3F4FB5", "#5B6B00", "#00707F", "#7A4A32"]
FEW = 6  # objects in an image, up to which all of them are named


def sum_up(coco: dict) -> dict:
    """Count a COCO data set.

    Returns:
        "images", "objects", "empty" (images without an object), "single" (images with exactly one, which have not
        lost another to `clean_coco`), "classes" {name: objects} in the order of category ids, those that never occur
        too, "sizes" {"small", "medium", "large": objects} by COCO's areas, and "side" (smallest, median, largest side
        of a box in pixels; None without boxes).
    """
    per_image = Counter(found["image_id"] for found in coco["annotations"])
    per_category = Counter(found["category_id"] for found in coco["annotations"])
    categories = sorted(coco["categories"], key=lambda category: category["id"])
    areas = [found.get("area", found["bbox"][2] * found["bbox"][3]) for found in coco["annotations"]]
    sides = [side for found in coco["annotations"] for side in found["bbox"][2:]]
    small, large = sum(area < SMALL for area in areas), sum(area >= LARGE for area in areas)
    return {
        "images": len(coco["images"]),
        "objects": len(coco["annotations"]),
        "empty": sum(image["id"] not in per_image for image in coco["images"]),
        "single": sum(per_image[image["id"]] == 1 and not image.get(LOST) for image in coco["images"]),
        "classes": {category["name"]: per_category[category["id"]] for category in categories},
        "sizes": {"small": small, "medium": len(areas) - small - large, "large": large},
        "side": (min(sides), statistics.median(sides), max(sides)) if sides else None,
    }


def summary_lines(summary: dict, most: int = 20) -> list[str]:
    """A summary for people; of the classes the `most` frequent and, if there are more, the rarest."""
    sizes = ", ".join(f"{name} {count}" for name, count in summary["sizes"].items())
    lines = [f"{summary['images']} images, {summary['objects']} objects of {len(summary['classes'])} classes"]
    lines += [f"  images with one object: {summary['single']}, without: {summary['empty']}"]
    if summary["side"]:
        smallest, median, largest = summary["side"]
        lines += [f"  boxes: {sizes} (by COCO's areas, 32 x 32 and 96 x 96 pixels)"]
        lines += [f"  sides of boxes in pixels: {smallest:g} to {largest:g}, median {median:g}"]
    ranked = sorted(((n, c) for n, c in summary["classes"].items() if c), key=lambda item: -item[1])
    width = max((len(name) for name, _ in ranked), default=0)
    lines += [f"  {name:{width}} {count:6}" for name, count in ranked[:most]]
    if len(ranked) > most:
        (rarest, fewest), left = ranked[-1], len(ranked) - most
        lines += [f"  and {left} more, down to {rarest!r} with {fewest}"]
    absent = [name for name, count in summary["classes"].items() if not count]
    return lines + [f"  classes without an object: {len(absent)}, {_some(absent)}"] * bool(absent)


def missing_classes(parts: dict[str, dict]) -> list[str]:
    """A line for every split that shows no object of a class which another split shows."""
    classes = {split: {name for name, n in sum_up(part)["classes"].items() if n} for split, part in parts.items()}
    lines = []
    for split, has in classes.items():
        missing = sorted(set().union(*classes.values()) - has)
        if missing:
            lines.append(f"no object in {split} of: {_some(missing)}")
    return lines


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
    check_records(coco)
    chosen = choose_images(coco, per_class=per_class, most=most, seed=seed)
    if not chosen:
        raise ValueError("there is nothing to show: no image has an object")
    names = {category["id"]: category["name"] for category in coco["categories"]}
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names.values())}
    by_id = {image["id"]: image for image in coco["images"]}
    objects = defaultdict(list)
    for found in coco["annotations"]:
        objects[found["image_id"]].append((names[found["category_id"]], found["bbox"]))
    files = PhotoFiles(images, [image["file_name"] for image in coco["images"]])
    figure, cells = _grid(len(chosen))
    for cell, (name, image_id) in zip(cells, chosen, strict=True):
        _show_image(cell, files, by_id[image_id]["file_name"])
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


def _show_image(cell: Axes, files: PhotoFiles, name: str) -> None:
    try:
        small, (width, height), _ = open_photo(files.path(name), longest=512)
    except ValueError as error:
        raise ValueError(f"{str(files.folder / name)!r} cannot be read: {error}") from None
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
