"""Any COCO-layout folder as a data set of images and `targets`: reading its JSON, items, transforms, batches."""

import contextlib
import copy
import gc
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, VisionDataset
from torchvision.transforms import v2

from .annotations import category_ids, check_plausible, check_records, image_problem, image_size, outline_box, tidy
from .photos import Header, PhotoFiles, open_photo, read_header, size_problem
from .streams import progress


class CocoDataset(CocoDetection):
    """Images and targets from an instances JSON and the folder of its images.

    An item is `(image, target)`: image (3, H, W) float in [0, 1], RGB; target a dict of "boxes" (M, 4) xyxy in
    pixels, "labels" (M,) int64 counted from 0 in the order of category ids, and "image_id" (a 0-dim int64 tensor).
    Crowd annotations and boxes without area are left out. Sizes that the file does not give are read from the photos.

    Args:
        images: the image folder.
        annotations: the instances JSON.
        transforms: a transforms-v2 callable on (image, target); `eval_transforms()` unless told.

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

    def photo(self, image_id: int) -> Path:
        """The file of an image, whatever exactly its record calls it; `ValueError` if it is not there."""
        info = self.coco.imgs[image_id]
        with _naming(info):
            return self._files.path(info["file_name"])

    def check_photos(self) -> None:
        """`ValueError` that names the first photo which is missing or has another size.

        Pixels are read of photos of 16 bits alone; how many of them are scaled by their own range goes into `notes`.
        """
        said: dict[str, list[tuple[dict, str]]] = {}
        for image_id, info in progress(self.coco.imgs.items(), "checking photos", len(self)):
            path = self.photo(image_id)
            with _naming(info):
                header = read_header(path)
                note = open_photo(path).note if header.deep else ""
            _check_size(info, header)
            if note:
                said.setdefault(note.partition(":")[0], []).append((info, note))
        for what, found in said.items():
            info, note = found[0]
            counted = f"{what}: {len(found)} of {len(self)} photos, such as {info['file_name']!r}"
            self.notes = [*self.notes, f"{counted},{note.removeprefix(what + ':')}"]

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

    Args:
        annotations: the file.
        outlines: keep "segmentation", which is most of a COCO file; boxes and areas are always kept.
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
    """Batches of a data set, each a list of images and a list of targets.

    Where there is a GPU they lie in page-locked memory, from which `to(device, non_blocking=True)` does not wait.

    Args:
        dataset: its items are (image, target).
        batches: so many images in the order of the data set, or the positions of the images of each batch.
        workers: processes that load them.
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
