"""The line **Time** of each chapter: python tools/minutes.py [--run] [book/04_detector.ipynb ...].

minutes.py          write the chapters' lines, and their sum for lecturers
minutes.py --run    run the chapters first, and keep in book/minutes.json how long each took; `make minutes`

Minutes to read and for the exercises follow from what a chapter holds. Seconds to run are measured: those of the
processor on one thread, from the start of Python to the last cell, so that a machine with other work gives nearly what
an idle one does. Until a chapter has been measured its line keeps the words it has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from earlyexit.files import provenance

BOOK = Path(__file__).resolve().parent.parent / "book"
FOLDED = ("hide-input", "hide-cell", "remove-cell", "remove-input")
EXERCISE = {"warm-up": 3, "core": 5, "stretch": 8}  # minutes
ASKS = re.compile(r"(?m)^### Exercise: .*\((warm-up|core|stretch)\)")
LINE = re.compile(r"\*\*Time\*\*: \d+ minutes to read, (.+?) to run, \d+ minutes for the exercises\.")
SUM = re.compile(r"Together: \d+ minutes to read,\s\d+ minutes for the exercises, (.+?) to run on one core\.")


def to_read(notebook: nbformat.NotebookNode) -> int:
    """Minutes, in fives, by one rule for all chapters.

    200 words, 12 lines of visible code or 30 printed lines a minute; half a minute for each figure, and for each
    question before its answers are read. Exercises are counted apart.
    """
    prose = " ".join(cell.source for cell in of_kind(notebook, "markdown") if not ASKS.search(cell.source))
    words = re.sub(r"<[^>]+>|\]\([^)]*\)|[|*#`$\\{}_]", " ", prose).split()
    code = of_kind(notebook, "code")
    shown = [cell for cell in code if not set(cell.metadata.get("tags", [])) & set(FOLDED)]
    read = [cell for cell in shown if not cell.id.startswith(("stub-", "check-"))]
    lines = sum(bool(line.strip()) for cell in read for line in cell.source.splitlines())
    outputs = [output for cell in code for output in cell.outputs]
    printed = sum(bool(line.strip()) for output in outputs for line in output.get("text", "").splitlines())
    figures = sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)
    spoken = sum(bool(re.search(r"\w", word)) for word in words)
    return in_fives(spoken / 200 + lines / 12 + printed / 30 + (figures + prose.count("**Guess first.**")) / 2)


def for_exercises(notebook: nbformat.NotebookNode) -> int:
    """Minutes, in fives."""
    text = "\n\n".join(cell.source for cell in of_kind(notebook, "markdown"))
    return in_fives(sum(EXERCISE[kind] for kind in ASKS.findall(text)))


def of_kind(notebook: nbformat.NotebookNode, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def in_fives(minutes: float) -> int:
    return 5 * math.ceil(minutes / 5)


def in_words(seconds: float) -> str:
    """Seconds as a reader says them: to half a minute, and never less than that."""
    halves = max(1, round(seconds / 30))
    whole, half = divmod(halves, 2)
    if halves <= 3:
        return ("half a minute", "a minute", "a minute and a half")[halves - 1]
    return f"{whole} and a half minutes" if half else f"{whole} minutes"


def line(notebook: nbformat.NotebookNode, seconds: float | None) -> str:
    """What a chapter should promise; without measured seconds it keeps its words for them."""
    (said,) = (found[1] for cell in notebook.cells if (found := LINE.search(cell.source)))
    to_run = said if seconds is None else in_words(seconds)
    exercises = for_exercises(notebook)
    return f"**Time**: {to_read(notebook)} minutes to read, {to_run} to run, {exercises} minutes for the exercises."


def together(text: str, notebooks: list[nbformat.NotebookNode], seconds: list[float | None]) -> str:
    """What lecturers should read of all chapters; without all seconds it keeps its words for them."""
    to_run = SUM.search(text)[1] if None in seconds else f"{in_fives(sum(seconds) / 60)} minutes"
    read, exercises = sum(map(to_read, notebooks)), sum(map(for_exercises, notebooks))
    return f"Together: {read} minutes to read,\n{exercises} minutes for the exercises, {to_run} to run on one core."


def run(path: Path) -> float:
    """Seconds of the processor that a chapter takes, Python's start included; nothing is stored."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(nbformat.read(path, as_version=4), timeout=3600, resources=resources).execute()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(book: Path) -> dict[str, dict]:
    """{chapter: seconds, date, commit and machine} of those that have been run."""
    file = book / "minutes.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write(book: Path) -> None:
    """Write the line of each chapter and the sum of all."""
    paths = sorted(book.glob("[0-9]*.ipynb"))
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    seconds = [measured(book).get(path.stem, {}).get("seconds") for path in paths]
    for path, notebook, taken in zip(paths, notebooks, seconds, strict=True):
        wanted = line(notebook, taken)
        for cell in of_kind(notebook, "markdown"):
            cell.source = LINE.sub(wanted, cell.source)
        nbformat.write(notebook, path)
    page = book / "lecturers.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(SUM.sub(together(text, notebooks, seconds), text), encoding="utf-8")


def main() -> None:
    """Measure if asked to, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", type=Path, default=sorted(BOOK.glob("[0-9]*.ipynb")))
    parser.add_argument("--run", action="store_true", help="run the chapters and keep how long each took")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for path in given.chapters if given.run else ():
        about = provenance()
        seconds = round(run(path), 1)
        found = {"seconds": seconds, **{key: about[key] for key in ("date", "commit", "machine")}}
        kept = dict(sorted({**measured(BOOK), path.stem: found}.items()))
        (BOOK / "minutes.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"{path.name}: {seconds} s", flush=True)
    write(BOOK)


if __name__ == "__main__":
    main()
