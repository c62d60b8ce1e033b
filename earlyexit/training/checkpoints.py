"""A run's files: what each epoch leaves (log, weights, what resuming needs), and the half-precision file with its card.

`earlyexit export` writes the latter.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import nn

from ..data.coco import CocoDataset, coco_split
from ..evaluation.coco import checked, exit_accuracy, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.scores import evaluate_exits
from ..files import provenance, write_json, write_table, write_whole
from ..model.backbone import EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.factories import ExitClassifier, count_parameters, load_model, read_config
from ..weights import parse_card, save_weights


def save_checkpoint(
    out: Path, parts: dict, rows: Sequence[dict], model: nn.Module, about: dict | None, pending: dict | None = None
) -> None:
    """Write the log, the weights and, last, the checkpoint that makes the epoch count as done.

    Args:
        parts: what has a state to be restored, by name; None for what a run does not have.
        model, about: go into `model.safetensors`, see `save_weights`.
        pending: the row of an epoch whose steps are done, but not yet what comes after them: it is not in the log.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the checkpoint before is then untouched.
    """
    state = {name: part.state_dict() for name, part in parts.items() if part is not None}
    state |= {"rows": list(rows), "pending": pending}
    try:
        if rows:
            write_table(out / "log.csv", rows)
        save_weights(model, out / "model.safetensors", about=about)
        write_whole(out / "checkpoint.pt", lambda path: torch.save(state, path))
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
        epoch = len(rows) + (pending is not None)
        raise OSError(
            f"epoch {epoch} cannot be written to {str(out)!r} ({error}); what was there before is whole: make room "
            "and go on with --resume"
        ) from error


def load_checkpoint(path: Path, parts: dict) -> tuple[list[dict[str, float]], dict[str, float] | None]:
    """Restore `parts` from a checkpoint; gives its rows and the pending one, see `save_checkpoint`.

    No rows if there is no file.

    Raises:
        ValueError: if the file is not a whole checkpoint, or that of another run.
    """
    if not path.exists():
        return [], None
    if not zipfile.is_zipfile(path):  # which is what torch.save writes, with the list of its content at the end
        raise ValueError(f"{str(path)!r} is no checkpoint or only a part of one: remove it to start again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        if not isinstance(state["rows"], list):
            raise TypeError(f"its rows must be a list, got {state['rows']!r}")
        return state["rows"], state.get("pending")  # which older runs do not have
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0][:200]
        raise ValueError(f"{str(path)!r} is not a checkpoint of this run ({type(error).__name__}: {what})") from error


def remove_half_written(out: Path) -> None:
    """Remove what a run that was killed while it wrote has left in its folder."""
    for path in [*out.glob(".*.tmp"), *out.glob("*/.*.tmp")]:
        path.unlink(missing_ok=True)


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
