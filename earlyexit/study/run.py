"""The whole study: train, measure, tables, verdicts. Whatever is there already is not done again.

`run_study` is the paper's, `run_beyond` goes on from its results. Each model is trained and measured by processes of
its own, a few at a time, see `run_jobs`.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy

from ..data.coco import coco_split
from ..files import provenance, write_json
from ..model.factories import dyn_retinanet_regnet_y_800mf, load_detector
from ..processes import pick_device
from ..training.release import export, export_paths
from .claims import summarise, summarise_beyond
from .costs import (
    ROUNDS,
    compute_table,
    latency_table,
    nano_detector,
    same_size,
    times_of_budgets,
    times_of_exits,
)
from .fingerprint import fingerprint
from .finished import (
    Models,
    check_model,
    describe_data,
    load_models,
    model_path,
    plain,
    read_table,
    write_table,
)
from .measure import REPEATS, checked_split, measure
from .plan import SPLITS, Training, is_trained, train_arguments
from .tables import BEYOND_TABLES, TABLES, clock_table, times_table

BENCHMARK = Path("benchmarks/evaluation.json")  # in a checkout, from where `make study` runs
LAST_LINES = 15  # of a log, when something failed
TIMED = 128  # test images
LARGE = (800, 1216)  # of the paper's images
TIME_BUDGET = 0.62
EXPORTED_BUDGET = 0.5  # whose thresholds are stored with the weights
Say = Callable[[str], object]


def run_study(
    trainings: Sequence[Training],
    data: str,
    out: str | Path,
    *,
    jobs: int = 2,
    repeats: int = REPEATS,
    rounds: int = ROUNDS,
    say: Say = print,
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
    done = {t.name for t in trainings if check_model(model_path(out, t.name), t.settings, described, repeats)}
    failed = _run_missing(trainings, done, out, jobs, repeats, say)
    names = {training.name for training in trainings}
    models = Models({name: model for name, model in load_models(out).items() if name in names})
    if not models.by_name:
        say("no model was measured, so there is nothing to write")
        return failed
    write_results(models, data, folder, out, rounds, say)
    return failed


def run_beyond(trainings: Sequence[Training], out: str | Path, *, jobs: int = 2, say: Say = print) -> list[str]:
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
    done = {t.name for t in trainings if model_path(out / "beyond", t.name).exists()}
    failed = _run_missing(trainings, done, out / "beyond", jobs, REPEATS, say)
    names = [name for t in trainings for name in ((t.first.name, t.name) if t.first else (t.name,))]
    found = load_models(out / "beyond")
    names += [name for name in found if name not in names]  # of experiments that lost: their rows stay
    models = [found[name] for name in names if name in found]
    early = [model for model in models if model["group"] == "early"]
    proposed = Models(load_models(out)).group("proposed")
    if not early or not proposed:
        say("without models of the whole recipe and proposed models there is nothing to sum up")
        return failed
    first = next(t for t in trainings if t.name == early[0]["name"])
    times = _times(first, early[0], out / "beyond" / "times.json", say)
    tables = {name: table(models) for name, table in BEYOND_TABLES.items()}
    tables |= {"beyond_times": times_table(times["budgets"]), "beyond_clock": clock_table(times["exits"])}
    for name, rows in tables.items():
        _write(out / f"{name}.csv", rows, say)
    about = {"data": {model["settings"]["data"]: model["data"] for model in models}}
    _write_manifest(out / "beyond", models, ("name", "commit", "date", "machine", "seconds"), about)
    timed = next(row["times"] for row in times["budgets"] if row["budget"] == TIME_BUDGET)
    ratios = {name: {k: timed[name][k] for k in ("mean", "low", "high")} for name in ("batch1", "batch16")}
    summary = summarise_beyond(early, proposed, ratios)
    write_json(out / "beyond_summary.json", plain(summary))
    for name, reached in summary["reached"].items():
        say(f"{'reached' if reached else 'not reached':12} {name}")
    say(f"wrote {out / 'beyond_summary.json'}")
    return failed


def _run_missing(
    trainings: Sequence[Training], done: set[str], out: Path, jobs: int, repeats: int, say: Say
) -> list[str]:
    say(f"{len(trainings)} models, {len(done)} of them measured already")
    todo = []
    for training in trainings:
        if training.name not in done:
            log = Path(training.settings.out).parent / "logs" / f"{training.name}.log"
            todo.append(Job(training.name, tuple(_steps(training, out, repeats)), log))
    return run_jobs(todo, jobs, say) if todo else []


def _steps(training: Training | None, out: Path, repeats: int) -> list[tuple[str, list[str]]]:
    """What is left to do for a model, beginning with the training that it goes on from."""
    if training is None or model_path(out, training.name).exists():
        return []
    settings = training.settings
    word = f"training {training.name}" if training.first else "training"
    train = [] if is_trained(settings) else [(word, train_arguments(settings))]
    arguments = ["-m", measure.__module__, settings.out, training.group, str(out), str(repeats)]
    return [*_steps(training.first, out, repeats), *train, ("measuring", arguments)]


def write_results(models: Models, data: str, folder: str, out: Path, rounds: int, say: Say) -> None:
    """Tables, verdicts and `manifest.json` (how the results came about) from the models' results."""
    started = time.perf_counter()
    for name, table in TABLES.items():
        _write(out / f"{name}.csv", table(models), say)
    tabled = time.perf_counter()
    summary = summarise(models, *_costs(data, folder, out, rounds, say), BENCHMARK)
    write_json(out / "study_summary.json", plain(summary))
    for claim in summary["claims"]:
        ours = claim["ours"]
        figures = f"{ours['mean']:.2f} ({ours['low']:.2f} to {ours['high']:.2f}) {claim['unit']}"
        say(f"{claim['holds']:12} {claim['claim']} {figures}")
    found = list(models.by_name.values())
    seconds = {part: sum(model["seconds"][part] for model in found) for part in ("training", "images", "numbers")}
    seconds |= {"tables": tabled - started, "compute and latency": time.perf_counter() - tabled}
    about = {"numpy": numpy.__version__, "data": {"name": data, **describe_data(folder)}}
    about |= {"seconds": {name: round(value, 1) for name, value in seconds.items()}, "fingerprint": fingerprint()}
    _write_manifest(out, found, ("name", "commit", "date", "machine"), about)
    say(f"wrote {out}")


