"""All numbers of one trained model, from one pass over the images, into one JSON file.

    python -m earlyexit.study.measure RUN GROUP OUT [REPEATS]

is what the study starts for each model; it may be stopped at any point and started again. Whatever is chosen,
thresholds, router and the scales of scores, is chosen on the calibration split; numbers are of the test split.
Ablations are there to choose a recipe by, so they are measured on the calibration split.
"""

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..data.coco import CocoDataset, coco_split
from ..evaluation.budgets import thresholds_for_budget
from ..evaluation.coco import METRICS, exit_confidences, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.cost import count_macs
from ..evaluation.matching import match_records
from ..evaluation.policies import fit_router, rule_scores, threshold_exits
from ..evaluation.records import ExitRecords
from ..evaluation.scores import evaluate_exits, evaluate_records, fit_score_scales, rescale_records, skip_empty
from ..files import provenance
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import RULES, make_rule
from ..model.factories import load_detector
from ..model.inputs import network_size
from ..processes import pick_device
from .findings import (
    ALL_EXITS,
    SETTING,
    accuracy_rows,
    difficulty_numbers,
    forced_rows,
    random_rows,
    rule_score,
    sweep_rows,
)
from .finished import describe_data, model_path, write_model
from .plan import BEYOND, GROUPS, Training, training_of

REPEATS = 100  # bootstrap samples: 34 settings of two fillers take a minute
LEAST = 3  # test images: one for each third
BUDGETS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.62, 0.75, 0.9)
EMPTY = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # probabilities from which on an image is taken for empty


def measure(training: Training, out: str | Path, repeats: int = REPEATS) -> Path:
    """Measure a model that has been trained, and write its results.

    Args:
        training: where its run lies and which group it belongs to. Grids are measured under their own filler, without
            random exits and difficulty; "joint" and "ablation" at each exit; "early" and "many" with thresholds for
            budgets, too, "early" under all rules of leaving, "many" with images skipped that are taken for empty.
        out: the folder of results.
        repeats: bootstrap samples over the test images.

    Returns:
        The file that was written.

    Raises:
        ValueError: for an unknown group; in the paper's groups, if an image has no object or several, or there are
            fewer than three test images.
    """
    if training.group not in (*GROUPS, *BEYOND):
        raise ValueError(f"the group must be one of {', '.join((*GROUPS, *BEYOND))}, got {training.group!r}")
    run = Path(training.settings.out)
    find = _of_the_paper if training.group in GROUPS else _beyond
    model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
    result = find(training, model, repeats)
    story = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    about = {"name": training.name, "group": training.group, "settings": story["settings"]}
    path = model_path(out, training.name)
    write_model(path, {**about, "data": describe_data(training.settings.data), **provenance(), **result})
    return path


def _of_the_paper(training: Training, model: EarlyExitRetinaNet, repeats: int) -> dict:
    settings, run, started = training.settings, Path(training.settings.out), time.perf_counter()
    test, calibration = checked_split(settings.data, "test"), checked_split(settings.data, "calibration")
    confidence = exit_confidences(model, calibration)
    records = collect_records(model, test, fillers=training.fillers, path=run / "records.safetensors")
    collected = time.perf_counter()
    for of_filler in records.values():
        match_records(of_filler)
    own, numbers = records[settings.filler], {}
    for name, of_filler in records.items():
        numbers[name] = {"sweep": sweep_rows(of_filler, confidence, repeats), "forced": forced_rows(of_filler, repeats)}
    result = {"fillers": numbers, "accuracy": accuracy_rows(own, repeats)}
    if training.group != "grid":
        swept = numbers[settings.filler]["sweep"]
        numbers[settings.filler]["random"] = random_rows(own, swept, repeats)
        chosen = threshold_exits(own.confidence, _limits(swept[SETTING - 1]))
        result["difficulty"] = difficulty_numbers(own, test, chosen, repeats)
    with open(run / "log.csv", newline="") as file:
        trained = sum(float(row["seconds"]) for row in csv.DictReader(file))
    seconds = {"training": trained, "images": collected - started, "numbers": time.perf_counter() - collected}
    about = {"filler": settings.filler, "repeats": repeats, "classes": test.classes}
    return {**about, "seconds": {name: round(value, 1) for name, value in seconds.items()}, **result}


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


