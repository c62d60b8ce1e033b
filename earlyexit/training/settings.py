"""Everything that decides how a training ends: each option once, with its help, its limits and where it belongs.

`earlyexit train`, `--show`, presets, the check of `--resume` and the study's plan are made from `TrainSettings`. A new
option is a field here, and takes effect where it is read. What needs PyTorch is imported inside functions, so that
`--help` answers at once.
"""

import json
import math
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

NORMS = ("batch", "frozen", "sync")
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("cosine", "steps")
TASKS = ("detect", "classify")


def _option(
    default: Any,
    help: str,
    group: str = "",
    *,
    words: tuple[str, ...] = (),
    least: float = -math.inf,
    below: float = math.inf,
    detect: bool = False,
    free: bool = False,
) -> Any:
    """A field of `TrainSettings`.

    Args:
        help: what it is, for `earlyexit train --help`.
        group: where it stands there; the first group holds what a beginner needs.
        words: all that it may be.
        least, below: a number must lie in [least, below).
        detect: only detectors have a use for it.
        free: may differ between a run and its resumption: the order and the augmentation do not depend on it.
    """
    about = {"help": help, "group": group, "words": words, "least": least, "below": below, "detect": detect}
    return field(default=default, metadata={**about, "free": free})


DATA, MODEL, EARLY, OPTIMISER, RUN = "Data", "Model", "Early exits", "Optimiser", "Run"


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides how a run ends; `earlyexit train --help` says what each is."""

    data: str = _option("", "Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")
    out: str = _option("", "Folder of the run: log.csv, model.safetensors, checkpoint.pt.", free=True)
    split: str = _option("train", "Which split of the folder.", DATA)
    task: str = _option("detect", "detect, or classify: the backbone alone.", MODEL, words=TASKS)
    model: str = _option("nano", "nano or regnet_y_800mf.")
    trunk: str | None = _option(
        None, "Instead of the model's RegNetY: a network of timm, e.g. timm/tf_efficientnet_lite0.", MODEL
    )
    init: str | None = _option(
        None,
        "Start from this backbone: imagenet (torchvision's RegNetY, or what timm has for --trunk), a name or file of "
        "this package, a published Dyn-Perceiver checkpoint (.pth), or a file of timm's --trunk (.pth, .safetensors). "
        "none: random weights, also where the preset says otherwise.",
    )
    warm_start: str | None = _option(
        None,
        "Go on from this detector (a name or file); its classes may be others, parts for early exits may be missing.",
        MODEL,
    )
    keep_classifiers: bool = _option(True, "Take the exits' classifiers from --init, too.", MODEL)
    freeze: int = _option(0, "Stem and so many stages are not trained, 0-4.", MODEL, least=0, below=5)
    only_early: bool = _option(
        False, "Train the early exits' own necks and heads alone: full depth stays as it is.", EARLY
    )
    norm: str = _option("batch", "Batch normalisation: batch, frozen or sync (several GPUs).", MODEL, words=NORMS)
    theta: float = _option(0.0115, "Weight of the exits' loss; 0 is the baseline.", EARLY, least=0, detect=True)
    lambda_: float = _option(1.0, "Weight of the detection losses.", EARLY, least=0, detect=True)
    distillation: float = _option(0.5, "Weight of the distillation in the exits' loss.", EARLY, least=0)
    exits: tuple[int, ...] = _option((4,), "Exits with detection loss, e.g. 1,2,4; 4 is the paper.", EARLY, detect=True)
    exit_weights: tuple[float, ...] | None = _option(
        None, "Weights of the detection losses at --exits, e.g. 0.3,0.3,0.4.", EARLY, detect=True
    )
    exit_target: str = _option(
        "single", "single, largest or present: what the exits say of an image.", EARLY, detect=True
    )
    filler: str = _option(
        "downsample",
        "downsample, zero, or learned: early exits have a pyramid and head of their own.",
        EARLY,
        detect=True,
    )
    widths: tuple[int, ...] | None = _option(
        None, "Channels of the exits' own pyramids and heads, e.g. 48,24,40; 0: the shared ones.", EARLY, detect=True
    )
    opinions: tuple[int, ...] = _option(
        (), "Exits at which the classifier's opinion moves the class scores, e.g. 1,2.", EARLY, detect=True
    )
    first_read: str = _option(
        "published", "published, or merged: the same network, whose first reading costs less.", MODEL, free=True
    )
    allow_empty: bool = _option(False, "Images without a box are background.", DATA, detect=True)
    min_size: int | None = _option(None, "Shorter side of the images, in pixels.", least=32)
    max_size: int | None = _option(None, "Limit of the longer side.", DATA, least=32)
    jitter: float = _option(0.0, "Scale jitter: 0.2 is 0.8 to 1.2 times --min-size.", DATA, least=0, below=1)
    epochs: int = _option(6, "Passes over the data.", least=1)
    batch_size: int = _option(16, "Images of a step, over all processes.", least=1)
    accumulate: int = _option(1, "Forward passes a step, to save memory.", OPTIMISER, least=1, free=True)
    shape_groups: bool = _option(False, "Wide and high images in batches of their own.", DATA)
    lr: float = _option(1e-3, "Peak learning rate.", least=math.ulp(0))
    optimizer: str = _option("adamw", "adamw or sgd.", OPTIMISER, words=OPTIMIZERS)
    weight_decay: float = _option(0.05, "Of weights with more than one dimension.", OPTIMISER, least=0)
    schedule: str = _option("cosine", "cosine, or steps: a tenth after 8/12 and 11/12.", OPTIMISER, words=SCHEDULES)
    warmup: int = _option(100, "Warm-up steps, at most a tenth of all.", OPTIMISER, least=0)
    clip: float = _option(1.0, "Largest gradient norm; 0: not clipped.", OPTIMISER, least=0)
    ema: float = _option(0.0, "Moving average of the weights, e.g. 0.999; 0: none.", OPTIMISER, least=0, below=1)
    precision: str = _option("no", "no (float32), bf16 or fp16.", OPTIMISER, words=PRECISIONS)
    seed: int = _option(0, "Of initialisation, order and augmentation.", RUN, least=0, below=2**63)
    workers: int = _option(0, "Processes that load data, each with PyTorch in it.", RUN, least=0, below=65, free=True)
    save_every: int = _option(1, "Epochs between checkpoints.", RUN, least=1, free=True)
    val_split: str | None = _option(None, "Measure mAP on this split after each epoch.")
    pictures: bool = _option(False, "Draw detections into OUT/pictures after each epoch.", RUN, free=True)
    tensorboard: bool = _option(False, "Write OUT/tensorboard; needs the package tensorboard.", RUN, free=True)
    resume: bool = _option(False, "Go on from the last checkpoint in --out.", free=True)
    progress: bool = _option(True, "Show a bar, in a terminal.", RUN, free=True)

    def loss(self):
        """The `JointLoss` that these settings mean; `ValueError` if there is none."""
        from ..losses import JointLoss

        weights, exits = self.exit_weights, self.exits
        if weights is not None and not len(weights) == len(exits) == len(set(exits)):
            each = "exit_weights must be one number for each of the exits, all different"
            raise ValueError(f"{each}, got {weights} for {exits}")
        by_exit = None if weights is None else dict(zip(exits, weights, strict=True))
        return JointLoss(self.theta, self.lambda_, exits, by_exit, self.distillation)

    def changed(self) -> dict[str, Any]:
        """The settings that are not at their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


