"""What the commands calibrate and evaluate do, without any printing, and what commands share."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from . import evaluation
from .data.coco import CocoDataset, coco_split
from .files import write_whole
from .models import load_detector
from .processes import process_state
from .thresholds import calibrate_thresholds, exit_proportions


def evaluate(data: Path, split: str, weights: str, thresholds, exit, batch_size: int, device: torch.device) -> dict:
    """COCO metrics, GMACs, exits and, if every image has one object, the accuracy of the exits."""
    model, classes = load_detector(weights)
    dataset = checked(coco_split(data, split), classes)
    model.to(device)
    result = evaluation.evaluate(model, dataset, thresholds=thresholds, exit=exit, batch_size=batch_size)
    if evaluation.is_single_object(dataset):
        result["accuracy"] = evaluation.exit_accuracy(model, dataset, batch_size=batch_size)
    return result


def calibrate(data: Path, split: str, weights: str, index: int, device: torch.device) -> tuple[float, float, float]:
    """Thresholds for row `index` of the paper's settings, from a calibration split."""
    model, classes = load_detector(weights)
    dataset = checked(coco_split(data, split), classes)
    confidences = evaluation.exit_confidences(model.to(device), dataset)
    return calibrate_thresholds(confidences, exit_proportions()[index - 1])


def as_table(result: dict) -> str:
    """A result of `evaluate` as lines of a name and a value."""
    rows = {name: _or_dash(result[name]) for name in evaluation.METRICS}
    rows["GMACs per image"] = f"{result['gmacs']:.4f} ({result['gmacs'] / result['gmacs_full']:.1%} of full depth)"
    rows["images per exit"] = ", ".join(f"{k}: {n}" for k, n in result["exits"].items())
    if "accuracy" in result:
        rows["accuracy per exit"] = ", ".join(f"{k}: {a:.1f}" for k, a in enumerate(result["accuracy"], 1))
    return "\n".join(f"{name:18} {value}" for name, value in rows.items())


def as_line(row: dict[str, float]) -> str:
    """A row of the log as one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items())


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def as_options(values: dict) -> str:
    """Settings as the options of `earlyexit train` that give them."""
    parts = []
    for name, value in values.items():
        option = "--" + name.rstrip("_").replace("_", "-")
        if value is True or value is False:
            parts.append(option if value else option.replace("--", "--no-", 1))
        else:
            parts.append(f"{option} {value}")
    return " ".join(parts)


def numbers(text: str, kind: Callable, option: str) -> list:
    """The comma-separated numbers of an option."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, got {text!r}") from None


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is cuda if there is one, and each of several processes has its own."""
    if name == "auto" and process_state().num_processes > 1:
        return process_state().device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu, cuda or auto, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here")
    return device


def write_json(path: Path, value: dict) -> None:
    """Write JSON to a file that appears whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))


def checked(dataset: CocoDataset, classes: list[str]) -> CocoDataset:
    """The data set; `ValueError` if it has no images, or other classes than the weights."""
    if not len(dataset):
        raise ValueError(f"there are no images in {dataset.root!r}: its annotation file lists none")
    if dataset.classes != classes:
        raise ValueError(f"the data has the classes {dataset.classes}, the weights know {classes}")
    return dataset
