"""The whole study: train, measure, tables, verdicts. Whatever is there already is not done again.

Each model is trained and measured by processes of its own, a few at a time, see `run_jobs`. With the results goes a
small sample of what the study computes, `fingerprint`: computed again, it says whether this code would give the same.
"""

import functools
import json
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy
import torch

from ..data.coco import SPLITS, coco_split, keep_single_objects
from ..data.scenes import export_scenes
from ..evaluation.collect import collect_records
from ..evaluation.scores import random_exit, sweep
from ..files import plain, provenance, read_table, write_json, write_table
from ..model.factories import dyn_retinanet_nano, load_detector
from ..processes import Job, Say, pick_device, run_jobs
from ..training.run import export, export_paths, train
from . import measure
from .claims import at_budget, summarise, summarise_beyond
from .findings import policy_rows
from .finished import interval_text
from .measure import check_model, describe_data, load_models, model_path
from .plan import GROUPS, NECK, Training, is_trained, plan, train_arguments
from .tables import BEYOND_TABLES, TABLES, Models, compute_table, times_tables

BENCHMARK = Path("benchmarks/evaluation.json")  # in a checkout, from where `make study` runs
TIMED = 128  # test images
MADE = ("name", "commit", "date", "machine")  # of each model, in the manifest
TIME_BUDGET = 0.62
EXPORTED_BUDGET = 0.5  # whose thresholds are stored with the weights
SAMPLE = {"train": 32, "calibration": 16, "test": 32}  # scenes of the fingerprint
SAMPLED = ("proposed-0", "fair-downsample", "fair-zero")
# Relative: other processors round differently, and four steps of training make that larger. Of a few images, a single
# detection that changes its rank moves the mAP.
TOLERANCE, TOLERANCE_MAP = 0.01, 0.05


def run_study(
    trainings: Sequence[Training],
    data: str,
    out: str | Path,
    *,
    jobs: int = 2,
    repeats: int = measure.REPEATS,
    rounds: int = measure.ROUNDS,
    say: Say = print,
) -> list[str]:
    """Train and measure all models of a `plan`, then write tables, verdicts and manifest; returns who failed, by name.

    What goes beyond the paper lies in OUT/beyond and is compared with the proposed models in `out`, the folder of
    results. `say` gets a line for all that happens.

    Raises:
        ValueError: before anything is trained, if the paper's data are unfit or `out` holds results of other settings.
    """
    out, of_paper = Path(out), any(training.group in GROUPS for training in trainings)
    models = out if of_paper else out / "beyond"
    done = {t.name for t in trainings if model_path(models, t.name).exists()}
    if of_paper:
        folder = trainings[0].settings.data
        for split in SPLITS:
            for note in measure.checked_split(folder, split).notes:
                say(f"note: {split}: {note}")
        described = describe_data(folder)
        done = {t.name for t in trainings if check_model(model_path(out, t.name), t.settings, described, repeats)}
    say(f"{len(trainings)} models, {len(done)} of them measured already")
    todo = [t for t in trainings if t.name not in done]
    logs = [Path(t.settings.out).parent / "logs" / f"{t.name}.log" for t in todo]
    work = [Job(t.name, tuple(_steps(t, models, repeats)), log) for t, log in zip(todo, logs, strict=True)]
    failed = run_jobs(work, jobs, say) if work else []
    if of_paper:
        _write_results(trainings, data, out, rounds, say)
    else:
        _write_beyond(trainings, out, say)
    return failed


def _steps(training: Training | None, out: Path, repeats: int) -> list[tuple[str, list[str]]]:
    """What is left to do for a model, beginning with the training that it goes on from."""
    if training is None or model_path(out, training.name).exists():
        return []
    settings = training.settings
    word = f"training {training.name}" if training.first else "training"
    train = [] if is_trained(settings) else [(word, train_arguments(settings))]
    arguments = ["-m", measure.__name__, settings.out, training.group, str(out), str(repeats)]
    return [*_steps(training.first, out, repeats), *train, ("measuring", arguments)]


def _write_results(trainings: Sequence[Training], data: str, out: Path, rounds: int, say: Say) -> None:
    names, started = {training.name for training in trainings}, time.perf_counter()
    models = Models({name: model for name, model in load_models(out).items() if name in names})
    found = list(models.by_name.values())
    if not found:
        say("no model was measured, so there is nothing to write")
        return
    _write_tables(out, {name: table(models) for name, table in TABLES.items()}, say)
    tabled, folder = time.perf_counter(), trainings[0].settings.data
    is_told = _is_told(out, found)
    summary = summarise(models, *_costs(data, folder, out, rounds, say), BENCHMARK)
    write_json(out / "study_summary.json", plain(summary))
    for claim in summary["claims"]:
        say(f"{claim['holds']:12} {claim['claim']} {interval_text(claim)}")
    if is_told:
        say(f"wrote {out}; its manifest.json stays, since the models do")
        return
    seconds = {part: sum(model["seconds"][part] for model in found) for part in ("training", "images", "numbers")}
    seconds |= {"tables": tabled - started, "compute and latency": time.perf_counter() - tabled}
    about = {"numpy": numpy.__version__, "data": {"name": data, **describe_data(folder)}}
    about |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}, "fingerprint": fingerprint()}
    _write_manifest(out, found, MADE, about)
    say(f"wrote {out}")


