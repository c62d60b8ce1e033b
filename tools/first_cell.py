"""Give every chapter the first code cell of 01_data.ipynb, which finds the package, installs it or says what to do.

first_cell.py            copy that cell into the other chapters
first_cell.py --check    only compare; exit status 1 if a chapter has another one
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from only_check import only_check

ROOT = Path(__file__).resolve().parent.parent


def first_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The first code cell of a chapter."""
    return next(cell for cell in notebook.cells if cell.cell_type == "code")


def differing(book: Path) -> list[Path]:
    """The chapters whose first code cell is not that of 01_data.ipynb."""
    wanted = first_cell(nbformat.read(book / "01_data.ipynb", as_version=4))
    chapters = sorted(book.glob("*.ipynb"))
    return [path for path in chapters if first_cell(nbformat.read(path, as_version=4)) != wanted]


def write(book: Path) -> list[Path]:
    """Copy the cell into the chapters that differ, in place of one of the same id or else as a new one; name them."""
    wanted = first_cell(nbformat.read(book / "01_data.ipynb", as_version=4))
    changed = differing(book)
    for path in changed:
        notebook = nbformat.read(path, as_version=4)
        place = notebook.cells.index(first_cell(notebook))
        same = notebook.cells[place].id == wanted.id
        notebook.cells[place : place + same] = [wanted]
        nbformat.write(notebook, path)
    return changed


def main() -> int:
    """Copy or compare; return the exit status."""
    if only_check(__doc__):
        problems = [f"{path.name}: another first code cell than 01_data.ipynb" for path in differing(ROOT / "book")]
        print("\n".join(problems) or "the first cell is the same in all chapters")
        return 1 if problems else 0
    print("\n".join(f"wrote {path.name}" for path in write(ROOT / "book")) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main())
