"""Tell what is wrong with a chapter, stored or built: python tools/check_notebooks.py [book/a.ipynb ...].

A failing `%run` or `!` does not stop a build, so `make book` looks through the pages that it has built, too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
# A path of somebody's machine, in the source or in an output.
MACHINE_PATH = re.compile(r"(/home/\w+|/Users/\w+|/root/|/tmp/|/content/|[A-Z]:\\\\?Users)")
# What a command after `!` leaves behind when it fails; the cell ends well all the same.
FAILED_COMMAND = re.compile(r".*command not found.*|Traceback \(most recent call last\).*")


def alt_text(cell: nbformat.NotebookNode) -> str:
    """Return the text for readers who do not see the pictures of a cell."""
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()


def check_cell(cell: nbformat.NotebookNode) -> list[str]:
    """List what is wrong with one cell."""
    problems = []
    outputs = cell.get("outputs", [])
    expects_error = "raises-exception" in cell.metadata.get("tags", [])
    if any(output.output_type == "error" for output in outputs) and not expects_error:
        problems.append("stores an error")
    if any(output.get("name") == "stderr" for output in outputs):
        problems.append("stores text of stderr")
    if any("image/png" in output.get("data", {}) for output in outputs) and not alt_text(cell):
        problems.append('stores a picture but has no alt text (cell metadata "mystnb": {"image": {"alt": ...}})')
    skipped = "nbval-skip" in cell.metadata.get("tags", [])
    # nbval compares nothing for a cell without an execution count.
    if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None and not skipped:
        problems.append("was not run: `make notebooks` runs the chapters and stores their outputs")
    texts = [cell.source]
    for output in outputs:
        texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
    if found := MACHINE_PATH.search("\n".join(texts)):
        problems.append(f"names a path of one machine: {found[0]}")
    if not expects_error and (found := FAILED_COMMAND.search("\n".join(texts[1:]))):
        problems.append(f"shows a command that failed: {found[0]}")
    return problems


def check_notebook(path: Path) -> list[str]:
    """List what is wrong with one notebook, a line for each problem."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        return [f"{path.name}: not a valid notebook: {str(error).splitlines()[0]}"]
    return [
        f"{path.name}, cell {number}: {problem}"
        for number, cell in enumerate(notebook.cells, start=1)
        for problem in check_cell(cell)
    ]


def main() -> int:
    """Check the notebooks named on the command line, or all chapters; return the exit status."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "book").glob("*.ipynb"))
    problems = [problem for path in paths for problem in check_notebook(path)]
    print("\n".join(problems) or f"{len(paths)} notebooks are clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
