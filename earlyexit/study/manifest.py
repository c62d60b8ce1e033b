"""How the results came about, and whether the code has changed since."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy

from ..commands import write_json
from ..provenance import provenance
from .fingerprint import differing, fingerprint

PACKAGE = Path(__file__).resolve().parents[1]
# What decides no number of the study. Everything else counts, so that a new file is not forgotten.
_DECIDES_NOTHING = (
    "__init__.py",
    "__main__.py",
    "beyond",
    "beyond_command.py",
    "cli.py",
    "course.py",
    "exporting.py",
    "data/__init__.py",
    "data/single.py",
    "freezing.py",
    "inference.py",
    "onnx_command.py",
    "onnx_detector.py",
    "onnx_parts.py",
    "onnx_export.py",
    "photos.py",
    "plots.py",
    "published.py",
    "records/best_case.py",
    "study/__init__.py",
    "study/finished.py",
    "study/fingerprint.py",
    "study/jobs.py",
    "study/limits.py",
    "study/manifest.py",
    "study/plots.py",
    "study/plots_costs.py",
    "study/runner.py",
    "study/trainings.py",
    "study_command.py",
    "tracking.py",
    "train_command.py",
)
_INITIAL = "weights/scenes-pretrained.safetensors"


def source_hashes(package: Path = PACKAGE) -> dict[str, str]:
    """The files that decide the results by path inside the package, each with a hash of its content."""
    names = (path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    wanted = [name for name in names if not _decides_nothing(name)]
    wanted += [_INITIAL] if (package / _INITIAL).exists() else []
    wanted += [path.relative_to(package).as_posix() for path in (package / "study" / "paper_data").glob("*")]
    return {name: _hash(package / name) for name in sorted(wanted)}


def write_manifest(out: Path, *, command: str, models: Iterable[dict], seconds: dict, about: dict) -> None:
    """Write `manifest.json` beside the results.

    Args:
        out: the folder of results.
        command: that made them.
        models: the models' results, whose seconds are summed up.
        seconds: of what is not done model by model.
        about: what else is worth knowing, such as the data.
    """
    models = list(models)
    parts = {part: sum(model["seconds"][part] for model in models) for part in ("training", "images", "numbers")}
    made = [{key: model[key] for key in ("name", "commit", "date", "machine")} for model in models]
    value = {
        "command": command,
        **provenance(),
        "numpy": numpy.__version__,
        "seeds": sorted({model["settings"]["seed"] for model in models}),
        **about,
        "seconds": {name: round(value, 1) for name, value in (parts | seconds).items()},
        "models": made,
        "sources": source_hashes(),
        "fingerprint": fingerprint(),
    }
    write_json(out / "manifest.json", value)


def check_manifest(out: str | Path, package: Path = PACKAGE) -> list[str]:
    """The files, in order, that were changed, added or removed since the results in `out` were made.

    Raises:
        ValueError: if there are no results.
    """
    before, now = _read(out, "sources"), source_hashes(package)
    return [name for name in sorted(before | now) if before.get(name) != now.get(name)]


def check_numbers(out: str | Path) -> list[str]:
    """The numbers of the `fingerprint` that the code as it is gives differently than when `out` was made; seconds.

    If there are none, what `check_manifest` lists was rewritten without a change of results, as far as a sample tells.
    """
    return differing(_read(out, "fingerprint"), fingerprint())


def _read(out: str | Path, part: str) -> dict:
    path = Path(out) / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{str(out)!r} holds no manifest.json: run `earlyexit study` first, or give --out")
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))[part]}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is damaged: run `earlyexit study` again, or give another --out") from None


def _decides_nothing(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}/") for other in _DECIDES_NOTHING)


def _hash(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        content = content.replace(b"\r\n", b"\n")  # as git may check it out on Windows
    return hashlib.sha256(content).hexdigest()[:16]
