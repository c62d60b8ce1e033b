"""Everything that decides how a training ends, and whether a run may be gone on with."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from .engine import PRECISIONS
from .exit_training import check_exit_training, check_exits
from .schedule import OPTIMIZERS, SCHEDULES

TASKS = ("detect", "classify")
AT_LEAST_1 = ("epochs", "batch_size", "accumulate", "save_every")
AT_LEAST_0 = ("theta", "lambda_", "distillation", "weight_decay", "warmup", "clip", "workers")

# What may differ between a run and its resumption. The order and the augmentation depend on none of these. Where
# batch normalisation uses the batch (norm="batch"), another split of a step into parts changes its statistics a little.
FREE_TO_CHANGE = {"out", "resume", "progress", "workers", "accumulate", "save_every", "pictures", "tensorboard"}


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
    sandwich: bool = False
    early_gradient: float = 1.0
    head_distillation: float = 0.0
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
    words = {"task": TASKS, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS}
    for name, allowed in words.items():
        if getattr(s, name) not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {getattr(s, name)!r}")
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
    check_exit_training(s.exits, weights_by_exit(s), s.early_gradient, s.head_distillation)
    check_exits("opinions", s.opinions)
    if s.only_early and (s.task != "detect" or not s.warm_start or s.theta or 4 in s.exits):
        got = f"task={s.task!r}, warm_start={s.warm_start!r}, theta={s.theta:g}, exits={s.exits}"
        raise ValueError(
            f"only_early trains the early exits of a trained detector: it needs a warm_start, theta 0 and exits 1-3 "
            f"alone, got {got}"
        )
    if s.init == "":
        raise ValueError("init must be a name or a file, or none for random weights, got ''")
    if s.warm_start is not None and (s.init or s.task != "detect"):
        raise ValueError(
            f"warm_start is for detectors and takes the place of init, got both or another task: {s.init!r}"
        )


def weights_by_exit(s: TrainSettings) -> dict[int, float] | None:
    """`exit_weights` by exit; `ValueError` unless there is one for each of `exits`."""
    if s.exit_weights is None:
        return None
    if len(s.exit_weights) != len(s.exits):
        raise ValueError(f"exit_weights must be one number for each of the exits {s.exits}, got {s.exit_weights}")
    return dict(zip(s.exits, s.exit_weights, strict=True))


def check_resumable(settings: TrainSettings, out: Path, images: int, classes: list[str] | None = None) -> None:
    """`ValueError` unless `resume` is set and the run in `out` was made with the same settings and data.

    Args:
        settings: those of now.
        out: the folder of the run.
        images: size of the data set now.
        classes: its classes.
    """
    if not settings.resume:
        raise ValueError(f"{str(out)!r} already holds a run: add --resume to go on with it, or choose another --out")
    story = _read_story(out / "settings.json")
    # As JSON has them, with lists for tuples. A setting that the run does not know came after it, and its default is
    # what the run did.
    now, defaults = (json.loads(json.dumps(asdict(s))) for s in (settings, TrainSettings("", "")))
    before = {name: story["settings"].get(name, defaults[name]) for name in now}
    changed = [name for name in now if name not in FREE_TO_CHANGE and before[name] != now[name]]
    if changed:
        what = ", ".join(f"{name} was {before[name]!r}, is {now[name]!r}" for name in changed)
        raise ValueError(f"{str(out)!r} was trained with other settings: {what}")
    if story.get("images", images) != images:
        raise ValueError(f"{str(out)!r} was trained on {story['images']} images, the split now has {images}")
    if classes is not None and story.get("classes", classes) != classes:
        raise ValueError(f"{str(out)!r} was trained on the classes {story['classes']}, the split now has {classes}")


def _read_story(path: Path) -> dict:
    try:
        story = json.loads(path.read_text())
        return {**story, "settings": dict(story["settings"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is missing or damaged: put it back, or choose another --out") from None
