"""What a detector says about every image at every exit: all that any policy of leaving could ask for."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..data.coco import CocoDataset
from ..files import write_whole
from ..model.backbone import EXITS, NUM_EXITS, Exit
from ..model.detector import POSTPROCESSING, EarlyExitRetinaNet
from ..model.exits import Rule, exit_confidence, exit_limits
from .cost import spent_at

FORMAT = 1
TRANSFORM = ("min_size", "max_size", "size_divisible", "image_mean", "image_std")


@dataclass(frozen=True)
class Detections:
    """Detections of all images at all exits, one after the other."""

    boxes: Tensor  #: (D, 4) float32, xyxy in pixels of the original images
    scores: Tensor  #: (D,) float32
    labels: Tensor  #: (D,) int64
    offsets: Tensor  #: (4 N + 1,) int64; those of image i at exit k are offsets[4 i + k - 1] up to the next offset

    @staticmethod
    def of(found: Sequence[dict]) -> "Detections":
        """From 4 N dicts of "boxes", "scores" and "labels": image by image, and of each its exits 1 to 4."""
        columns = {name: torch.cat([one[name] for one in found]) for name in ("boxes", "scores", "labels")}
        return Detections(**columns, offsets=offsets_of(torch.tensor([len(one["labels"]) for one in found])))


@dataclass(frozen=True)
class Truth:
    """Annotations of all images, one after the other and in the order of the annotation file."""

    boxes: Tensor  #: (M, 4) float64, xywh in pixels, as COCO has them
    areas: Tensor  #: (M,) float64, as annotated, which is that of the outline where there is one
    crowds: Tensor  #: (M,) bool
    labels: Tensor  #: (M,) int64
    offsets: Tensor  #: (N + 1,) int64; those of image i are offsets[i] up to offsets[i + 1]


NESTED = {"found": Detections, "truth": Truth}  # of records
# The dimension of the images in each tensor of records; older files lack the last three.
IMAGES = {"image_ids": 0, "logits": 1, "gmacs": 1, "looks": 1, "latents_1": 0, "latents_2": 0}


@dataclass(frozen=True, eq=False)
class ExitRecords:
    """N images at four exits under one filler."""

    image_ids: Tensor  #: (N,) int64
    logits: Tensor  #: (4, N, classes) float32, of the exits' classifiers
    gmacs: Tensor  #: (4, N) float64, multiply-adds of each image at its own padded size if it leaves at that exit
    found: Detections  #: at most 100 of an image at an exit
    truth: Truth  #: the annotations
    about: dict  #: what the records were made of, see `describe`
    looks: Tensor | None = None  #: (4, N) float64, of `gmacs` those of neck and head; like latents not in older files
    latents_1: Tensor | None = None  #: (N, D) float32, the mean latent at exit 1
    latents_2: Tensor | None = None  #: the same at exit 2, after which it stays as it is
    #: what was worked out from the records and is not worked out again, see `match_records`
    known: dict = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def classes(self) -> list[str]:
        """Names of the classes by label."""
        return self.about["classes"]

    @cached_property
    def confidence(self) -> Tensor:
        """(4, N) confidence of each image at each exit, see `exit_confidence`."""
        return exit_confidence(self.logits, self.about.get("settings", {}).get("exit_target", "single"))

    @cached_property
    def labels(self) -> Tensor:
        """(N,) class of the object, or -1 where an image has none or several; crowds and empty boxes do not count."""
        object_ = ~self.truth.crowds & (self.truth.boxes[:, 2:] > 0).all(1)
        image = owners_of(self.truth.offsets)[object_]
        single = torch.bincount(image, minlength=len(self)) == 1
        labels = torch.full((len(self),), -1).index_put((image,), self.truth.labels[object_])
        return torch.where(single, labels, -1)

    def all_at(self, exit: int) -> Tensor:
        """(N,) the choice that lets every image leave at one exit, 1 to 4."""
        return torch.full((len(self),), exit)

    def mean_gmacs(self, chosen: Tensor) -> float:
        """Mean multiply-adds of an image if image i leaves at exit chosen[i], 0 to 4."""
        return float(self.spent(chosen).mean())

    def spent(self, chosen: Tensor, rule: Rule | None = None, thresholds: Sequence[float] | None = None) -> Tensor:
        """(N,) multiply-adds if image i leaves at exit chosen[i] as a rule with these thresholds says, see `spent_at`.

        Without a rule nothing was looked at before an image left. `ValueError` if the records are too old to say what
        looking or skipping costs.
        """
        if self.looks is None and (getattr(rule, "needs", ()) or (chosen < 1).any()):
            raise ValueError("these records do not say what necks and heads cost: collect them again")
        looks = torch.zeros_like(self.gmacs) if self.looks is None else self.looks
        return spent_at(self.gmacs, looks, rule, exit_limits(thresholds, None)).gather(0, chosen[None])[0]

    def priced(self, costs: Sequence[float]) -> "ExitRecords":
        """The same images with other costs in the place of multiply-adds: means at exits 1 to 4, e.g. milliseconds."""
        if len(costs) != NUM_EXITS or not all(0 < cost < math.inf for cost in costs):
            raise ValueError(f"costs must be four finite numbers above 0, of exits 1 to 4, got {list(costs)}")
        scale = (torch.tensor(costs, dtype=self.gmacs.dtype) / self.gmacs.mean(1))[:, None]
        looks = None if self.looks is None else self.looks * scale
        return replace(self, gmacs=self.gmacs * scale, looks=looks)

    def exit(self, index: int, *, found: bool = False) -> Exit:
        """All N images at an exit, as a rule sees them while the model runs, without maps; of latents the mean alone.

        With `found` it has their detections, too.
        """
        detections = [self.detection(i, index) for i in range(len(self))] if found else None
        mean = self.latents_1 if index == 1 else self.latents_2
        latents = None if mean is None else mean[:, None]
        return Exit(index, tuple(self.logits[:index]), latents=latents, found=detections)

    def detection(self, image: int, exit: int) -> dict:
        """What `model([image], exit=exit)` gives for the image at position `image`."""
        if exit not in EXITS:
            raise ValueError(f"exit must be 1, 2, 3 or 4, got {exit!r}")
        if not 0 <= image < len(self):
            raise ValueError(f"image must be a position from 0 to {len(self) - 1}, got {image}")
        start, end = self.found.offsets[NUM_EXITS * image + exit - 1 :][:2].tolist()
        found = {name: getattr(self.found, name)[start:end] for name in ("boxes", "scores", "labels")}
        return {**found, "exit": exit, "confidence": float(self.confidence[exit - 1, image])}

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, which appears whole or not at all."""
        tensors = {name: value.contiguous() for name in IMAGES if (value := getattr(self, name)) is not None}
        for part, kind in NESTED.items():
            tensors |= {f"{part}.{f.name}": getattr(getattr(self, part), f.name).contiguous() for f in fields(kind)}
        metadata = {"about": json.dumps({"format": FORMAT, **self.about})}
        write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, path: str | Path) -> "ExitRecords":
        """Read what `save` wrote; `ValueError` if there is no such file or it holds something else."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("about", "{}"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
        except (OSError, SafetensorError, ValueError) as error:
            raise ValueError(f"{str(path)!r} cannot be read as records: {error}") from None
        if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
            raise ValueError(f"{str(path)!r} holds no exit records of format {FORMAT}")
        nested = {k: kind(**{f.name: tensors[f"{k}.{f.name}"] for f in fields(kind)}) for k, kind in NESTED.items()}
        flat = {name: tensors[name] for name in IMAGES if name in tensors}
        return cls(**flat, **nested, about=about)


def join_records(parts: list[ExitRecords]) -> ExitRecords:
    """The images of several records, which must be about the same model, data and filler, as one."""
    if not parts or any(part.about != parts[0].about for part in parts):
        raise ValueError(f"records to join must be at least one, all made of the same, got {len(parts)} others")
    joined = {}
    for name, dim in IMAGES.items():
        values = [getattr(part, name) for part in parts]
        joined[name] = None if any(value is None for value in values) else torch.cat(values, dim)
    for name, kind in NESTED.items():
        runs = [getattr(part, name) for part in parts]
        values = {f.name: torch.cat([getattr(run, f.name) for run in runs]) for f in fields(kind)}
        offsets = offsets_of(torch.cat([run.offsets.diff() for run in runs]))
        joined[name] = kind(**{**values, "offsets": offsets})
    return ExitRecords(**joined, about=parts[0].about)


def offsets_of(counts: Tensor) -> Tensor:
    """Where each of several runs of values begins and ends: (n,) counts give (n + 1,) int64 offsets."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.to(torch.int64).cumsum(0)])


