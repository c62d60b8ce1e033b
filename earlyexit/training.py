"""What `earlyexit train` does: from a COCO-layout folder and settings to a run folder that tells its own story."""

import datetime
import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torchvision

from . import __version__
from .data.coco import coco_split, train_transforms
from .engine import fit
from .files import write_whole
from .models import load_backbone, make_classifier, make_detector, reset_classifiers

TASKS = ("detect", "classify")
# What may differ between a run and its resumption without changing its result.
FREE_TO_CHANGE = {"out", "resume", "progress"}  # not the workers: each flips images by random numbers of its own


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides how a run ends; `earlyexit train --help` says what each is."""

    data: str
    out: str
    split: str = "train"
    task: str = "detect"
    model: str = "nano"
    init: str | None = None
    keep_classifiers: bool = True
    theta: float = 0.0115
    lambda_: float = 1.0
    distillation: float = 0.5
    exits: tuple[int, ...] = (4,)
    exit_target: str = "single"
    filler: str = "downsample"
    allow_empty: bool = False
    epochs: int = 6
    batch_size: int = 16
    lr: float = 1e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 1.0
    precision: str = "no"
    seed: int = 0
    workers: int = 0
    resume: bool = False
    progress: bool = True


def train(
    settings: TrainSettings, command: str = "", on_epoch: Callable[[dict], object] = lambda row: None
) -> list[dict[str, float]]:
    """Train a detector or a classifier as `settings` say.

    Args:
        settings: what to train, on what and how.
        command: kept in the run's `settings.json`.
        on_epoch: called with the row of each epoch once it is saved.
    """
    if settings.task not in TASKS:
        raise ValueError(f"task must be one of {TASKS}, got {settings.task!r}")
    out = Path(settings.out)
    if (out / "checkpoint.pt").exists():
        check_resumable(settings, out)
    dataset = coco_split(settings.data, settings.split, train_transforms())
    torch.manual_seed(settings.seed)
    model = _make_model(settings, len(dataset.classes))
    about = {"task": settings.task, "model": settings.model, "classes": dataset.classes}
    if settings.task == "detect":
        about["filler"] = settings.filler
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "checkpoint.pt").exists():  # a resumed run keeps the story of its beginning
        story = {"command": command, "settings": asdict(settings), **about, **provenance()}
        write_whole(out / "settings.json", lambda path: path.write_text(json.dumps(story, indent=1)))
    names = "epochs batch_size lr optimizer weight_decay schedule warmup clip precision seed workers resume progress"
    how = {name: getattr(settings, name) for name in names.split()}
    return fit(model, dataset, out, about=about, on_epoch=on_epoch, **how)


def _make_model(s: TrainSettings, num_classes: int) -> torch.nn.Module:
    if s.task == "classify":
        model = make_classifier(s.model, num_classes)
        model.distillation = s.distillation
    else:
        loss = {"theta": s.theta, "lambda_": s.lambda_, "distillation": s.distillation}
        where = {"exits": s.exits, "exit_target": s.exit_target, "filler": s.filler, "allow_empty": s.allow_empty}
        model = make_detector(s.model, num_classes, **loss, **where)
    if s.init:
        fresh = load_backbone(model.backbone, s.init, classifiers=s.keep_classifiers)
        if fresh:
            # With the seed of the pretraining, fresh classifiers would be those that it started from, and its
            # backbone knows them: they guess well untrained. So they are drawn again, from another stream.
            torch.manual_seed(s.seed + 1_000_000)
            reset_classifiers(model.backbone)
    return model.to(memory_format=torch.channels_last)


def check_resumable(settings: TrainSettings, out: Path) -> None:
    """`ValueError` unless `resume` is set and the run in `out` was made with the same settings."""
    if not settings.resume:
        raise ValueError(f"{str(out)!r} already holds a run: add --resume to go on with it, or choose another --out")
    before = json.loads((out / "settings.json").read_text())["settings"]
    now = json.loads(json.dumps(asdict(settings)))
    changed = [f.name for f in fields(settings) if f.name not in FREE_TO_CHANGE and before.get(f.name) != now[f.name]]
    if changed:
        what = ", ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)
        raise ValueError(f"{str(out)!r} was trained with other settings: {what}")


def provenance() -> dict[str, str]:
    """Date, commit, versions and machine, for cards and result files."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    libraries = {"earlyexit": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    return {"date": datetime.date.today().isoformat(), "commit": commit, "versions": libraries, "machine": machine}
