"""The command that trains a model of the study, and whether there is anything left to train."""

import csv
from dataclasses import asdict, fields
from pathlib import Path

from ..data.coco import coco_split
from ..resuming import check_resumable
from ..settings import TrainSettings

_NO_OPTION = {"data", "resume", "progress"}


def train_arguments(settings: TrainSettings) -> list[str]:
    """The command, as arguments of Python, that trains with these settings, or goes on with the run that is there."""
    defaults = {f.name: f.default for f in fields(TrainSettings)}
    command = ["-m", "earlyexit", "train", settings.data, "--resume"]
    for name, value in asdict(settings).items():
        option = "--" + name.rstrip("_").replace("_", "-")
        if name in _NO_OPTION or value == defaults[name]:
            continue
        if isinstance(value, bool):
            command.append(option if value else option.replace("--", "--no-", 1))
        else:
            command += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return command


def is_trained(settings: TrainSettings) -> bool:
    """Whether the run is there with all of its epochs, made with these settings on as many images."""
    run = Path(settings.out)
    if not all((run / name).exists() for name in ("checkpoint.pt", "log.csv", "model.safetensors", "settings.json")):
        return False
    with open(run / "log.csv", newline="") as file:
        if len(list(csv.DictReader(file))) < settings.epochs:
            return False
    try:
        check_resumable(
            TrainSettings(**{**asdict(settings), "resume": True}), run, len(coco_split(settings.data, "train"))
        )
    except ValueError:
        return False  # which the training then says itself
    return True