def _write_manifest(out: Path, models: Iterable[dict], keys: Sequence[str], about: dict) -> None:
    """Command, seeds, commit, date and versions; `keys` of each model; and what else is worth knowing."""
    story = {"command": shlex.join(["earlyexit", *sys.argv[1:]]), **provenance()}
    story["seeds"] = sorted({model["settings"]["seed"] for model in models})
    made = [{key: model[key] for key in keys} for model in models]
    write_json(out / "manifest.json", {**story, **about, "models": made})


def _costs(data: str, folder: str, out: Path, rounds: int, say: Say) -> tuple[list[dict], list[dict]]:
    """The tables of compute and latency; one that is there is read. Last, when no training disturbs the clock."""
    test = coco_split(folder, "test")
    nano = nano_detector(len(test.classes), "scenes" if data == "scenes" else None).to(pick_device("auto"))
    tables = {"compute": lambda: compute_table(nano), "latency": lambda: latency_table(nano, test, rounds=rounds)}
    for name, make in tables.items():
        if not (out / f"{name}.csv").exists():
            say(f"{name} ...")
            _write(out / f"{name}.csv", make(), say)
    return read_table(out / "compute.csv"), read_table(out / "latency.csv")


def _times(training: Training, result: dict, path: Path, say: Say) -> dict[str, list[dict]]:
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


def _write(path: Path, rows: list[dict], say: Say) -> None:
    if rows:
        write_table(path, rows)
    else:
        say(f"{path.name} is not written: its models are missing")


