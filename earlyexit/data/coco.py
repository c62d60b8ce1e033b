"""Any COCO-layout folder as a data set of images and `targets`: reading its JSON, items, transforms."""

import contextlib
import copy
import gc
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VisionDataset
from torchvision.transforms import v2

from .checks import check_records
from .outlines import add_box
from .photos import open_image, to_rgb


class CocoDataset(CocoDetection):
    """Images and targets from an instances JSON and the folder of its images.

    An item is `(image, target)`: image (3, H, W) float in [0, 1], RGB; target a dict of "boxes" (M, 4) xyxy in
    pixels, "labels" (M,) int64 counted from 0 in the order of category ids, and "image_id" (a 0-dim int64 tensor).
    Crowd annotations and boxes without area are left out.

    Args:
        images: the image folder.
        annotations: the instances JSON.
        transforms: a transforms-v2 callable on (image, target); `eval_transforms()` unless told.
    """

    def __init__(self, images: str | Path, annotations: str | Path, transforms: Callable | None = None):
        if not Path(images).is_dir():
            raise ValueError(f"no image folder {str(images)!r}")
        # Not CocoDetection's own constructor: it would read the file a second time, unchecked.
        VisionDataset.__init__(self, str(images), transforms=transforms or eval_transforms())
        self.coco = index_coco(read_coco(annotations, outlines=False))
        self.ids = sorted(self.coco.imgs)
        categories = self.coco.loadCats(sorted(self.coco.getCatIds()))
        self.classes: list[str] = [category["name"] for category in categories]
        self.category_ids: list[int] = [category["id"] for category in categories]
        self._label = {category_id: label for label, category_id in enumerate(self.category_ids)}

    def with_transforms(self, transforms: Callable) -> "CocoDataset":
        """The same images and annotations, not read again, with other transforms."""
        other = copy.copy(self)
        other.transforms = transforms
        return other

    def objects(self, image_id: int) -> list[dict]:
        """The annotations that become boxes of an image: no crowds, none without area."""
        return [a for a in self.coco.imgToAnns.get(image_id, []) if not a["iscrowd"] and min(a["bbox"][2:]) > 0]

    def _load_image(self, id: int) -> Image.Image:
        info = self.coco.imgs[id]
        try:
            with open_image(Path(self.root) / info["file_name"]) as opened:
                image = to_rgb(opened)
        except ValueError as error:
            raise ValueError(f"image {id}, {info['file_name']!r}, cannot be read: {error}") from None
        if image.size != (info["width"], info["height"]):
            said = (info["width"], info["height"])
            raise ValueError(f"image {id}, {info['file_name']!r}, is {image.size}, but its annotations are for {said}")
        return image

    def _load_target(self, id: int) -> dict:
        info, objects = self.coco.imgs[id], self.objects(id)
        xywh = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(info["height"], info["width"])),
            "labels": torch.tensor([self._label[a["category_id"]] for a in objects], dtype=torch.int64),
            "image_id": torch.tensor(id),
        }


def coco_split(data: str | Path, split: str, transforms: Callable | None = None) -> CocoDataset:
    """One split of a COCO-layout folder: `data/annotations/instances_<split>.json` and `data/<split>/`."""
    return CocoDataset(Path(data) / split, annotation_file(data, split), transforms)


def annotation_file(data: str | Path, split: str) -> Path:
    """Where the annotations of a split are in a COCO-layout folder."""
    return Path(data) / "annotations" / f"instances_{split}.json"


def load_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON without looking at its records; `ValueError` if there is none or it is not valid JSON.

    Args:
        annotations: the file.
        outlines: keep "segmentation", which is most of a COCO file; boxes and areas are always kept. An annotation
            without a box gets the one around its outline.
    """
    name, collects = str(annotations), gc.isenabled()
    gc.disable()  # it would search the growing millions of records for garbage again and again, and find none
    try:
        text = Path(annotations).read_text(encoding="utf-8-sig")
        return json.loads(text, object_hook=add_box if outlines else _without_outline)
    except FileNotFoundError:
        raise ValueError(f"no annotation file {name!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name!r} is not readable JSON: {error}") from None
    finally:
        if collects:
            gc.enable()


def _without_outline(record: dict) -> dict:
    add_box(record)
    record.pop("segmentation", None)
    return record


def read_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON as `load_coco`; `ValueError` says which record in which file cannot be used."""
    content = load_coco(annotations, outlines=outlines)
    try:
        check_records(content)
    except ValueError as error:
        raise ValueError(f"{str(annotations)!r}: {error}") from None
    return content


def index_coco(content: dict) -> COCO:
    """pycocotools' index over a COCO dict; annotations are numbered anew, missing areas and crowd flags filled in."""
    # pycocotools looks annotations up by id, and takes 0 for "no match": with two of one id it gives a wrong mAP.
    annotations = [{**annotation, "id": number} for number, annotation in enumerate(content["annotations"], 1)]
    for annotation in annotations:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        coco = COCO()
        coco.dataset = {**content, "annotations": annotations}
        coco.createIndex()
    return coco


def train_transforms(
    flip: float = 0.5, *, jitter: float = 0.0, min_size: int = 800, max_size: int = 1333
) -> v2.Transform:
    """Random horizontal flip and size, then floats in [0, 1].

    Args:
        flip: probability of the flip.
        jitter: 0 leaves the size to the detector. 0.2 makes images 0.8 to 1.2 times as large as the detector would,
            in nine steps; it must then not resize again (`_skip_resize=True` of torchvision's detectors).
        min_size, max_size: the detector's shorter side, and the limit of the longer one, in pixels.
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be in [0, 1), got {jitter}")
    scales = [1 + jitter * step / 4 for step in range(-4, 5)]
    # No antialiasing, since the detector's own resizing has none; on a PIL image it could not be switched off.
    sizes = [v2.RandomShortestSize([round(min_size * s)], round(max_size * s), antialias=False) for s in scales]
    resize = [v2.RandomChoice(sizes)] if jitter else []
    return v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(flip), *resize, *_TO_FLOAT])


def eval_transforms() -> v2.Transform:
    """Floats in [0, 1], nothing else: resizing and normalising are the detector's own."""
    return v2.Compose(_TO_FLOAT)


_TO_FLOAT = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()]


def collate(samples: Sequence[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """A list of images and a list of targets, as torchvision's detectors take them."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)
