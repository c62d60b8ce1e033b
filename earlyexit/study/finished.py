"""Results of a study as files: one JSON for each model, tables as CSV, and the finished study that the chapters open.

The file of a model is the unit in which the study is resumed, also on another machine.
"""

import hashlib
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..data.coco import SPLITS, coco_split
from ..files import plain, read_table, write_whole
from ..training.settings import FREE_TO_CHANGE, TrainSettings, as_json, changes
from ..weights import refuse_removed

RESULTS = Path(__file__).parent / "results"  # those that come with the package
WIDTH = 76  # of what is printed
_ELSEWHERE = FREE_TO_CHANGE | {"data", "out"}  # where things lie decides nothing


def model_path(out: str | Path, name: str) -> Path:
    """The file with all numbers of one model."""
    return Path(out) / "models" / f"{name}.json"


def load_models(out: str | Path) -> dict[str, dict]:
    """All models that have been measured, by name; `ValueError` names a file that holds something else."""
    return {path.stem: _read_model(path) for path in sorted((Path(out) / "models").glob("*.json"))}


def _read_model(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no result of the study ({error}): remove it to measure again") from None


def write_model(path: Path, value: dict) -> None:
    """Write compact JSON, whole or not at all; NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line for each kind of numbers, so that a change shows where it is.
    text = text.replace('},"', '},\n"').replace('],"', '],\n"')
    write_whole(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def limits(thresholds: Sequence[float | None]) -> list[float]:
    """Thresholds as they were before `plain`: None stands for never."""
    return [math.inf if threshold is None else threshold for threshold in thresholds]


def describe_data(folder: str | Path) -> dict[str, dict]:
    """The splits by what decides results: {"train": {"images": n, "annotations": hash}, "calibration": ..., ...}.

    The bytes of the images are left out: another JPEG library writes other bytes for the same scene.
    """
    described = {}
    for split in SPLITS:
        dataset = coco_split(folder, split)
        digest = hashlib.sha256(json.dumps([dataset.classes, dataset.category_ids]).encode())
        for image_id in dataset.ids:
            info = dataset.coco.imgs[image_id]
            boxes = [[a["category_id"], a["bbox"]] for a in dataset.objects(image_id)]
            digest.update(json.dumps([image_id, info["width"], info["height"], boxes]).encode())
        described[split] = {"images": len(dataset), "annotations": digest.hexdigest()[:16]}
    return described


def deciding(settings: TrainSettings | dict) -> dict:
    """Settings without those that decide nothing, as JSON gives them back; what a dict lacks has its default."""
    return as_json(settings if isinstance(settings, dict) else asdict(settings), _ELSEWHERE)


def check_model(path: Path, settings: TrainSettings, data: dict, repeats: int) -> bool:
    """Whether a model has been measured already; `ValueError` if with other settings or data: none is replaced."""
    if not path.exists():
        return False
    found = _read_model(path)
    refuse_removed(found["settings"], path)
    before = {**deciding(found["settings"]), **found["data"], "repeats": found["repeats"]}
    changed = changes(before, {**deciding(settings), **data, "repeats": repeats})
    if changed:
        what = ", ".join(changed.values())
        raise ValueError(f"{str(path)!r} was made with other settings: {what}. Choose another --out, or remove it")
    return True


@dataclass(frozen=True)
class Models:
    """The results of all models of a study by name, as `load_models` gives them; and by what they are compared for."""

    by_name: dict[str, dict]

    def group(self, group: str) -> list[dict]:
        """The models of a group; those of baseline and proposed in the order of their seeds."""
        found = [model for model in self.by_name.values() if model["group"] == group]
        return sorted(found, key=lambda model: (model["settings"]["seed"], model["name"]))

    def pairs(self, first: str, second: str) -> tuple[list[dict], list[dict]]:
        """The models of two groups with the seeds that both have."""
        groups = [{m["settings"]["seed"]: m for m in self.group(group)} for group in (first, second)]
        seeds = [seed for seed in groups[0] if seed in groups[1]]
        return tuple([group[seed] for seed in seeds] for group in groups)

    def grid(self) -> dict[tuple[float, float], dict]:
        """The models of the grid by (theta, lambda)."""
        return {(m["settings"]["theta"], m["settings"]["lambda_"]): m for m in self.group("grid")}

    def fair(self) -> dict[str, dict]:
        """The models that were each trained with its own way to fill missing levels, "downsample" or "zero", by it."""
        return {m["name"].removeprefix("fair-"): m for m in self.group("fair")}

    def main(self) -> dict[str, list[dict]]:
        """The groups that have seeds, as far as they are there."""
        return {group: self.group(group) for group in ("baseline", "proposed") if self.group(group)}

    def series(self) -> dict[str, list[dict]]:
        """Groups of seeds as one, all others one by one."""
        return self.main() | {m["name"]: [m] for group in ("fair", "grid") for m in self.group(group)}


class Study:
    """What a study found: the tables, verdicts and story that `earlyexit study` and `earlyexit beyond` wrote.

    Attributes:
        folder: where it lies; `ValueError` if no finished study lies there.
        summary: the verdicts, see `summarise`.
        manifest: how the results came about.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ValueError(f"{str(folder)!r} holds no finished study: `earlyexit study --out {folder}` makes one")
        names = ("study_summary", "manifest")
        self.summary, self.manifest = (json.loads((self.folder / f"{n}.json").read_text("utf-8")) for n in names)

    def table(self, name: str) -> list[dict]:
        """The rows of one of the CSV files, numbers as numbers."""
        known = sorted(path.stem for path in self.folder.glob("*.csv"))
        if name not in known:
            raise ValueError(f"the tables of this study are {', '.join(known)}, got {name!r}")
        return read_table(self.folder / f"{name}.csv")

    def claim(self, name: str) -> dict:
        """The verdict on one claim by its name."""
        found = {row["name"]: row for row in self.summary["claims"]}
        if name not in found:
            raise ValueError(f"the claims are {', '.join(found)}, got {name!r}")
        return found[name]

    def verdict(self, *names: str) -> str:
        """Some of the claims as text: what the paper says, its figures, ours, and whether it holds here."""
        return "\n\n".join(_in_words(self.claim(name)) for name in names)

    def __str__(self) -> str:
        m = self.manifest
        hours = sum(m["seconds"].values()) / 3600
        images = ", ".join(f"{m['data'][split]['images']:,} {split}" for split in SPLITS)
        lines = [f"{len(m['models'])} models, seeds {', '.join(map(str, m['seeds']))}; images: {images}", m["command"]]
        lines.append(f"{m['date']}, commit {m['commit']}, {m['machine']}, {hours:.1f} process hours")
        return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)


def _in_words(claim: dict) -> str:
    paper = claim["paper"]
    if isinstance(paper, dict):
        paper = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in paper.items())
    lines = [f"published: {paper}", f"here: {interval_text(claim)}; holds: {claim['holds']}", claim.get("detail") or ""]
    lines = [f"{claim['claim']} ({claim['where']})", *(f"  {line}" for line in lines if line)]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def interval_text(claim: dict) -> str:
    """What was measured on a claim: "+1.20 points of mAP (+0.40 to +2.00)"."""
    ours = claim["ours"]
    if None in ours.values():
        return "not to be measured"
    return f"{ours['mean']:+.2f} {claim['unit']} ({ours['low']:+.2f} to {ours['high']:+.2f})"


def gpu_times() -> dict | None:
    """What `make gpu` measured: "device", ... and rows of "latency" and "policies"; None if it ran on no GPU yet."""
    path = RESULTS / "gpu" / "times.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def open_study(data: str = "scenes") -> Study:
    """The study of one kind of data that comes with the package; `ValueError` if there is none."""
    return Study(RESULTS / data)
