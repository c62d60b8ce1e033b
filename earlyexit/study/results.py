"""One JSON file for each model of the study: the unit in which the study is resumed, also on another machine."""

import hashlib
import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..data.coco import CocoDataset, coco_split
from ..files import write_whole
from ..resuming import FREE_TO_CHANGE
from ..settings import TrainSettings
from ..weights.card import refuse_removed

SPLITS = ("train", "calibration", "test")
_ELSEWHERE = FREE_TO_CHANGE | {"data", "out"}  # where things lie decides nothing


def model_path(out: str | Path, name: str) -> Path:
    """The file with all numbers of one model."""
    return Path(out) / "models" / f"{name}.json"


def load_models(out: str | Path) -> dict[str, dict]:
    """All models that have been measured, by name."""
    return {path.stem: read_model(path) for path in sorted((Path(out) / "models").glob("*.json"))}


def read_model(path: Path) -> dict:
    """What `write_model` wrote; `ValueError` if the file holds something else."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no result of the study ({error}): remove it to measure again") from None


def write_model(path: Path, value: dict) -> None:
    """Write compact JSON, whole or not at all; NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line for each filler and kind of numbers, so that a change shows where it is.
    text = text.replace('},"', '},\n"').replace('],"', '],\n"')
    write_whole(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def plain(value: Any) -> Any:
    """`value` with None instead of NaN and infinity, and lists instead of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_data(folder: str | Path) -> dict[str, dict]:
    """The splits by what decides results: {"train": {"images": n, "annotations": hash}, "calibration": ..., ...}.

    The bytes of the images are left out: another JPEG library writes other bytes for the same scene.
    """
    return {split: _describe(coco_split(folder, split)) for split in SPLITS}


def _describe(dataset: CocoDataset) -> dict:
    digest = hashlib.sha256(json.dumps([dataset.classes, dataset.category_ids]).encode())
    for image_id in dataset.ids:
        info = dataset.coco.imgs[image_id]
        boxes = [[a["category_id"], a["bbox"]] for a in dataset.objects(image_id)]
        digest.update(json.dumps([image_id, info["width"], info["height"], boxes]).encode())
    return {"images": len(dataset), "annotations": digest.hexdigest()[:16]}


def deciding(settings: TrainSettings | dict) -> dict:
    """Settings without those that decide nothing, as JSON gives them back; what a dict lacks has its default."""
    given = settings if isinstance(settings, dict) else asdict(settings)
    values = {f.name: given.get(f.name, f.default) for f in fields(TrainSettings) if f.name not in _ELSEWHERE}
    return json.loads(json.dumps(values))


def check_model(path: Path, settings: TrainSettings, data: dict, repeats: int) -> bool:
    """Whether a model has been measured already.

    Raises:
        ValueError: if the file is there, but with other settings or data: it is never replaced.
    """
    if not path.exists():
        return False
    found = read_model(path)
    refuse_removed(found["settings"], path)
    before = {**deciding(found["settings"]), **found["data"], "repeats": found["repeats"]}
    now = {**deciding(settings), **data, "repeats": repeats}
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        what = ", ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)
        raise ValueError(f"{str(path)!r} was made with other settings: {what}. Choose another --out, or remove it")
    return True
