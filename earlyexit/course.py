"""What every chapter starts with: a device, a data set and a model, behind one switch."""

from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import unescape

import torch

from .data.coco import CocoDataset, coco_split
from .data.scenes import scene_dataset
from .model.detector import EarlyExitRetinaNet
from .model.factories import load_detector, make_model, read_config


@dataclass(frozen=True)
class Course:
    """Where and on what a chapter works."""

    device: torch.device  # "cuda" if there is one
    dataset: CocoDataset  # single-object images with their targets, for results
    calibration: CocoDataset  # other such images, for thresholds
    model: EarlyExitRetinaNet  # in eval mode and on the device
    classes: list[str]  # by label
    image_size: tuple[int, int]  # height and width of a typical image inside the network

    def __str__(self) -> str:
        return f"{len(self.dataset)} images, {len(self.classes)} classes, on {self.device}"


def start(
    data: str | Path | None = None,
    *,
    split: str = "test",
    calibration_split: str = "calibration",
    weights: str | Path | None = None,
    count: int = 600,
    shipped: str = "scenes",
) -> Course:
    """Set a chapter up: on the embedded scenes with the trained nano model, or on real data with the paper's model.

    Args:
        data: None for the scenes; a COCO-layout folder of single-object images for real data at full size.
        split, calibration_split: the splits of that folder for results and for thresholds.
        weights: a detector trained on that data; without one the full-size model has random weights.
        count: scenes that are drawn for each split, about 60 % of which have exactly one object; of real data, the
            first so many images of each split are used.
        shipped: the weights of the package for the scenes; "scenes-early" has a neck and heads that know their exit.
    """
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if data is None:
        dataset, calibration = (scene_dataset(name, count) for name in ("test", "calibration"))
        model, size = load_detector(shipped)[0], (128, 128)
    else:
        dataset, calibration = (_first(coco_split(data, name), count) for name in (split, calibration_split))
        model, size = _full_size(dataset.classes, weights, shipped), (800, 1216)
    return Course(device, dataset, calibration, model.to(device).eval(), dataset.classes, size)


@dataclass(frozen=True, repr=False)
class Picture:
    """A drawn figure of the chapters: a notebook shows `svg`, and whoever cannot show it prints what is described."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return unescape(self.svg.partition("<desc>")[2].partition("</desc>")[0])


def picture(name: str) -> Picture:
    """A figure by its name. It lies in the package, since a notebook on Colab has no files beside it."""
    return Picture(Path(__file__).with_name("pictures").joinpath(f"{name}.svg").read_text(encoding="utf-8"))


def _first(dataset: CocoDataset, count: int) -> CocoDataset:
    dataset.ids = dataset.ids[:count]
    return dataset


def _full_size(classes: list[str], weights: str | Path | None, shipped: str) -> EarlyExitRetinaNet:
    if weights:
        return load_detector(weights)[0]
    of_scenes = {"widths": None, "min_size": None, "max_size": None, "score_scales": None}  # these stay behind
    return make_model(replace(read_config(shipped), model="regnet_y_800mf", classes=classes, **of_scenes))
