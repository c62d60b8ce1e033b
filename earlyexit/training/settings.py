"""Everything that decides how a training ends: its options, named presets of them, and what may change on resuming."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..losses import EXIT_TARGETS, check_exit_training
from ..model.backbone import check_exits
from ..model.factories import DETECTORS
from ..model.necks import FILLERS
from ..weights import refuse_removed
from .loop import OPTIMIZERS, PRECISIONS, SCHEDULES
from .run import NORMS, check_frozen

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
# MMDetection's RetinaNet "1x" schedule as the paper used it (section 4.1.2): batch 16 at a learning rate of 0.01,
# a tenth of it after epochs 8 and 11. The published code feeds BGR to a backbone trained on RGB; this is RGB.
_PAPER = {
    "model": "regnet_y_800mf",
    "init": "imagenet",
    "freeze": 1,  # the stem, stage 1 and its attention, as in the published code
    "theta": 0.0115,
    "lambda_": 1.0,
    "distillation": 0.5,
    "filler": "downsample",
    "min_size": 800,
    "max_size": 1333,
    "epochs": 12,
    "batch_size": 16,
    "optimizer": "sgd",
    "lr": 0.01,
    "weight_decay": 5e-5,
    "schedule": "steps",
    "warmup": 500,
    "clip": 35.0,
    "shape_groups": True,
    "workers": 4,
}
_NANO = {
    "model": "nano",
    "theta": 0.0115,
    "lambda_": 1.0,
    "distillation": 0.5,
    "filler": "downsample",
    "epochs": 6,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup": 100,
    "clip": 1.0,
}
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "nano": ("the small detector on the scenes; the defaults of the command", _NANO),
    "paper-coco": ("the paper's recipe on COCO-Single", _PAPER),
    # 200 classes change nothing but the last layers; the paper names one recipe for both data sets.
    "paper-ilsvrc": ("the paper's recipe on ILSVRC-Single", {**_PAPER, "theta": 0.0115}),
    "colab": (
        "the paper's detector on COCO-Single at 480 pixels, for one GPU of 15 GB",
        {
            **_PAPER,
            "min_size": 480,
            "max_size": 800,
            "epochs": 6,
            "batch_size": 8,
            "optimizer": "adamw",
            "lr": 2e-4,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "clip": 1.0,
            "precision": "fp16",
            "workers": 2,
        },
    ),
}
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


def preset(name: str) -> dict[str, Any]:
    """The arguments of a preset, as fields of `TrainSettings`; `ValueError` if there is none of that name."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}")
    return dict(PRESETS[name][1])


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
    refuse_removed(story["settings"], out)
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