def export_early(out: str | Path, runs: str | Path, name: str | Path) -> Path:
    """The best model beyond the paper as weights: the seed that promises the smallest loss at half of the GMACs.

    It is written with its thresholds and scales of scores. The promise is of the calibration split: a choice by test
    images would make the card look better than the model.

    Args:
        out: the folder of results.
        runs: the folder of the runs.
        name: the safetensors file; its card is the JSON beside it.

    Raises:
        ValueError: if no model of the whole recipe was measured.
    """

    def at_budget(model: dict) -> dict:
        return next(row for row in model["budgets"] if row["budget"] == EXPORTED_BUDGET)

    early = [model for model in load_models(Path(out) / "beyond").values() if model["group"] == "early"]
    if not early:
        raise ValueError(f"{str(out)!r} holds no model of the whole recipe: run `earlyexit beyond` first")
    best = min(early, key=lambda model: at_budget(model)["loss_at_most"])
    row, run = at_budget(best), Path(runs) / best["name"]
    more = {"score_scales": best["score_scales"], "thresholds": row["thresholds"]}
    reached = {key: row[key] for key in ("budget", "share", "kept", "mAP", "loss_at_most", "exits")}
    metrics = {"images": best["data"]["test"]["images"], "forced_exit": {r["exit"]: r for r in best["forced"]}}
    metrics |= {"accuracy": [r["accuracy"] for r in best["forced"]], "thresholds": reached}
    export(run, Path(name), None, "test", about=more, metrics=metrics)
    return export_paths(run, Path(name))[0]


@dataclass(frozen=True)
class Job:
    """What one process after another does for a model: commands (arguments of Python), each with a word for it."""

    name: str
    steps: tuple[tuple[str, list[str]], ...]
    log: Path


def run_jobs(jobs: Sequence[Job], at_a_time: int, say: Say = print) -> list[str]:
    """Run all jobs, `at_a_time` of them side by side.

    A job that fails is reported with the last lines of its log, while the others go on. However this function is
    left, with Ctrl-C, too, no process stays behind.

    Args:
        jobs: in the order in which they start.
        at_a_time: how many; each gets its share of the cores, since two trainings of one thread are faster than one
            after the other of two threads.
        say: gets a line for all that happens, one at a time, from the threads that wait for the processes.

    Returns:
        The names of those that failed.
    """
    if at_a_time < 1:
        raise ValueError(f"at least one job must run at a time, got {at_a_time}")
    processes = _Processes(max(1, (os.cpu_count() or 1) // at_a_time), say)
    with ThreadPoolExecutor(at_a_time) as pool:
        numbered = [(job, f"[{number}/{len(jobs)}] {job.name}") for number, job in enumerate(jobs, 1)]
        futures = {pool.submit(processes.run, job, label): job for job, label in numbered}
        try:
            succeeded = {futures[future].name: future.result() for future in as_completed(futures)}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()
    return [job.name for job in jobs if not succeeded[job.name]]


@dataclass
class _Processes:
    """The processes that run now, each waited for by a thread; after `stop` there are none."""

    threads: int
    say: Say
    alive: set = field(default_factory=set)
    stopped: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def run(self, job: Job, label: str) -> bool:
        """Do the steps of a job; whether all succeeded."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        for word, arguments in job.steps:
            started = time.perf_counter()
            self._tell(f"{label}: {word} ...")
            ended = self._step(arguments, job.log, label)
            if ended is None:
                return False
            if ended:
                lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
                failed = f"{label}: {word} FAILED with exit code {ended}, {job.log} ends:"
                self._tell("\n    ".join([failed, *lines]))
                return False
            self._tell(f"{label}: {word} done in {time.perf_counter() - started:.0f} s")
        return True

    def _step(self, arguments: list[str], log: Path, label: str) -> int | None:
        """The exit code of one process, whose output goes to the log; None if all were stopped."""
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
                preexec_fn=_end_with_parent() if sys.platform == "linux" else None,
            )
            self.alive.add(process)
        with open(log, "ab", buffering=0) as file:
            for line in process.stdout:
                file.write(line)
                if line.startswith(b"epoch "):
                    self._tell(f"{label}: {line.decode('utf-8', errors='replace').rstrip()}")
        process.wait()
        with self.lock:
            self.alive.discard(process)
        return None if self.stopped else process.returncode

    def _tell(self, line: str) -> None:
        with self.lock:
            self.say(line)

    def stop(self) -> None:
        with self.lock:
            self.stopped, alive = True, list(self.alive)
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> Callable[[], object]:
    """Asks Linux to end a new process when the study is killed: a second study must not find it at work."""
    libc = ctypes.CDLL(None)  # here: a new process must not load anything while other threads hold locks
    return lambda: libc.prctl(1, signal.SIGKILL)
