"""Any COCO-layout folder as a data set of images and `targets`, or its images with one object, or its first ones."""

import contextlib
import copy
import functools
import gc
import io
import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VisionDataset
from torchvision.transforms import v2

from ..files import progress, write_json, write_whole
from .annotations import category_ids, check_plausible, check_records, image_problem, image_size, outline_box, tidy
from .photos import Header, PhotoFiles, open_photo, read_header, size_problem, stays_inside


class CocoDataset(CocoDetection):
    """Images and targets from an instances JSON and the folder of its images.

    An item is `(image, target)`: image (3, H, W) float in [0, 1], RGB; target a dict of "boxes" (M, 4) xyxy in
    pixels, "labels" (M,) int64 counted from 0 in the order of category ids, and "image_id" (a 0-dim int64 tensor).
    Crowd annotations and boxes without area are left out. Sizes that the file does not give are read from the photos.
    `transforms`, of version 2, get (image, target); `eval_transforms()` unless told.

    Attributes:
        classes, category_ids: the names of the classes by label, and their ids in the file.
        ids: of the images, in order.
        notes: sentences on what was not taken as it stands in the file, or looks wrong; a command should say them.
    """

    def __init__(self, images: str | Path, annotations: str | Path, transforms: Callable | None = None):
        if not Path(images).is_dir():
            raise ValueError(f"no image folder {str(images)!r}")
        # Not CocoDetection's own constructor: it would read the file a second time, unchecked.
        VisionDataset.__init__(self, str(images), transforms=transforms or eval_transforms())
        content, self.notes = tidy(load_coco(annotations, outlines=False))
        try:
            category_ids(content)  # whether it is in COCO's layout at all
            self._files = PhotoFiles(images, [i["file_name"] for i in content["images"] if not image_problem(i)])
            content["images"] = _with_sizes(content["images"], self._files)
            _check_orientations(content, self._files)
            check_records(content)
            self.notes += check_plausible(content)
        except ValueError as error:
            raise ValueError(f"{str(annotations)!r}: {error}") from None
        self.coco = index_coco(content)
        self.ids = sorted(self.coco.imgs)
        self.category_ids: list[int] = sorted(self.coco.cats)
        self.classes: list[str] = [self.coco.cats[category_id]["name"] for category_id in self.category_ids]
        self._label = {category_id: label for label, category_id in enumerate(self.category_ids)}

    def with_transforms(self, transforms: Callable) -> "CocoDataset":
        """The same images and annotations, not read again, with other transforms."""
        other = copy.copy(self)
        other.transforms = transforms
        return other

    def objects(self, image_id: int) -> list[dict]:
        """The annotations that become boxes of an image: no crowds, none without area."""
        return [a for a in self.coco.imgToAnns.get(image_id, []) if not a["iscrowd"] and min(a["bbox"][2:]) > 0]

    def photo(self, image_id: int) -> Path:
        """The file of an image, whatever exactly its record calls it; `ValueError` if it is not there."""
        info = self.coco.imgs[image_id]
        with _naming(info):
            return self._files.path(info["file_name"])

    def check_photos(self) -> None:
        """`ValueError` that names the first photo which is missing or has another size.

        Pixels are read of photos of 16 bits alone; how many of them are scaled by their own range goes into `notes`.
        """
        said = defaultdict(list)  # by what: photos and how it goes on
        for image_id, info in progress(self.coco.imgs.items(), "checking photos", len(self)):
            path = self.photo(image_id)
            with _naming(info):
                header = read_header(path)
                note = open_photo(path).note if header.deep else ""
            _check_size(info, header)
            if note:
                what, _, details = note.partition(":")
                said[what].append(f"{info['file_name']!r},{details}")
        counted = [f"{what}: {len(of)} of {len(self)} photos, such as {of[0]}" for what, of in said.items()]
        self.notes = [*self.notes, *counted]

    def _load_image(self, id: int) -> Image.Image:
        path, info = self.photo(id), self.coco.imgs[id]
        with _naming(info):
            photo = open_photo(path)
        if photo.size != image_size(info):
            _check_size(info, read_header(path))
        return photo.image

    def _load_target(self, id: int) -> dict:
        info, objects = self.coco.imgs[id], self.objects(id)
        xywh = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(info["height"], info["width"])),
            "labels": torch.tensor([self._label[a["category_id"]] for a in objects], dtype=torch.int64),
            "image_id": torch.tensor(id),
        }


