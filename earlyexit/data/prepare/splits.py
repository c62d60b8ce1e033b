"""Taking a calibration split out of the training images."""

import hashlib
from typing import Any

Coco = dict[str, Any]


def take_calibration(coco: Coco, share: float = 0.2, seed: int = 0) -> tuple[Coco, Coco]:
    """Divide a data set into disjoint training and calibration images; no image and no annotation is lost.

    The images are ranked by the SHA-256 of "seed:image id" and the first `share` of them is the calibration split. So
    the division depends on the ids and the seed alone: not on the order of the file, the machine or a library's random
    numbers. And it moves little when images are added or left out.

    Args:
        coco: instances in COCO's layout; it is not changed.
        share: of the images that are for calibration, above 0 and below 1; each side gets at least one image.
        seed: another seed takes other images.

    Returns:
        The training and the calibration part, records in the order of the file, all other keys as they were.

    Raises:
        ValueError: `share` is not between 0 and 1, or there are fewer than two images.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share for calibration is between 0 and 1, such as 0.2, got {share}")
    ids = [image["id"] for image in coco["images"]]
    if len(ids) < 2:
        raise ValueError(f"a training and a calibration split need at least two images, there is {len(ids)}")
    ranked = sorted(ids, key=lambda image_id: hashlib.sha256(f"{seed}:{image_id}".encode()).digest())
    count = min(max(round(share * len(ids)), 1), len(ids) - 1)
    chosen = set(ranked[:count])
    return take_images(coco, set(ids) - chosen), take_images(coco, chosen)


def take_images(coco: Coco, ids: set[int]) -> Coco:
    """The images with these ids and their annotations, in the order of the file; all other keys as they were."""
    return {
        **coco,
        "images": [image for image in coco["images"] if image["id"] in ids],
        "annotations": [found for found in coco["annotations"] if found["image_id"] in ids],
    }
