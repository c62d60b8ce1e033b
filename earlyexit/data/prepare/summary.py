"""What is in a data set: classes, sizes of the boxes, images without an object."""

from __future__ import annotations

import statistics
from collections import Counter

from .clean import LOST

# COCO's limits between small, medium and large objects, as areas in pixels.
SMALL, LARGE = 32**2, 96**2


def summarise(coco: dict) -> dict:
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
    absent = len(summary["classes"]) - len(ranked)
    return lines + [f"  classes without an object: {absent}"] * (absent > 0)


def missing_classes(parts: dict[str, dict]) -> list[str]:
    """A line for every split that shows no object of a class which another split shows."""
    classes = {split: {name for name, n in summarise(part)["classes"].items() if n} for split, part in parts.items()}
    lines = []
    for split, has in classes.items():
        missing = sorted(set().union(*classes.values()) - has)
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            lines.append(f"no object in {split} of: {', '.join(missing[:5])}{more}")
    return lines
