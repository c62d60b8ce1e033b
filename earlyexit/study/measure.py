"""All numbers of one trained model, from one pass over the test images, into one JSON file.

    python -m earlyexit.study.measure RUN GROUP OUT [REPEATS]

is what the study starts for each model; it may be stopped at any point and started again.
"""

import csv
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from ..commands import pick_device
from ..data.coco import CocoDataset, coco_split
from ..evaluation import exit_confidences, is_single_object
from ..models import load_detector
from ..provenance import provenance
from ..records import collect_records, match_records, threshold_exits
from ..settings import TrainSettings
from ..weights.card import refuse_removed
from .curves import accuracy_rows, forced_rows, random_rows, sweep_rows
from .difficulty import SETTING, difficulty_numbers
from .plan import Training
from .results import describe_data, model_path, write_model

REPEATS = 100  # bootstrap samples: 34 settings of two fillers take a minute
LEAST = 3  # test images: one for each third


def measure(training: Training, out: str | Path, repeats: int = REPEATS) -> Path:
    """Measure a model that has been trained, and write its results.

    Args:
        training: where its run lies and which group it belongs to; grids are measured under their own filler, without
            random exits and difficulty.
        out: the folder of results.
        repeats: bootstrap samples over the test images.

    Returns:
        The file that was written.

    Raises:
        ValueError: if an image has no object or several, or there are fewer than three test images.
    """
    settings = training.settings
    run = Path(settings.out)
    started = time.perf_counter()
    test, calibration = checked_split(settings.data, "test"), checked_split(settings.data, "calibration")
    model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
    confidence = exit_confidences(model, calibration)
    records = collect_records(model, test, fillers=training.fillers, path=run / "records.safetensors")
    collected = time.perf_counter()
    for of_filler in records.values():
        match_records(of_filler)
    own = records[settings.filler]
    numbers = {name: _of_filler(of_filler, confidence, repeats) for name, of_filler in records.items()}
    numbers_of_own = numbers[settings.filler]["sweep"]
    result = {"fillers": numbers, "accuracy": accuracy_rows(own, repeats)}
    if training.group != "grid":
        numbers[settings.filler]["random"] = random_rows(own, numbers_of_own, repeats)
        thresholds = [float("inf") if t is None else t for t in numbers_of_own[SETTING - 1]["thresholds"]]
        chosen = threshold_exits(own.confidence, thresholds)
        result["difficulty"] = difficulty_numbers(own, test, chosen, repeats)
    seconds = {"training": _training_seconds(run), "images": collected - started}
    seconds["numbers"] = time.perf_counter() - collected
    about = {"repeats": repeats, "classes": test.classes, "seconds": {k: round(v, 1) for k, v in seconds.items()}}
    path = model_path(out, training.name)
    write_model(path, {**_story(training), **about, **provenance(), **result})
    return path


def _story(training: Training) -> dict:
    settings = training.settings
    story = json.loads((Path(settings.out) / "settings.json").read_text(encoding="utf-8"))
    about = {"name": training.name, "group": training.group, "filler": settings.filler}
    return {**about, "settings": story["settings"], "data": describe_data(settings.data)}


def checked_split(folder: str | Path, split: str) -> CocoDataset:
    """A split for the study; `ValueError` unless each image has exactly one object and there are enough of them."""
    dataset = coco_split(folder, split)
    least = LEAST if split == "test" else 1
    if len(dataset) < least:
        raise ValueError(f"the study needs at least {least} images in {split!r}, {str(folder)!r} has {len(dataset)}")
    if not is_single_object(dataset):
        raise ValueError(
            f"the study needs images with exactly one object, {split!r} of {str(folder)!r} has others: "
            "data_prep/single_object.py leaves them out"
        )
    return dataset


def _of_filler(records, confidence, repeats: int) -> dict:
    return {"sweep": sweep_rows(records, confidence, repeats), "forced": forced_rows(records, repeats)}


def _training_seconds(run: Path) -> float:
    with open(run / "log.csv", newline="") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def training_of(run: str | Path, group: str) -> Training:
    """The training whose run lies in a folder, from its own story."""
    story = json.loads((Path(run) / "settings.json").read_text())["settings"]
    refuse_removed(story, run)
    known = {f.name for f in fields(TrainSettings)}
    settings = {name: value for name, value in story.items() if name in known}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    settings["out"] = str(run)
    return Training(Path(run).name, group, TrainSettings(**settings))


def main(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    group: Annotated[str, typer.Argument(help="baseline, proposed, grid or fair.")],
    out: Annotated[Path, typer.Argument(help="The folder of results.")],
    repeats: Annotated[int, typer.Argument(help="Bootstrap samples.")] = REPEATS,
) -> None:
    """Measure one model."""
    try:
        typer.echo(f"wrote {measure(training_of(run, group), out, repeats)}")
    except (ValueError, OSError) as error:
        typer.echo(f"earlyexit: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
