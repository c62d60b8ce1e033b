"""Exercises from one source: stubs in the chapters, pages of solutions, wrong answers for the tests.

exercises.py            write the stub and check cells into the chapters, and the pages of solutions
exercises.py --check    only compare; exit status 1 if a chapter or a page differs

A source, `book/exercises/NN_name.py`, has cells that begin with "# %%": "setup" (imports, which chapter and solutions
share), then for each exercise "N.name LEVEL: Title" with the stub, "solution", and at least three times "wrong: part of
the message that it must get". LEVEL is warm-up, core or stretch. In the chapter a markdown cell asks; it is followed by
two code cells with the ids "stub-N-name" and "check-N-name", which this tool fills.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from only_check import only_check

BOOK = Path(__file__).resolve().parent.parent / "book"
LEVELS = ("warm-up", "core", "stretch")
TITLE = re.compile(r"(?P<name>\d+\.[a-z_0-9]+) (?P<level>[a-z-]+): (?P<title>.+)")


@dataclass
class Exercise:
    """One exercise of a source."""

    name: str  # "2.iou"
    level: str
    title: str
    setup: str
    stub: str
    solution: str = ""
    wrong: list[tuple[str, str]] = field(default_factory=list)  # part of the message, and the code

    @property
    def answer(self) -> str:
        """The name of the function, class or value that is checked: the exercise's own."""
        return self.name.split(".")[1]

    @property
    def check(self) -> str:
        """The code that checks the answer."""
        return f'from earlyexit import check\n\ncheck("{self.name}", {self.answer})'

    def cell(self, kind: str) -> str:
        """The id of its cell in the chapter: "stub" or "check"."""
        return f"{kind}-{self.name.replace('.', '-').replace('_', '-')}"


def sources(book: Path = BOOK) -> list[Path]:
    """The sources of all chapters."""
    return sorted((book / "exercises").glob("[0-9]*.py"))


def read(path: Path) -> list[Exercise]:
    """The exercises of a source, in their order; `ValueError` where it is not written as it should be."""
    found: list[Exercise] = []
    setup = ""
    for part in path.read_text().split("\n# %% ")[1:]:
        head, _, code = part.partition("\n")
        head, code = head.strip(), code.strip() + "\n"
        if head == "setup":
            setup = code
        elif match := TITLE.fullmatch(head):
            if match["level"] not in LEVELS:
                raise ValueError(f"{path.name}: the level of {match['name']} must be one of {LEVELS}")
            found.append(Exercise(**match.groupdict(), setup=setup, stub=code))
        elif head == "solution":
            found[-1].solution = code
        elif head.startswith("wrong: "):
            found[-1].wrong.append((head.removeprefix("wrong: "), code))
        else:
            raise ValueError(f"{path.name}: a cell is called {head!r}; see the top of tools/exercises.py")
    return found


def fill_chapter(path: Path, exercises: list[Exercise]) -> nbformat.NotebookNode:
    """The chapter with its stub and check cells as the source has them."""
    notebook = nbformat.read(path, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    for one in exercises:
        for kind, code in (("stub", one.stub), ("check", one.check)):
            if one.cell(kind) not in cells:
                raise ValueError(f"{path.name} has no cell {one.cell(kind)!r} for the exercise {one.name}")
            cells[one.cell(kind)].source = code.strip()
    return notebook


def solutions(path: Path, exercises: list[Exercise]) -> nbformat.NotebookNode:
    """The page of solutions to a chapter, and what running it would print: the tests make sure that each is right."""
    chapter = nbformat.read(path, as_version=4)
    title = next(c.source for c in chapter.cells if c.source.startswith("# ")).split("\n")[0].removeprefix("# ")
    first = next(cell for cell in chapter.cells if cell.cell_type == "code")
    cells = [
        new_markdown_cell(f"# Solutions to {title}\n\nBack to [the chapter](../{path.name}).", id="title"),
        new_code_cell(first.source, id=first.id, metadata=first.metadata),
        new_code_cell(exercises[0].setup.strip(), id="setup"),
    ]
    for one in exercises:
        key = one.cell("solution")
        cells.append(new_markdown_cell(f"## {one.title}\n\n`{one.name}`, {one.level}", id=f"title-{key}"))
        cells.append(new_code_cell(one.solution.strip(), id=key))
        said = new_output("execute_result", {"text/plain": f"{one.name}: right"})
        cells.append(new_code_cell(one.check, id=one.cell("check"), outputs=[said]))
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            output.execution_count = count
    return new_notebook(cells=cells, metadata=chapter.metadata)


def _parts_of(notebook: nbformat.NotebookNode) -> list[tuple]:
    return [(cell.id, cell.source, cell.get("outputs")) for cell in notebook.cells]


def main() -> int:
    """Write or compare; return the exit status."""
    check, differ = only_check(__doc__), []
    for source in sources():
        chapter = BOOK / f"{source.stem}.ipynb"
        page = BOOK / "solutions" / chapter.name
        exercises = read(source)
        for path, wanted in ((chapter, fill_chapter(chapter, exercises)), (page, solutions(chapter, exercises))):
            there = nbformat.read(path, as_version=4) if path.exists() else new_notebook()
            if _parts_of(there) != _parts_of(wanted):
                differ.append(path)
                if not check:
                    path.parent.mkdir(exist_ok=True)
                    nbformat.write(wanted, path)
    for path in differ:
        print(f"{path.relative_to(BOOK)}: {'differs from its source' if check else 'written'}")
    return int(bool(differ) and check)


if __name__ == "__main__":
    sys.exit(main())