FREE_TO_CHANGE = {option.name for option in fields(TrainSettings) if option.metadata["free"]}


def check_settings(s: TrainSettings) -> None:
    """`ValueError` that shows the first value that no training can have, before anything is read or written."""
    from ..losses import EXIT_TARGETS, check_exits
    from ..model.backbone import FIRST_READS
    from ..model.factories import DETECTORS
    from ..model.heads import FILLERS
    from ..model.trunks import check_trunk_name

    known = {"model": tuple(DETECTORS), "filler": (*FILLERS, "learned"), "exit_target": EXIT_TARGETS}
    known["first_read"] = FIRST_READS
    for option in fields(s):
        value, about = getattr(s, option.name), option.metadata
        words = known.get(option.name, about["words"])
        if words and value not in words:
            raise ValueError(f"{option.name} must be one of {words}, got {value!r}")
        if isinstance(option.default, int) and isinstance(value, float):
            raise ValueError(f"{option.name} must be a whole number, got {value}")
        if isinstance(value, int | float) and not about["least"] <= value < about["below"]:
            raise ValueError(f"{option.name} must be {_limits(about['least'], about['below'])}, got {value}")
    s.loss()
    check_exits("opinions", s.opinions)
    if s.trunk is not None:
        check_trunk_name(s.trunk)
    if s.widths is not None and s.filler != "learned":
        raise ValueError(f"widths are those of filler 'learned', got widths={s.widths} and filler={s.filler!r}")
    _check_beginning(s)
    given = {f.name: getattr(s, f.name) for f in fields(s) if f.metadata["detect"] and f.name in s.changed()}
    if s.task == "classify" and given:
        got = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(f"the task 'classify' trains no detector and has no use for {got}: leave that out")


