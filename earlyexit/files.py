"""Files that appear whole or not at all, what a result file says of how it came about, and how far a long work is."""

import contextlib
import csv
import datetime
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from . import __version__

EVERY = 30.0  # seconds between two lines of `progress`
Item = TypeVar("Item")


def write_whole(path: str | Path, write: Callable[[Path], object], *, sync: bool = True) -> Path:
    """Let `write` fill a temporary file beside `path`, then rename it: a crash leaves the old file or the new one.

    Without `sync` that does not hold for a crash of the machine, but of many files none waits for the disk.
    """
    with whole_file(path, sync=sync) as temporary:
        write(temporary)
    return Path(path)


@contextlib.contextmanager
def whole_file(path: str | Path, ending: str = "", *, sync: bool = True) -> Iterator[Path]:
    """A temporary file beside `path` to be filled, which takes its place at the end, unless an exception does.

    Its name has an `ending` of choice, for what is written by something that looks at it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp{ending}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some libraries make files that only their owner may read
        if sync:  # a rename must not overtake the content on its way to the disk
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def provenance() -> dict[str, str]:
    """Date, commit, versions and machine, for cards and result files."""
    import torch
    import torchvision

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    libraries = {"earlyexit": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    return {"date": datetime.date.today().isoformat(), "commit": commit, "versions": libraries, "machine": machine}


def check_file(option: str, path: Path | None, suffix: str = "") -> None:
    """`ValueError` unless `path`, if there is one, can become a file: its folder is there, and it is no folder."""
    if path is None:
        return
    if path.is_dir() or not path.name.lower().endswith(suffix):
        raise ValueError(f"{option} must be a{f' {suffix}' if suffix else ''} file, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {str(path.parent)!r}")


def write_json(path: Path, value: dict | list) -> Path:
    """Write JSON to a file that appears whole or not at all."""
    return write_whole(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n"))


def plain(value: Any) -> Any:
    """`value` with None instead of NaN and infinity, and lists instead of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: Path, rows: Sequence[dict]) -> None:
    """Write rows as CSV, whole or not at all; None becomes an empty field, what is no letter is written as in JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = text.getvalue().encode(errors="backslashreplace")
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def read_table(path: str | Path) -> list[dict]:
    """Read what `write_table` wrote: numbers as numbers, empty fields as None."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> float | int | str | None:
    try:
        return json.loads(text)
    except ValueError:
        return text or None


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one, while standard error says `what` is done and how many of the `total` there have been."""
    total = len(items) if total is None and hasattr(items, "__len__") else total
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, what, total, leave=False)
        return
    said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            sys.stderr.write(f"{what}: {number}{f' of {total}' if total else ''}\n")
            sys.stderr.flush()
