"""A run's weights in half precision, with a card: what `earlyexit export` writes."""

from pathlib import Path

from ..data.coco import CocoDataset, coco_split
from ..evaluation.coco import checked, exit_accuracy, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.scores import evaluate_exits
from ..files import provenance, write_json
from ..model.backbone import EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.factories import ExitClassifier, count_parameters, load_model, read_config
from ..weights import parse_card, save_weights


def export(
    run: Path, name: Path, data: Path | None, split: str, *, about: dict | None = None, metrics: dict | None = None
) -> dict:
    """Write `name` (half precision) and its card `name.json`; metrics are those of the file as written on `data`.

    `about` is stored with the weights, too; `metrics` of the run before rounding may stand in for `data`.
    """
    file, card_file = export_paths(run, name)
    story = parse_card((run / "settings.json").read_text(), run / "settings.json")
    if "task" not in story:
        raise ValueError(f"{str(run / 'settings.json')!r} is not of `earlyexit train`: it has {sorted(story)}")
    config, more = read_config(run / "model.safetensors"), about or {}
    dataset = checked(coco_split(data, split), config.classes) if data else None
    model = load_model(run / "model.safetensors")
    save_weights(model, file, half=True, about={**config.card(), **more})
    card = {**story, **config.card(), **more, "parameters": count_parameters(model), "exported": provenance()}
    if metrics:
        card["metrics"] = metrics
    if dataset:
        card["metrics"] = {"data": str(data), "split": split, **_metrics(load_model(file), dataset)}
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


def _metrics(model: EarlyExitRetinaNet | ExitClassifier, dataset: CocoDataset) -> dict:
    metrics = {}
    if isinstance(model, EarlyExitRetinaNet):
        records = collect_records(model, dataset, progress=True)
        by_exit = {k: evaluate_exits(records, records.all_at(k)) for k in EXITS}
        metrics = {"forced_exit": {k: {m: r[m] for m in ("mAP", "AP50", "gmacs")} for k, r in by_exit.items()}}
    if is_single_object(dataset):
        metrics["accuracy"] = exit_accuracy(model, dataset, progress=True)
    return {"images": len(dataset), **metrics}