def _limits(least: float, below: float) -> str:
    if least == math.ulp(0):
        return "a finite number above 0"
    return f"a finite number from {least} on" if below == math.inf else f"at least {least} and below {below}"


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


def option_name(name: str) -> str:
    """A setting as it stands on the command line: "--batch-size" for "batch_size"."""
    return "--" + name.rstrip("_").replace("_", "-")


def as_options(values: dict[str, Any]) -> list[str]:
    """Settings by name as words of a command line that give them."""
    words: list[str] = []
    for name, value in values.items():
        option = option_name(name)
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words


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
# At 480 pixels, for one GPU of 15 GB.
_COLAB = {"min_size": 480, "max_size": 800, "epochs": 6, "batch_size": 8, "precision": "fp16", "workers": 2}
_COLAB |= {"optimizer": "adamw", "lr": 2e-4, "weight_decay": 0.05, "schedule": "cosine", "clip": 1.0}

_NANO = (
    *("model", "theta", "lambda_", "distillation", "filler", "epochs", "batch_size", "optimizer", "lr"),
    *("weight_decay", "schedule", "warmup", "clip"),
)

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "nano": (
        "the small detector on the scenes; the defaults of the command",
        {name: getattr(TrainSettings, name) for name in _NANO},
    ),
    "paper-coco": ("the paper's recipe on COCO-Single", _PAPER),
    # 200 classes change nothing but the last layers; the paper names one recipe for both data sets.
    "paper-ilsvrc": ("the paper's recipe on ILSVRC-Single", _PAPER),
    "colab": ("the paper's detector on COCO-Single at 480 pixels, for one GPU of 15 GB", {**_PAPER, **_COLAB}),
}


def preset(name: str) -> dict[str, Any]:
    """What a preset sets, as fields of `TrainSettings`; `ValueError` if there is none of that name."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}")
    return dict(PRESETS[name][1])


def check_resumable(
    settings: TrainSettings, out: Path, images: int, classes: list[str] | None = None, digest: str | None = None
) -> None:
    """`ValueError` unless `resume` is set and the run in `out` was made with the same settings and data.

    Images (their number), classes and digest (of annotations and files, see `hash_data`) are those of the data now.
    Where the run has a digest, too, it decides whether the data are the same, and not how their path is spelled.
    """
    if not settings.resume:
        raise ValueError(f"{str(out)!r} already holds a run: add --resume to go on with it, or choose another --out")
    from ..weights import refuse_removed

    story = _read_story(out / "settings.json")
    refuse_removed(story["settings"], out)
    known = digest is not None and "digest" in story
    # Where batch normalisation uses the batch, another `accumulate` changes its statistics a little.
    but = {option.name for option in fields(settings) if option.metadata["free"]} | ({"data"} if known else set())
    changed = changes(*(as_json(values, but, type(settings)) for values in (story["settings"], asdict(settings))))
    if changed:
        more = f"; to train on, begin another run from it: --warm-start {out} --out ..." if "epochs" in changed else ""
        raise ValueError(f"{str(out)!r} was trained with other settings: {', '.join(changed.values())}{more}")
    if story.get("images", images) != images:
        raise ValueError(f"{str(out)!r} was trained on {story['images']} images, the split now has {images}")
    if classes is not None and story.get("classes", classes) != classes:
        raise ValueError(f"{str(out)!r} was trained on the classes {story['classes']}, the split now has {classes}")
    if known and story["digest"] != digest:
        changed = "its annotations or photos have changed since"
        raise ValueError(f"{str(out)!r} was trained on other data than {settings.data!r} holds now: {changed}")


def as_json(given: Mapping[str, Any], but: Set[str], kind: type = TrainSettings) -> dict[str, Any]:
    """Settings as JSON gives them back, lists for tuples, without those named in `but`.

    A setting that `given` lacks came after it, and its default is what was done.
    """
    values = {option.name: given.get(option.name, option.default) for option in fields(kind) if option.name not in but}
    return json.loads(json.dumps(values))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What each value was and is, in words, where it is another one."""
    return {name: f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in now if before.get(name) != now[name]}


def _read_story(path: Path) -> dict:
    try:
        story = json.loads(path.read_text())
        return {**story, "settings": dict(story["settings"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is missing or damaged: put it back, or choose another --out") from None
