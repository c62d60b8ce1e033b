"""What the commands calibrate, evaluate and export do, without any printing."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from . import evaluation
from .classifier import ExitClassifier
from .data.coco import coco_split
from .files import write_whole
from .models import count_parameters, load_backbone, load_detector, make_classifier
from .processes import process_state
from .provenance import provenance
from .thresholds import calibrate_thresholds, exit_proportions
from .weights import load_weights, save_weights

# Of a run's story, stored with the weights.
ABOUT = ("task", "model", "classes", "filler", "opinions", "exit_target", "min_size", "max_size")


def evaluate(data: Path, split: str, weights: str, thresholds, exit, batch_size: int, device: torch.device) -> dict:
    """COCO metrics, GMACs, exits and, if every image has one object, the accuracy of the exits."""
    model, classes = load_detector(weights)
    dataset = _checked(coco_split(data, split), classes)
    model.to(device)
    result = evaluation.evaluate(model, dataset, thresholds=thresholds, exit=exit, batch_size=batch_size)
    if evaluation.is_single_object(dataset):
        result["accuracy"] = evaluation.exit_accuracy(model, dataset, batch_size=batch_size)
    return result


def calibrate(data: Path, split: str, weights: str, index: int, device: torch.device) -> tuple[float, float, float]:
    """Thresholds for row `index` of the paper's settings, from a calibration split."""
    model, classes = load_detector(weights)
    dataset = _checked(coco_split(data, split), classes)
    confidences = evaluation.exit_confidences(model.to(device), dataset)
    return calibrate_thresholds(confidences, exit_proportions()[index - 1])


def export(
    run: Path, name: Path, data: Path | None, split: str, *, about: dict | None = None, metrics: dict | None = None
) -> dict:
    """Write `name` (half precision) and its card `name.json`; metrics are those of the file as written on `data`.

    `about` is stored with the weights, too; `metrics` of the run before rounding may stand in for `data`.
    """
    if not (run / "settings.json").exists() or not (run / "model.safetensors").exists():
        raise ValueError(f"{str(run)!r} holds no finished epoch of `earlyexit train`")
    story = json.loads((run / "settings.json").read_text())
    more = about or {}
    about = {key: story[key] for key in ABOUT if key in story}
    if about["task"] == "detect":
        model = load_detector(run / "model.safetensors")[0]
    else:
        model = _classifier(about)
        load_weights(model, run / "model.safetensors")
    name = name.with_suffix(".safetensors")
    save_weights(model, name, half=True, about={**about, **more})
    card = {**story, **more, "parameters": count_parameters(model), "exported": provenance()}
    if metrics:
        card["metrics"] = metrics
    if data:
        card["metrics"] = {"data": str(data), "split": split, **_metrics(name, data, split, about)}
    write_json(name.with_suffix(".json"), card)
    return card


def _metrics(name: Path, data: Path, split: str, about: dict) -> dict:
    dataset = coco_split(data, split)
    if about["task"] == "detect":
        model = load_detector(name)[0]
        by_exit = {k: evaluation.evaluate(model, dataset, exit=k, batch_size=32) for k in (1, 2, 3, 4)}
        metrics = {"forced_exit": {k: {m: r[m] for m in ("mAP", "AP50", "gmacs")} for k, r in by_exit.items()}}
    else:
        model, metrics = _classifier(about), {}
        load_backbone(model.backbone, name)
    if evaluation.is_single_object(dataset):
        metrics["accuracy"] = evaluation.exit_accuracy(model, dataset)
    return {"images": len(dataset), **metrics}


def _classifier(about: dict) -> ExitClassifier:
    sizes = {key: about[key] for key in ("min_size", "max_size") if key in about}
    return make_classifier(about["model"], len(about["classes"]), **sizes)


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
        raise ValueError(f"--device must be cpu, cuda or auto, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: there is no CUDA device here")
    return device


def write_json(path: Path, value: dict) -> None:
    """Write JSON to a file that appears whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))


def _checked(dataset, classes: list[str]):
    if not len(dataset):
        raise ValueError(f"there are no images in {dataset.root!r}: its annotation file lists none")
    if dataset.classes != classes:
        raise ValueError(f"the data has the classes {dataset.classes}, the weights know {classes}")
    return dataset
