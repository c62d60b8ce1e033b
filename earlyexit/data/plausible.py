"""What no single record shows: whether the boxes of a finished data set can be what they are taken for."""

import numpy as np

from .checks import image_size

MOST, SOME = 0.9, 0.1  # shares of the boxes
UNITS = {100: ("percent", 300), 1000: ("thousandths", 2000)}  # from which side of images on it is odd to end there
SLACK = 1.01  # of a pixel: a share of 1.0004 is rounding
FEW = 5  # boxes that say nothing yet about all


def check_plausible(coco: dict) -> list[str]:
    """Sentences about a data set, with usable records, whose boxes look as if something went wrong; [] if all is well.

    Raises:
        ValueError: boxes are shares of the image instead of pixels, or are all smaller than a pixel.
    """
    images = {image["id"]: image for image in coco["images"]}
    found = [record for record in coco["annotations"] if min(record["bbox"][2:]) > 0]
    boxes = np.array([record["bbox"] for record in found], dtype=float).reshape(-1, 4)
    ends = boxes[:, :2] + boxes[:, 2:]
    known = {image_id: image_size(image) for image_id, image in images.items()}
    sizes = np.array([known[record["image_id"]] for record in found]).reshape(-1, 2)

    def said(which: np.ndarray, what: str) -> str:
        first = found[int(which.argmax())]
        place = f"{first['bbox']} of {images[first['image_id']]['file_name']!r}"
        return f"{which.sum()} of {len(found)} boxes, such as {place}, {what}"

    shares = (boxes[:, :2] >= -SLACK).all(1) & (boxes <= SLACK).all(1)
    tiny = (boxes[:, 2:] <= SLACK).all(1)
    if shares.sum() > SOME * len(found):
        cure = "multiply them by its width and height, for boxes are in pixels"
        raise ValueError(said(shares, f"lie in the first pixel: shares of the image (0 to 1), it seems; {cure}"))
    if tiny.sum() > 0.5 * len(found):
        raise ValueError(said(tiny, "are under a pixel: in other units, it seems; boxes are in pixels of their image"))
    notes = [said(tiny, "are under a pixel")] if tiny.any() else []
    whole = ((boxes[:, :2] <= 1) & (ends >= sizes - 1)).all(1)
    cut = (ends >= sizes).any(1)
    unit = next((unit for unit in UNITS if not (ends > unit + SLACK).any()), 0)
    if len(found) < FEW:
        return notes
    if whole.sum() > MOST * len(found):
        notes.append(said(whole, "cover their whole image: were they drawn at all, or do they only tell its class?"))
    elif cut.sum() > MOST * len(found):
        causes = "(x1, y1, x2, y2) taken for (x, y, width, height), or boxes for larger photos"
        notes.append(said(cut, f"end at the right or lower border, or are cut off there: {causes}?"))
    elif unit and np.median(sizes.min(1)) >= UNITS[unit][1]:
        question = f"are they {UNITS[unit][0]} of the image?"
        notes.append(said(tiny | True, f"end within {unit} pixels of large images: {question}"))
    return notes
