"""Homework from one source: python tools/homework.py

Each `book/homework/source/hwN.ipynb` is a notebook in nbgrader's form: what lies between "### BEGIN SOLUTION" and
"### END SOLUTION" is the answer, between "### BEGIN HIDDEN TESTS" and "### END HIDDEN TESTS" is for the lecturer. This
writes `earlyexit/homework/release/hwN.ipynb` for students, which comes with the package, `_build/homework/solutions/`
for lecturers, and one zip of the release with its version. A release that somebody has changed is not written over.

homework.py --check    only compare the release with its sources; exit status 1 if it differs
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

import nbformat

import earlyexit

ROOT = Path(__file__).resolve().parent.parent
SOURCE, RELEASE, BUILT = (ROOT / p for p in ("book/homework/source", "earlyexit/homework/release", "_build/homework"))
SOLUTION = re.compile(r"^(?P<indent> *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n?", re.DOTALL | re.MULTILINE)
HIDDEN = re.compile(r"^ *### BEGIN HIDDEN TESTS\n.*?^ *### END HIDDEN TESTS\n?", re.DOTALL | re.MULTILINE)
MARKERS = re.compile(r"^ *### (BEGIN|END) (SOLUTION|HIDDEN TESTS)\n?", re.MULTILINE)


def released(source: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What students get: no answers, no hidden tests, no outputs."""
    notebook = copy.deepcopy(source)
    for cell in notebook.cells:
        cell.source = HIDDEN.sub("", SOLUTION.sub(r"\g<indent>...  # your turn\n", cell.source)).rstrip()
        if re.search(r"### (BEGIN|END) ", cell.source):
            raise ValueError(f"cell {cell.id!r} has a region that does not begin or end: {cell.source!r}")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells = [cell for cell in notebook.cells if cell.source]  # a cell of hidden tests alone
    return notebook


def solved(source: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What lecturers get: the answers and the hidden tests, without their markers."""
    notebook = copy.deepcopy(source)
    for cell in notebook.cells:
        cell.source = MARKERS.sub("", cell.source).rstrip()
    return notebook


def write(folder: Path, notebooks: dict[str, nbformat.NotebookNode]) -> list[Path]:
    """Write notebooks into a folder, and return those that were left because somebody has changed them.

    `written.json` beside them says what was written last; a file that is neither that nor the new one is not ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    list_of_written = folder / "written.json"
    known = json.loads(list_of_written.read_text()) if list_of_written.exists() else {}
    changed = []
    for name, notebook in notebooks.items():
        path, text = folder / name, nbformat.writes(notebook) + "\n"
        if path.exists() and _digest(path.read_text()) not in (known.get(name), _digest(text)):
            changed.append(path)
            continue
        path.write_text(text)
        known[name] = _digest(text)
    list_of_written.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return changed


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pack(folder: Path, out: Path) -> Path:
    """One zip of the notebooks in a folder, with the version in its name; the same notebooks make the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"homework-{earlyexit.__version__}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.glob("*.ipynb")):
            archive.writestr(zipfile.ZipInfo(f"homework/{path.name}"), path.read_bytes())
    return target


def main() -> int:
    """Write or compare; return the exit status."""
    from only_check import only_check  # beside this file, which a benchmark loads from afar

    check = only_check(__doc__)
    sources = {path.name: nbformat.read(path, as_version=4) for path in sorted(SOURCE.glob("*.ipynb"))}
    release = {name: released(source) for name, source in sources.items()}
    if check:
        there = {path.name: path.read_text() for path in RELEASE.glob("*.ipynb")}
        differ = [name for name in release if there.get(name) != nbformat.writes(release[name]) + "\n"]
        print(
            "\n".join(f"{name}: the release is not that of its source" for name in differ) or "releases are up to date"
        )
        return int(bool(differ))
    changed = write(RELEASE, release)
    write(BUILT / "solutions", {name: solved(source) for name, source in sources.items()})
    for path in changed:
        print(f"{path} was changed since it was written: it is left as it is; move it away to get the new one")
    print(f"{len(release) - len(changed)} assignments in {RELEASE}, {pack(RELEASE, BUILT)}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
