"""Going beyond the paper from end to end: train, measure, time, sum up. What is there already is not done again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..commands import pick_device, write_json
from ..data.coco import coco_split
from ..models import load_detector
from ..study.costs import same_size
from ..study.jobs import Job, run_jobs
from ..study.models import Models
from ..study.plan import Training
from ..study.results import load_models, model_path, plain
from ..study.trainings import is_trained, train_arguments
from .summary import summarise_beyond
from .times import time_ratio

TIMED = 256  # test images
TIME_BUDGET = 0.62


def run_beyond(
    trainings: Sequence[Training], study: str | Path, out: str | Path, *, jobs: int = 2, say: Callable = print
) -> list[str]:
    """Train and measure all models, then write `beyond_summary.json`.

    Args:
        trainings: see `plan_beyond`.
        study: the folder of the study's results, whose proposed models are compared with.
        out: the folder of results.
        jobs: models at a time.
        say: gets a line for all that happens.

    Returns:
        The names of the models that failed.
    """
    out = Path(out)
    todo = [t for t in trainings if not model_path(out, t.name).exists()]
    say(f"{len(trainings)} models, {len(trainings) - len(todo)} of them measured already")
    failed = run_jobs([_job(training, out) for training in todo], jobs, say) if todo else []
    early = [model for model in load_models(out).values() if model["group"] == "early"]
    proposed = Models(load_models(study)).group("proposed")
    if not early or not proposed:
        say("without models of the whole recipe and proposed models there is nothing to sum up")
        return failed
    first = next(t for t in trainings if t.group == "early")
    times = _times(first, early[0], out, say)
    write_json(out / "beyond_summary.json", plain(summarise_beyond(early, proposed, times)))
    say(f"wrote {out / 'beyond_summary.json'}")
    return failed


def _job(training: Training, out: Path) -> Job:
    run = Path(training.settings.out)
    measure = ["-m", "earlyexit.beyond.measure", str(run), training.group, str(out)]
    train = () if is_trained(training.settings) else (("training", train_arguments(training.settings)),)
    return Job(training.name, (*train, ("measuring", measure)), run.parent / "logs" / f"{training.name}.log")


def _times(training: Training, result: dict, out: Path, say: Callable) -> dict[str, dict]:
    path = out / "times.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    say("times ...")
    model = load_detector(Path(training.settings.out) / "model.safetensors")[0].to(pick_device("auto")).eval()
    images = same_size(coco_split(training.settings.data, "test"), TIMED)
    row = next(row for row in result["budgets"] if row["budget"] == TIME_BUDGET)
    thresholds = [float("inf") if t is None else t for t in row["thresholds"]]
    times = {f"batch{size}": time_ratio(model, images, thresholds, size) for size in (1, 16)}
    write_json(path, times)
    return times