def _is_told(out: Path, models: Iterable[dict]) -> bool:
    """Whether all is measured and told: a new sample would be of today's code, which has measured nothing of it."""
    measured = all((out / f"{name}.csv").exists() for name in ("compute", "latency"))
    try:
        told = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # missing or damaged
    return measured and told == [{key: model[key] for key in MADE} for model in models]


def _write_beyond(trainings: Sequence[Training], out: Path, say: Say) -> None:
    found = load_models(out / "beyond")
    names = [of.name for training in trainings for of in (training.first, training) if of]
    names += [name for name in found if name not in names]  # of experiments that lost: their rows stay
    models = [found[name] for name in names if name in found]
    early, proposed = Models(found).group("early"), Models(load_models(out)).group("proposed")
    if not early or not proposed:
        say("without models of the whole recipe and proposed models there is nothing to sum up")
        return
    first = next(t for t in trainings if t.name == early[0]["name"])
    times = _times(first, early[0], out / "beyond" / "times.json", say)
    tables = {name: table(models) for name, table in BEYOND_TABLES.items()}
    _write_tables(out, tables | times_tables(times), say)
    about = {"data": {model["settings"]["data"]: model["data"] for model in models}}
    _write_manifest(out / "beyond", models, ("name", "commit", "date", "machine", "seconds"), about)
    timed = next(row["times"] for row in times["budgets"] if row["budget"] == TIME_BUDGET)
    ratios = {name: {k: timed[name][k] for k in ("mean", "low", "high")} for name in ("batch1", "batch16")}
    summary = summarise_beyond(early, proposed, ratios)
    write_json(out / "beyond_summary.json", plain(summary))
    for name, reached in summary["reached"].items():
        say(f"{'reached' if reached else 'not reached':12} {name}")
    say(f"wrote {out / 'beyond_summary.json'}")


def _write_tables(out: Path, tables: dict[str, list[dict]], say: Say) -> None:
    for name, rows in tables.items():
        if rows:
            write_table(out / f"{name}.csv", rows)
        else:
            say(f"{name}.csv is not written: its models are missing")


def _write_manifest(out: Path, models: Iterable[dict], keys: Sequence[str], about: dict) -> None:
    """Command, seeds, commit, date and versions; `keys` of each model; and what else is worth knowing."""
    story = {"command": shlex.join(["earlyexit", *sys.argv[1:]]), **provenance()}
    story["seeds"] = sorted({model["settings"]["seed"] for model in models})
    made = [{key: model[key] for key in keys} for model in models]
    write_json(out / "manifest.json", {**story, **about, "models": made})


def _costs(data: str, folder: str, out: Path, rounds: int, say: Say) -> list[list[dict]]:
    """The tables of compute and latency; one that is there is read. Last, when no training disturbs the clock."""
    test = coco_split(folder, "test")
    torch.manual_seed(0)
    nano = dyn_retinanet_nano(len(test.classes), weights="scenes" if data == "scenes" else None)
    nano = nano.eval().to(pick_device("auto"))
    detectors = {"nano": (nano, measure.NANO_SIZE), "regnet_y_800mf": (measure.paper_detector(), measure.PAPER_SIZE)}
    latency = functools.partial(measure.latency_table, nano, test, rounds=rounds)
    makers = {"compute": functools.partial(compute_table, detectors), "latency": latency}
    for name, make in makers.items():
        if not (out / f"{name}.csv").exists():
            say(f"{name} ...")
            write_table(out / f"{name}.csv", make())
    return [read_table(out / f"{name}.csv") for name in makers]


