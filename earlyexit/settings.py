"""Everything that decides how a training ends, and whether a run may be gone on with."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

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
    keep_classifiers: bool = True
    freeze: int = 0
    norm: str = "batch"
    theta: float = 0.0115
    lambda_: float = 1.0
    distillation: float = 0.5
    exits: tuple[int, ...] = (4,)
    exit_target: str = "single"
    filler: str = "downsample"
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


def check_resumable(settings: TrainSettings, out: Path, images: int) -> None:
    """`ValueError` unless `resume` is set and the run in `out` was made with the same settings and data.

    Args:
        settings: those of now.
        out: the folder of the run.
        images: size of the data set now.
    """
    if not settings.resume:
        raise ValueError(f"{str(out)!r} already holds a run: add --resume to go on with it, or choose another --out")
    story = json.loads((out / "settings.json").read_text())
    now = json.loads(json.dumps(asdict(settings)))
    # A setting that the run does not know came after it, and its default is what the run did.
    defaults = {f.name: f.default for f in fields(settings)}
    before = {name: story["settings"].get(name, defaults[name]) for name in now}
    changed = [name for name in now if name not in FREE_TO_CHANGE and before[name] != now[name]]
    if changed:
        what = ", ".join(f"{name} was {before[name]!r}, is {now[name]!r}" for name in changed)
        raise ValueError(f"{str(out)!r} was trained with other settings: {what}")
    if story.get("images", images) != images:
        raise ValueError(f"{str(out)!r} was trained on {story['images']} images, the split now has {images}")
