"""Everything that decides how a training ends, and what no training can have."""

import math
from dataclasses import dataclass

from .engine import PRECISIONS
from .exit_training import check_exit_training, check_exits
from .freezing import NORMS, check_frozen
from .models import DETECTORS
from .neck import FILLERS
from .schedule import OPTIMIZERS, SCHEDULES
from .targets import EXIT_TARGETS

TASKS = ("detect", "classify")
WORDS = {
    "task": TASKS,
    "model": tuple(DETECTORS),
    "norm": NORMS,
    "exit_target": EXIT_TARGETS,
    "filler": (*FILLERS, "learned"),
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
}
AT_LEAST_1 = ("epochs", "batch_size", "accumulate", "save_every")
AT_LEAST_0 = ("theta", "lambda_", "distillation", "weight_decay", "warmup", "clip", "workers")
MOST_WORKERS = 64  # each is a process with PyTorch in its memory
# What a classifier has no use for.
OF_DETECTORS = (*("theta", "lambda_", "exits", "exit_weights", "exit_target", "filler", "opinions", "allow_empty"),)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides how a run ends; `earlyexit train --help` says what each is."""

    data: str
    out: str
    split: str = "train"
    task: str = "detect"
    model: str = "nano"
    init: str | None = None
    warm_start: str | None = None
    keep_classifiers: bool = True
    freeze: int = 0
    only_early: bool = False
    norm: str = "batch"
    theta: float = 0.0115
    lambda_: float = 1.0
    distillation: float = 0.5
    exits: tuple[int, ...] = (4,)
    exit_weights: tuple[float, ...] | None = None
    exit_target: str = "single"
    filler: str = "downsample"
    opinions: tuple[int, ...] = ()
    allow_empty: bool = False
    min_size: int | None = None
    max_size: int | None = None
    jitter: float = 0.0
    epochs: int = 6
    batch_size: int = 16
    accumulate: int = 1
    shape_groups: bool = False
    lr: float = 1e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.0
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    save_every: int = 1
    val_split: str | None = None
    pictures: bool = False
    tensorboard: bool = False
    resume: bool = False
    progress: bool = True


def check_settings(s: TrainSettings) -> None:
    """`ValueError` that shows the first value that no training can have, before anything is read or written."""
    for name, allowed in WORDS.items():
        if getattr(s, name) not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {getattr(s, name)!r}")
    _check_numbers(s)
    check_exit_training(s.exits, weights_by_exit(s))
    check_exits("opinions", s.opinions)
    _check_beginning(s)
    given = [name for name in OF_DETECTORS if getattr(s, name) != getattr(TrainSettings, name)]
    if s.task == "classify" and given:
        got = ", ".join(f"{name}={getattr(s, name)!r}" for name in given)
        raise ValueError(f"the task 'classify' trains no detector and has no use for {got}: leave that out")


def _check_numbers(s: TrainSettings) -> None:
    for least, names in ((1, AT_LEAST_1), (0, AT_LEAST_0)):
        for name in names:
            if not least <= getattr(s, name) < math.inf:
                raise ValueError(f"{name} must be a finite number from {least} on, got {getattr(s, name)}")
    for name in ("jitter", "ema"):
        if not 0 <= getattr(s, name) < 1:
            raise ValueError(f"{name} must be in [0, 1), got {getattr(s, name)}")
    if not 0 < s.lr < math.inf:
        raise ValueError(f"lr must be a finite number above 0, got {s.lr}")
    if not 0 <= s.seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2**63 - 1, got {s.seed}")
    if s.workers > MOST_WORKERS:
        raise ValueError(f"workers must be at most {MOST_WORKERS}, since each is a process, got {s.workers}")
    check_frozen(s.freeze)
    sizes = {name: getattr(s, name) for name in ("min_size", "max_size") if getattr(s, name) is not None}
    if any(size < 32 for size in sizes.values()):
        raise ValueError(f"min_size and max_size must be at least 32 pixels, got {sizes}")


def _check_beginning(s: TrainSettings) -> None:
    """What the training starts from, and where its results go."""
    if s.only_early and (s.task != "detect" or not s.warm_start or s.theta or 4 in s.exits):
        got = f"task={s.task!r}, warm_start={s.warm_start!r}, theta={s.theta:g}, exits={s.exits}"
        raise ValueError(
            f"only_early trains the early exits of a trained detector: it needs a warm_start, theta 0 and exits 1-3 "
            f"alone, got {got}"
        )
    weights = "a name or a file"
    needed = {"out": "a folder", "init": f"{weights}, or none for random weights", "warm_start": weights}
    for name, what in needed.items():
        if getattr(s, name) == "":
            raise ValueError(f"{name} must be {what}, got ''")
    if s.warm_start is not None and (s.init or s.task != "detect"):
        raise ValueError(
            f"warm_start is for detectors and takes the place of init, got both or another task: {s.init!r}"
        )


def weights_by_exit(s: TrainSettings) -> dict[int, float] | None:
    """`exit_weights` by exit; `ValueError` unless there is one for each of `exits`."""
    if s.exit_weights is None:
        return None
    if not len(s.exit_weights) == len(s.exits) == len(set(s.exits)):
        raise ValueError(
            f"exit_weights must be one number for each of the exits, all different, got {s.exit_weights} for {s.exits}"
        )
    return dict(zip(s.exits, s.exit_weights, strict=True))
