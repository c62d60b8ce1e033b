"""Going beyond the paper from end to end: train, measure, time, sum up. What is there already is not done again."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..commands import pick_device, write_json
from ..data.coco import coco_split
from ..factories import dyn_retinanet_regnet_y_800mf
from ..models import load_detector
from ..provenance import provenance
from ..study.costs import same_size
from ..study.files import write_table
from ..study.jobs import Job, run_jobs
from ..study.models import Models
from ..study.plan import Training
from ..study.results import load_models, model_path, plain
from ..study.trainings import is_trained, train_arguments
from .clock import times_of_budgets, times_of_exits
from .summary import summarise_beyond
from .tables import budgets_table, clock_table, empty_table, exits_table, rules_table, times_table

TIMED = 128  # test images
LARGE = (800, 1216)  # of the paper's images
TIME_BUDGET = 0.62


def run_beyond(
    trainings: Sequence[Training], out: str | Path, *, jobs: int = 2, say: Callable[[str], object] = print
) -> list[str]:
    """Train and measure all models, then write tables, times and `beyond_summary.json`.

    Args:
        trainings: see `plan_beyond`.
        out: the folder of the study's results, whose proposed models are compared with. Models go to OUT/beyond.
        jobs: models at a time.
        say: gets a line for all that happens.

    Returns:
        The names of the models that failed.
    """
    out = Path(out)
    todo = [t for t in trainings if not model_path(out / "beyond", t.name).exists()]
    say(f"{len(trainings)} models, {len(trainings) - len(todo)} of them measured already")
    failed = run_jobs([_job(training, out / "beyond") for training in todo], jobs, say) if todo else []
    names = [name for t in trainings for name in ((t.first.name, t.name) if t.first else (t.name,))]
    models = load_models(out / "beyond")
    names += [name for name in models if name not in names]  # of experiments that lost: their rows stay
    models = [models[name] for name in names if name in models]
    early = [model for model in models if model["group"] == "early"]
    proposed = Models(load_models(out)).group("proposed")
    if not early or not proposed:
        say("without models of the whole recipe and proposed models there is nothing to sum up")
        return failed
    first = next(t for t in trainings if t.name == early[0]["name"])
    times = _times(first, early[0], out / "beyond" / "times.json", say)
    _write(out, models, times)
    timed = next(row["times"] for row in times["budgets"] if row["budget"] == TIME_BUDGET)
    ratios = {name: {k: timed[name][k] for k in ("mean", "low", "high")} for name in ("batch1", "batch16")}
    summary = summarise_beyond(early, proposed, ratios)
    write_json(out / "beyond_summary.json", plain(summary))
    for name, reached in summary["reached"].items():
        say(f"{'reached' if reached else 'not reached':12} {name}")
    say(f"wrote {out / 'beyond_summary.json'}")
    return failed


def _job(training: Training, out: Path) -> Job:
    log = Path(training.settings.out).parent / "logs" / f"{training.name}.log"
    return Job(training.name, tuple(_steps(training, out)), log)


def _steps(training: Training | None, out: Path) -> list[tuple[str, list[str]]]:
    """What is left to do for a model, beginning with the training that it goes on from."""
    if training is None or model_path(out, training.name).exists():
        return []
    measure = ["-m", "earlyexit.beyond.measure", training.settings.out, training.group, str(out)]
    word = f"training {training.name}" if training.first else "training"
    train = [] if is_trained(training.settings) else [(word, train_arguments(training.settings))]
    return [*_steps(training.first, out), *train, ("measuring", measure)]


def _times(training: Training, result: dict, path: Path, say: Callable[[str], object]) -> dict[str, list[dict]]:
    """Measured last, when no training disturbs the clock; times that are there are read."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    say("times ...")
    device = pick_device("auto")
    model = load_detector(Path(training.settings.out) / "model.safetensors")[0].to(device).eval()
    images = same_size(coco_split(training.settings.data, "test"), TIMED)
    large = dyn_retinanet_regnet_y_800mf(80, filler="learned").to(device).eval()
    small = tuple(images[0].shape[-2:])
    exits = [{"detector": "ours", **row} for row in times_of_exits(model, small, rounds=30)]
    exits += [{"detector": "the paper's", **row} for row in times_of_exits(large, LARGE)]
    times = {"budgets": times_of_budgets(model, images, result["budgets"]), "exits": exits}
    write_json(path, plain(times))
    return times


def _write(out: Path, models: list[dict], times: dict[str, list[dict]]) -> None:
    made = {"exits": exits_table, "budgets": budgets_table, "rules": rules_table, "empty": empty_table}
    tables = {name: table(models) for name, table in made.items()}
    tables |= {"times": times_table(times["budgets"]), "clock": clock_table(times["exits"])}
    for name, rows in tables.items():
        if rows:
            write_table(out / f"beyond_{name}.csv", rows)
    about = [{key: model[key] for key in ("name", "commit", "date", "machine", "seconds")} for model in models]
    seeds = sorted({model["settings"]["seed"] for model in models})
    story = {"command": shlex.join(["earlyexit", *sys.argv[1:]]), **provenance(), "seeds": seeds}
    data = {model["settings"]["data"]: model["data"] for model in models}
    write_json(out / "beyond" / "manifest.json", {**story, "data": data, "models": about})