def owners_of(offsets: Tensor) -> Tensor:
    """Which run each value belongs to: (n + 1,) offsets give for each value a number from 0 to n - 1."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())


def at_exits(values: Tensor, chosen: Tensor) -> Tensor:
    """(N,) of values (4, N) those at the exits (N,), 1 to 4, at which the images leave."""
    return values.gather(0, chosen[None] - 1)[0]


def describe(model: EarlyExitRetinaNet, dataset: CocoDataset, filler: str | None) -> dict:
    """Everything that decides what records of `model` on `dataset` hold, in plain values.

    Returns:
        "weights" (a hash of the model's state dict), "settings" (of resizing and post-processing), "filler" (None for
        a neck that has none), "data" (a hash of the annotations and of names and sizes of the image files),
        "classes" and "category_ids".
    """
    settings = {name: getattr(model, name) for name in POSTPROCESSING}
    settings |= {name: getattr(model.transform, name) for name in TRANSFORM}
    if model.exit_target != "single":
        settings["exit_target"] = model.exit_target
    if model.backbone.first_read != "published":
        settings["first_read"] = model.backbone.first_read
    if any(tuple(scale) != (1.0, 0.0) for scale in model.score_scales):
        settings["score_scales"] = model.score_scales
    about = {
        "weights": hash_weights(model),
        "settings": settings,
        "filler": filler,
        "data": hash_data(dataset),
        "classes": dataset.classes,
        "category_ids": dataset.category_ids,
    }
    return json.loads(json.dumps(about))  # tuples become lists, as they will be when read back


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256, shortened to 16 digits, of names, types and values of all weights and statistics."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name.startswith("rule."):  # decides who leaves, which records leave open
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def hash_data(dataset: CocoDataset) -> str:
    """SHA-256, shortened to 16 digits, of the annotations and of the names and sizes in bytes of the photos."""
    digest = hashlib.sha256()
    for image_id in dataset.ids:
        try:
            path = dataset.photo(image_id)
            size = path.stat().st_size
        except (OSError, ValueError):  # a missing photo is reported when it is read
            path, size = Path(dataset.coco.imgs[image_id]["file_name"]), -1
        found = dataset.coco.imgToAnns.get(image_id, [])
        boxes = [[a["category_id"], a["bbox"], a["area"], a["iscrowd"]] for a in found]
        digest.update(json.dumps([image_id, path.name, size, boxes]).encode())
    return digest.hexdigest()[:16]