@contextlib.contextmanager
def _naming(info: dict) -> Iterator[None]:
    """What is wrong with an image is said with its id and name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"image {info['id']}, {info['file_name']!r}, cannot be read: {error}") from None


def _check_size(info: dict, header: Header) -> None:
    problem = size_problem(image_size(info), header)
    if problem:
        raise ValueError(f"image {info['id']}, {info['file_name']!r}: {problem}")


def _with_sizes(images: list, files: PhotoFiles) -> list:
    """The records of the images with the sizes of their photos where the file does not give them."""
    filled = []
    for image in images:
        if not image_problem(image) and math.inf in image_size(image):
            with _naming(image):
                width, height = read_header(files.path(image["file_name"])).size
            image = {"width": width, "height": height, **image}
        filled.append(image)
    return filled


def _check_orientations(content: dict, files: PhotoFiles) -> None:
    """`ValueError` for boxes that stick out because their image is annotated in another orientation than its photo."""
    images = {image["id"]: image for image in content["images"] if not image_problem(image)}
    suspects = {}
    for found in content["annotations"]:
        try:
            (x, y, w, h), image = found["bbox"], images[found["image_id"]]
            if x + w > image["width"] + 1 or y + h > image["height"] + 1:
                suspects[image["id"]] = image
        except (KeyError, TypeError, ValueError):
            continue  # what else is wrong with it is for the checks to say
    for image in suspects.values():
        try:
            header = read_header(files.path(image["file_name"]))
        except ValueError:
            continue  # likewise: said when it is needed
        if header.size[::-1] == image_size(image):
            _check_size(image, header)


def coco_split(data: str | Path, split: str, transforms: Callable | None = None) -> CocoDataset:
    """One split of a COCO-layout folder: `data/annotations/instances_<split>.json` and `data/<split>/`."""
    return CocoDataset(Path(data) / split, annotation_file(data, split), transforms)


def annotation_file(data: str | Path, split: str) -> Path:
    """Where the annotations of a split are in a COCO-layout folder."""
    return Path(data) / "annotations" / f"instances_{split}.json"


def load_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON without looking at its records; `ValueError` if there is none or it is not valid JSON.

    Outlines, "segmentation", are most of a COCO file; boxes and areas are always kept.
    """
    name, collects = str(annotations), gc.isenabled()
    gc.disable()  # it would search the growing millions of records for garbage again and again, and find none
    try:
        text = Path(annotations).read_bytes()
        text = text.decode(json.detect_encoding(text))  # UTF-16 where it begins so, as PowerShell writes it
        return json.loads(text, object_hook=None if outlines else _without_outline)
    except FileNotFoundError:
        raise ValueError(f"no annotation file {name!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name!r} is not readable JSON: {error}") from None
    finally:
        if collects:
            gc.enable()


def _without_outline(record: dict) -> dict:
    outline = record.pop("segmentation", None)
    box = outline_box(outline) if outline and not record.get("bbox") else None
    return {**record, "bbox": box} if box else record


def read_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON as `load_coco`, `tidy`; `ValueError` says which record in which file cannot be used."""
    content, _ = tidy(load_coco(annotations, outlines=outlines))
    try:
        check_records(content)
        check_plausible(content)
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
    """Random horizontal flip, with that probability, and size, then floats in [0, 1].

    Args:
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


class SeededItems(Dataset):
    """A data set whose augmentation is a function of the seed, the epoch and the image alone.

    So a run gives the same images with any number of workers and processes, and after being resumed.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((epoch_seed(self.seed, self.epoch) * 10_000_019 + index) % 2**64)
            return self.dataset[index]


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for each epoch: what is random in it depends on nothing that came before."""
    return (1_000_003 * seed + epoch) % 2**64  # as long as a seed may be


