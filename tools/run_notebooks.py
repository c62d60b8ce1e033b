"""Run the chapters in place and store clean outputs: python tools/run_notebooks.py [book/a.ipynb ...].

Outputs and tags stay. What differs between two runs of the same code is taken out, so that
a stored chapter changes only when its text, its code or its results do.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT = 300
# What editors and Colab add to a cell, without meaning for the book.
VOLATILE = ("execution", "ExecuteTime", "colab", "id", "outputId", "scrolled", "collapsed")


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what changes from run to run; keep outputs, tags and alt texts. Works in place."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        for key in VOLATILE:
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output["metadata"] = nbformat.from_dict({})
    return notebook


def merge_streams(notebook: nbformat.NotebookNode) -> None:
    """Join pieces of printed text: how a kernel cuts them up depends on its speed."""
    for cell in notebook.cells:
        merged: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            last = merged[-1] if merged else None
            if last and output.output_type == last.output_type == "stream" and output.name == last.name:
                last.text += output.text
            else:
                merged.append(output)
        if cell.cell_type == "code":
            cell.outputs = merged


def failure(notebook: nbformat.NotebookNode) -> str | None:
    """What went wrong without stopping the notebook, with the number of its cell: text in stderr, a failed `%run`."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                return f"cell {number}: {output.ename} {output.evalue}"
            if output.get("name") == "stderr":
                return f"cell {number} writes to stderr, which readers would see: {output.text.strip()}"
    return None


def run_notebook(path: Path) -> None:
    """Run one notebook and store it; where something failed the file stays as it was."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    if text := failure(notebook):
        raise RuntimeError(f"{path.name}, {text}")
    merge_streams(notebook)
    nbformat.write(clean(notebook), path)


def main() -> int:
    """Run the notebooks named on the command line, or all chapters; return the exit status."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "book").glob("*.ipynb"))
    for path in paths:
        start = time.perf_counter()
        try:
            run_notebook(path)
        except (CellExecutionError, RuntimeError) as error:
            print(f"{path.name} failed:\n{error}", file=sys.stderr)
            return 1
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
