"""A run's weights in half precision, with a card: what `earlyexit export` writes."""

from pathlib import Path

import torch

from ..data.coco import CocoDataset, coco_split
from ..evaluation.coco import checked, exit_accuracy, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.scores import evaluate_exits
from ..files import provenance, write_json
from ..model.factories import ExitClassifier, count_parameters, load_backbone, load_detector, make_classifier
from ..weights import load_weights, parse_card, save_weights

# Of a run's story, stored with the weights.
ABOUT = ("task", "model", "classes", "filler", "opinions", "exit_target", "min_size", "max_size")


def export(
    run: Path, name: Path, data: Path | None, split: str, *, about: dict | None = None, metrics: dict | None = None
) -> dict:
    """Write `name` (half precision) and its card `name.json`; metrics are those of the file as written on `data`.

    `about` is stored with the weights, too; `metrics` of the run before rounding may stand in for `data`.
    """
    file, card_file = export_paths(run, name)
    story = parse_card((run / "settings.json").read_text(), run / "settings.json")
    more = about or {}
    about = {key: story[key] for key in ABOUT if key in story}
    if "task" not in about:
        raise ValueError(f"{str(run / 'settings.json')!r} is not of `earlyexit train`: it has {sorted(story)}")
    dataset = checked(coco_split(data, split), about["classes"]) if data else None
    if about["task"] == "detect":
        model = load_detector(run / "model.safetensors")[0]
    else:
        model = _classifier(about)
        load_weights(model, run / "model.safetensors")
    save_weights(model, file, half=True, about={**about, **more})
    card = {**story, **more, "parameters": count_parameters(model), "exported": provenance()}
    if metrics:
        card["metrics"] = metrics
    if dataset:
        card["metrics"] = {"data": str(data), "split": split, **_metrics(file, dataset, about)}
    write_json(card_file, card)
    return card


def export_paths(run: Path, name: Path) -> tuple[Path, Path]:
    """The file of the weights and its card for `name`, with or without .safetensors.

    Raises:
        ValueError: if there is nothing to export, or they would take the place of something that is no export.
    """
    if not (run / "settings.json").exists() or not (run / "model.safetensors").exists():
        raise ValueError(f"{str(run)!r} holds no finished epoch of `earlyexit train`")
    stem = name.name.removesuffix(".safetensors")
    if not stem or stem.endswith(".json"):
        raise ValueError(f"--name must be a name or a .safetensors file, got {str(name)!r}")
    file, card = (name.with_name(stem + suffix) for suffix in (".safetensors", ".json"))
    if run.resolve() in file.resolve().parents:
        raise ValueError(f"--name must lie outside the run {str(run)!r}, whose files are its own, got {str(name)!r}")
    if file.is_dir() or card.is_dir() or (card.exists() and not file.exists()):
        raise ValueError(f"--name {name}: there is {str(file if file.is_dir() else card)!r}, which is no export")
    return file, card


def _metrics(file: Path, dataset: CocoDataset, about: dict) -> dict:
    if about["task"] == "detect":
        model = load_detector(file)[0]
        records = collect_records(model, dataset)
        by_exit = {k: evaluate_exits(records, torch.full((len(dataset),), k)) for k in (1, 2, 3, 4)}
        metrics = {"forced_exit": {k: {m: r[m] for m in ("mAP", "AP50", "gmacs")} for k, r in by_exit.items()}}
    else:
        model, metrics = _classifier(about), {}
        load_backbone(model.backbone, file)
    if is_single_object(dataset):
        metrics["accuracy"] = exit_accuracy(model, dataset)
    return {"images": len(dataset), **metrics}


def _classifier(about: dict) -> ExitClassifier:
    sizes = {key: about[key] for key in ("min_size", "max_size") if key in about}
    return make_classifier(about["model"], len(about["classes"]), **sizes)