def collate(samples: Sequence[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """A list of images and a list of targets, as torchvision's detectors take them."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def make_loader(dataset: Dataset, batches: int | Iterable[list[int]], workers: int = 0) -> DataLoader:
    """Batches of (image, target), each a list of images and a list of targets, loaded by so many processes.

    `batches` says how many images in the order of the data set, or the positions of those of each batch. Where there is
    a GPU they lie in page-locked memory, from which `to(device, non_blocking=True)` does not wait.
    """
    which = {"batch_size": batches} if isinstance(batches, int) else {"batch_sampler": batches}
    pin = torch.cuda.is_available()
    return DataLoader(dataset, collate_fn=collate, num_workers=workers, pin_memory=pin, **which)


def without_traceback(batches: Iterable) -> Iterator:
    """The batches; what a loading process says of an image that cannot be read comes as the one line it said.

    PyTorch puts the whole traceback of that process into the message.
    """
    try:
        yield from batches
    except ValueError as error:
        raise ValueError(str(error).splitlines()[-1].removeprefix("ValueError: ")) from None


# Images that show a single object: how COCO-Single is made from COCO.

Coco = dict[str, Any]
LOST = "unusable_annotations"  # key of an image: how many of its annotations were left out
SPLITS = ("train", "calibration", "test")

KEPT = "kept"
NO_OBJECT = "no annotation"
SEVERAL = "several annotations"
CROWD = "the only annotation is a crowd"
NO_AREA = "the only annotation has no area"
UNUSABLE = "an annotation was unusable"


def classify_images(coco: Coco) -> dict[int, str]:
    """For each image id, in the order of the file, ``KEPT`` or why not.

    Annotations of any kind count, crowds too: an image with an object and a crowd has two. An image whose only
    annotation is a crowd or has no area offers nothing to learn from. Nor does one that lost an annotation while it was
    prepared ("unusable_annotations"): it shows more than what is left.

    Raises:
        ValueError: a record cannot be used (see :func:`check_records`), or a file name occurs twice.
    """
    check_records(coco)
    if not coco["images"]:
        raise ValueError('"images" is empty; at least one image is needed')
    name, count = Counter(image["file_name"] for image in coco["images"]).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images have the file_name {name!r}; each image needs its own")
    annotations: dict[int, list[Coco]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    return {image["id"]: _verdict(annotations[image["id"]], image.get(LOST, 0)) for image in coco["images"]}


def keep_single_objects(coco: Coco) -> Coco:
    """The images of a COCO data set with exactly one annotation, of any kind; see `classify_images`, `take_images`."""
    return take_images(coco, {image_id for image_id, verdict in classify_images(coco).items() if verdict == KEPT})


def take_images(coco: Coco, ids: set[int]) -> Coco:
    """The images with these ids and their annotations, in the order of the file; all other keys as they were."""
    images = [image for image in coco["images"] if image["id"] in ids]
    return {**coco, "images": images, "annotations": [a for a in coco["annotations"] if a["image_id"] in ids]}


def _verdict(annotations: list[Coco], lost: int) -> str:
    if len(annotations) > 1:
        return SEVERAL
    if lost:
        return UNUSABLE
    if not annotations:
        return NO_OBJECT
    (annotation,) = annotations
    if annotation.get("iscrowd", 0):
        return CROWD
    # Not "area", which is that of an outline: a data set without outlines may leave it out or say 0.
    return KEPT if min(annotation["bbox"][2:]) > 0 else NO_AREA


def first_images(folder: str | Path, out: str | Path, limit: int) -> Path:
    """Copy the first `limit` images of each split into a COCO layout of their own, `out`, to try things out."""
    if limit < 1:
        raise ValueError(f"at least one image is needed, got the limit {limit}")
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{str(out)!r} is the data set that is read; give another folder")
    for split in SPLITS:
        content = read_coco(annotation_file(folder, split), outlines=False)
        content = take_images(content, set(sorted(image["id"] for image in content["images"])[:limit]))
        names = [image["file_name"] for image in content["images"]]
        files = PhotoFiles(folder / split, names)
        for name in names:
            if not stays_inside(name):
                raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
            (out / split / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / split / name, functools.partial(shutil.copyfile, files.path(name)))
        annotation_file(out, split).parent.mkdir(parents=True, exist_ok=True)
        write_json(annotation_file(out, split), content)
    return out