def _beyond(training: Training, model: EarlyExitRetinaNet, repeats: int) -> dict:
    settings, run, started = training.settings, Path(training.settings.out), time.perf_counter()
    split = "calibration" if training.group == "ablation" else "test"

    def recorded(split: str) -> ExitRecords:
        return collect_records(model, coco_split(settings.data, split), path=run / f"records-{split}.safetensors")

    records = recorded(split)
    result: dict = {"split": split, "forced": forced(records)}
    if training.group in ("early", "many"):
        calibration = recorded("calibration")
        scales = fit_score_scales(calibration)
        result |= {"score_scales": scales, "budgets_unscaled": budgets(records, calibration, repeats=2)}
        records, calibration = (rescale_records(r, scales) for r in (records, calibration))
        result["budgets"] = budgets(records, calibration, repeats)
    if training.group == "early":
        result["rules"] = rules(records, calibration)
    if training.group == "many":
        size = network_size(model, coco_split(settings.data, "test")[0][0])
        result["empty"] = skip_empty(records, records.all_at(4), EMPTY, count_macs(model, size)[1]["backbone"])
    return {"seconds": round(time.perf_counter() - started, 1), **result}


def forced(records: ExitRecords) -> list[dict]:
    """COCO's metrics and GMACs with all images at one exit, for each exit."""
    return [{"exit": exit, **evaluate_exits(records, records.all_at(exit))} for exit in ALL_EXITS]


def budgets(test: ExitRecords, calibration: ExitRecords, repeats: int) -> list[dict]:
    """The best thresholds of the exits' confidence for each budget that can be kept, and what they reach.

    `repeats` are bootstrap samples for the bound on the loss.
    """
    full = float(calibration.gmacs[-1].mean())
    most = evaluate_exits(test, test.all_at(4), metrics=("mAP",))["mAP"]
    rows = []
    for share in BUDGETS:
        if share * full < float(calibration.gmacs.amin(0).mean()):
            continue
        found = thresholds_for_budget(calibration, gmacs=share * full, repeats=repeats)
        reached = evaluate_records(test, found.thresholds)
        row = {"budget": share, "thresholds": found.thresholds, "loss_at_most": found.loss_at_most}
        row |= {"share": reached["gmacs"] / reached["gmacs_full"], "kept": reached["mAP"] / most}
        rows.append({**row, **{name: reached[name] for name in (*METRICS, "gmacs", "exits", "accuracy")}})
    return rows


def rules(test: ExitRecords, calibration: ExitRecords) -> dict[str, dict]:
    """The score of each rule of leaving and of a router, see `rule_score`."""
    every = {name: fit_router(calibration) if name == "router" else make_rule(name) for name in RULES}
    scores = {name: [rule_scores(records, rule) for records in (test, calibration)] for name, rule in every.items()}
    return {name: rule_score(test, here, calibration, there) for name, (here, there) in scores.items()}


def fresh_rows(
    results: Sequence[dict], runs: str | Path, folder: str | Path, say: Callable[[str], object] = print
) -> list[dict]:
    """The whole recipe on images that nobody has looked at: no choice of the recipe can have been made by them.

    Thresholds and scales of scores are those that `measure` found on the calibration split.

    Args:
        results: of `measure`, group "early".
        runs: the folder of the models' runs.
        folder: images with one object each, in COCO layout; their split "test" is taken.
        say: gets a line for each model.

    Returns:
        Rows of "model", "policy" ("exit 1" to "exit 4", "budget 0.62", ...), "mAP", "kept", "share" and "images".
    """
    rows = []
    for result in results:
        run = Path(runs) / result["name"]
        say(f"{result['name']}: fresh images ...")
        model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
        records = collect_records(model, coco_split(folder, "test"), path=run / "records-fresh.safetensors")
        rows += [{"model": result["name"], **row} for row in policy_rows(records, result)]
    return rows


def policy_rows(records: ExitRecords, result: dict) -> list[dict]:
    """What the exits and the budgets of a model's results reach on other records, see `fresh_rows`."""
    found = {f"exit {row['exit']}": row for row in forced(records)}
    comparable = rescale_records(records, result["score_scales"])
    for row in result["budgets"]:
        found[f"budget {row['budget']:.2f}"] = evaluate_records(comparable, _limits(row), metrics=("mAP",))
    full = found["exit 4"]
    return [
        {
            "policy": policy,
            "mAP": round(row["mAP"], 2),
            "kept": round(row["mAP"] / full["mAP"], 4),
            "share": round(row["gmacs"] / full["gmacs"], 4),
            "images": row["images"],
        }
        for policy, row in found.items()
    ]


def _limits(row: dict) -> list[float]:
    """The thresholds of a row, where None stands for never."""
    return [math.inf if threshold is None else threshold for threshold in row["thresholds"]]


def main(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    group: Annotated[str, typer.Argument(help="Of the model, such as proposed or early.")],
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
