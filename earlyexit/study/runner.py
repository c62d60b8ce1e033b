"""The whole study: train, measure, tables, verdicts. Whatever is there already is not done again."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..commands import pick_device, write_json
from ..data.coco import coco_split
from .claims_theta import deviation_of_training, noise_between_seeds
from .costs import ROUNDS, compute_table, latency_table, nano_detector
from .difficulty_table import difficulty_table
from .files import read_table, write_table
from .jobs import Job, run_jobs
from .manifest import write_manifest
from .measure import REPEATS, checked_split
from .models import Models
from .plan import Training
from .results import SPLITS, check_model, describe_data, load_models, model_path, plain
from .summary import summarise
from .tables import (
    accuracy_table,
    fillers_table,
    forced_table,
    random_table,
    shares_table,
    sweep_table,
    theta_table,
)
from .trainings import is_trained, train_arguments

TABLES = {
    "sweep": sweep_table,
    "random": random_table,
    "forced_exits": forced_table,
    "accuracy": accuracy_table,
    "shares": shares_table,
    "theta": theta_table,
    "fillers": fillers_table,
    "difficulty": difficulty_table,
}
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "evaluation.json"


def run_study(
    trainings: Sequence[Training],
    data: str,
    out: str | Path,
    *,
    jobs: int = 2,
    repeats: int = REPEATS,
    rounds: int = ROUNDS,
    say: Callable[[str], object] = print,
) -> list[str]:
    """Train and measure all models, then write tables, verdicts and manifest.

    Args:
        trainings: see `plan`; all on the same folder.
        data: "scenes", "coco_single" or "ilsvrc_single".
        out: the folder of results.
        jobs: models at a time.
        repeats: bootstrap samples.
        rounds: of timing, see `latency_table`.
        say: gets a line for all that happens.

    Returns:
        The names of the models that failed; tables and verdicts are then of the others.

    Raises:
        ValueError: before anything is trained, if the data are unfit or `out` holds results of other settings.
    """
    out, folder = Path(out), trainings[0].settings.data
    for split in SPLITS:
        checked_split(folder, split)
    described = describe_data(folder)
    todo = [t for t in trainings if not check_model(model_path(out, t.name), t.settings, described, repeats)]
    say(f"{len(trainings)} models, {len(trainings) - len(todo)} of them measured already")
    failed = run_jobs([job_of(training, out, repeats) for training in todo], jobs, say) if todo else []
    names = {training.name for training in trainings}
    models = Models({name: model for name, model in load_models(out).items() if name in names})
    if not models.by_name:
        say("no model was measured, so there is nothing to write")
        return failed
    write_results(models, data, folder, out, rounds, say)
    return failed


def job_of(training: Training, out: Path, repeats: int) -> Job:
    """What is left to do for a model: train it, unless its run is complete, and measure it."""
    run = Path(training.settings.out)
    measure = ["-m", "earlyexit.study.measure", str(run), training.group, str(out), str(repeats)]
    train = () if is_trained(training.settings) else (("training", train_arguments(training.settings)),)
    return Job(training.name, (*train, ("measuring", measure)), run.parent / "logs" / f"{training.name}.log")


def write_results(models: Models, data: str, folder: str, out: Path, rounds: int, say: Callable[[str], object]) -> None:
    """Tables, verdicts and manifest from the models' results."""
    started = time.perf_counter()
    for name, table in TABLES.items():
        _write(out / f"{name}.csv", table(models), say)
    tabled = time.perf_counter()
    costs = _costs(data, folder, out, rounds, say)
    summary = summarise(models, *costs, BENCHMARK)
    if len(models.group("proposed")) > 1:
        summary["noise between seeds"] = round(noise_between_seeds(models), 2)
        summary["deviation of a training"] = round(deviation_of_training(models), 3)
    write_json(out / "study_summary.json", plain(summary))
    for claim in summary["claims"]:
        ours = claim["ours"]
        figures = f"{ours['mean']:.2f} ({ours['low']:.2f} to {ours['high']:.2f}) {claim['unit']}"
        say(f"{claim['holds']:12} {claim['claim']} {figures}")
    seconds = {"tables": tabled - started, "compute and latency": time.perf_counter() - tabled}
    command = shlex.join(["earlyexit", *sys.argv[1:]])
    about = {"data": {"name": data, **describe_data(folder)}}
    write_manifest(out, command=command, models=models.by_name.values(), seconds=seconds, about=about)
    say(f"wrote {out}")


def _costs(
    data: str, folder: str, out: Path, rounds: int, say: Callable[[str], object]
) -> tuple[list[dict], list[dict]]:
    """The tables of compute and latency; one that is there is read. Last, when no training disturbs the clock."""
    test = coco_split(folder, "test")
    nano = nano_detector(len(test.classes), "scenes" if data == "scenes" else None).to(pick_device("auto"))
    tables = {"compute": lambda: compute_table(nano), "latency": lambda: latency_table(nano, test, rounds=rounds)}
    found = []
    for name, make in tables.items():
        path = out / f"{name}.csv"
        if not path.exists():
            say(f"{name} ...")
            _write(path, make(), say)
        found.append(read_table(path))
    return found[0], found[1]


def _write(path: Path, rows: list[dict], say: Callable[[str], object]) -> None:
    if rows:
        write_table(path, rows)
    else:
        say(f"{path.name} is not written: its models are missing")