def _times(training: Training, result: dict, path: Path, say: Say) -> dict[str, list[dict]]:
    """Measured last, when no training disturbs the clock; times that are there are read."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    say("times ...")
    device = pick_device("auto")
    model = load_detector(Path(training.settings.out) / "model.safetensors")[0].to(device).eval()
    images = measure.same_size(coco_split(training.settings.data, "test"), TIMED)
    small = measure.times_of_exits(model, tuple(images[0].shape[-2:]), rounds=30)
    large = measure.times_of_exits(measure.paper_detector(**NECK).to(device), measure.PAPER_SIZE)
    exits = [{"detector": name, **row} for name, rows in (("ours", small), ("the paper's", large)) for row in rows]
    times = {"budgets": measure.times_of_budgets(model, images, result["budgets"]), "exits": exits}
    write_json(path, plain(times))
    return times


def write_fresh(out: Path, runs: Path, folder: Path, say: Say) -> None:
    """The table of the whole recipe on images that nobody has looked at: no choice can have been made by them."""
    rows = []
    for result in Models(load_models(out / "beyond")).group("early"):
        say(f"{result['name']}: fresh images ...")
        run, test = runs / result["name"], coco_split(folder, "test")
        model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
        records = collect_records(model, test, path=run / "records-fresh.safetensors")
        rows += [{"model": result["name"], **row} for row in policy_rows(records, result)]
    write_table(out / "beyond_fresh.csv", rows)
    say(f"wrote {out / 'beyond_fresh.csv'}")


def export_early(out: str | Path, runs: str | Path, name: str | Path) -> Path:
    """The best model beyond the paper as weights in the file `name`; `ValueError` if none was measured.

    It is the seed that promises, on the calibration split, the smallest loss at half of the GMACs: a choice by test
    images would make the card look better than the model.
    """
    early = Models(load_models(Path(out) / "beyond")).group("early")
    if not early:
        raise ValueError(f"{str(out)!r} holds no model of the whole recipe: run `earlyexit beyond` first")
    best = min(early, key=lambda model: at_budget(model, EXPORTED_BUDGET)["loss_at_most"])
    row, run = at_budget(best, EXPORTED_BUDGET), Path(runs) / best["name"]
    more = {"score_scales": best["score_scales"], "thresholds": row["thresholds"]}
    reached = {key: row[key] for key in ("budget", "share", "kept", "mAP", "loss_at_most", "exits")}
    metrics = {"images": best["data"]["test"]["images"], "forced_exit": {r["exit"]: r for r in best["forced"]}}
    metrics |= {"accuracy": [r["accuracy"] for r in best["forced"]], "thresholds": reached}
    export(run, Path(name), None, "test", about=more, metrics=metrics)
    return export_paths(run, Path(name))[0]


def fingerprint() -> dict[str, float]:
    """Losses after a few steps of three of the study's trainings, and what the weights "scenes" reach; seconds."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as name:
        trainings = _sampled(Path(name))
        return {**_trained(trainings), **_measured(trainings)}


def differing(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """The names of the numbers that are not the same, or not in both."""

    def same(name: str) -> bool:
        tolerance = TOLERANCE_MAP if name.endswith("mAP") else TOLERANCE
        return math.isclose(*(of.get(name, math.nan) for of in (before, now)), rel_tol=tolerance, abs_tol=1e-6)

    return [name for name in sorted(before.keys() | now) if not same(name)]


def check_numbers(out: str | Path) -> list[str]:
    """The numbers of the sample that come out differently than when the results in `out` were made, by name."""
    path = Path(out) / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{str(out)!r} holds no manifest.json: run `earlyexit study` first, or give --out")
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is damaged: run `earlyexit study` again, or give another --out") from None
    return differing(before, fingerprint())


def _sampled(folder: Path) -> list[Training]:
    """A few trainings of the study, on a few scenes that are drawn into the folder."""
    for path in export_scenes(folder, SAMPLE, workers=1).values():
        single = keep_single_objects(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(single), encoding="utf-8")
    return [training for training in plan("scenes", folder, folder) if training.name in SAMPLED]


def _trained(trainings: Sequence[Training]) -> dict[str, float]:
    numbers = {}
    for training in trainings:
        (row,) = train(replace(training.settings, epochs=1, batch_size=4, progress=False))
        losses = [name for name in ("classification", "bbox_regression", "exit") if name in row]
        numbers |= {f"{training.name}, {name}": row[name] for name in losses}
    return numbers


def _measured(trainings: Sequence[Training]) -> dict[str, float]:
    """Of the weights "scenes", as if they were of the first training."""
    confidence, found = measure.recorded(trainings[0], load_detector("scenes")[0])
    numbers = {"calibration, confidence": float(confidence.mean())}
    for name, records in found.items():
        numbers[f"{name}, scores"] = float(records.found.scores.sum())
        numbers[f"{name}, boxes"] = float(records.found.boxes.mean())
        for row in sweep(records, confidence, (1, 17, 34), metrics=("mAP",)):
            numbers[f"{name}, index {row['index']}, mAP"] = row["mAP"]
            numbers[f"{name}, index {row['index']}, GMACs"] = row["gmacs"]
        numbers[f"{name}, random, mAP"] = random_exit(records, (0.25,) * 4, 2)["mean"]["mAP"]
    return {name: round(value, 6) for name, value in numbers.items()}
