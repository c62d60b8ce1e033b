"""Whether a run may be gone on with."""

import json
from dataclasses import asdict
from pathlib import Path

from .settings import TrainSettings
from .weights.card import refuse_removed

# What may differ between a run and its resumption. The order and the augmentation depend on none of these. Where
# batch normalisation uses the batch (norm="batch"), another split of a step into parts changes its statistics a little.
FREE_TO_CHANGE = {"out", "resume", "progress", "workers", "accumulate", "save_every", "pictures", "tensorboard"}


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
