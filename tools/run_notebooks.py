"""Run the chapters in place and store clean outputs: python tools/run_notebooks.py [book/a.ipynb ...].

Outputs and tags stay. What differs between two runs of the same code is taken out, so that
a stored chapter changes only when its text, its code or its results do.

As an extension of Sphinx it leaves the chapters as they are, and runs those that a build is about to read: as many at a
time as there are cores, where the build alone would run one after the other. Their outputs go into the cache in which
the build looks for them.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT = 300
AT_A_TIME = 4  # each holds a gigabyte
LONG = ("04_detector", "training_on_coco", "06_fillers", "11_who_should_leave")  # begin: nobody waits for them at last
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


def executed(path: Path, **kernel) -> nbformat.NotebookNode:
    """A notebook with the outputs of a run, whose kernel is started with what is given besides."""
    notebook = nbformat.read(path, as_version=4)
    # A time in a cell's metadata would make it another cell for the cache.
    how = {"timeout": CELL_TIMEOUT, "record_timing": False}
    client = NotebookClient(notebook, **how, resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute(**kernel)
    except CellExecutionError as error:
        raise RuntimeError(f"{path.name} failed:\n{error}") from None
    if text := failure(notebook):
        raise RuntimeError(f"{path.name}, {text}")
    return notebook


def run_notebook(path: Path) -> None:
    """Run one notebook and store it; where something failed the file stays as it was."""
    notebook = executed(path)
    merge_streams(notebook)
    nbformat.write(clean(notebook), path)


def run_into_cache(paths: list[Path], folder: Path, tell: Callable[[str], object]) -> None:
    """Run notebooks side by side; the cache in a folder then has their outputs, and no others."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    shutil.rmtree(folder, ignore_errors=True)
    cache, cores = get_cache(folder), os.cpu_count() or 1
    jobs = min(AT_A_TIME, cores)
    alone = {**os.environ, "OMP_NUM_THREADS": str(cores // jobs)}
    with ThreadPoolExecutor(jobs) as pool:
        first = sorted(paths, key=lambda path: path.stem not in LONG)
        runs = {pool.submit(executed, path, env=alone): path for path in first}
        try:
            for run in as_completed(runs):
                cache.cache_notebook_bundle(CacheBundleIn(run.result(), runs[run]), check_validity=False)
                tell(f"{runs[run].name} has run")
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure the others need not run


def before_reading(app, env, docnames: list[str]) -> None:
    """Run the notebooks among the pages that will be read."""
    from sphinx.errors import SphinxError
    from sphinx.util.logging import getLogger

    paths = [path for path in (Path(env.doc2path(name)) for name in docnames) if path.suffix == ".ipynb"]
    paths = [path for path in paths if not any(map(path.match, app.config.nb_execution_excludepatterns))]
    if app.config.nb_execution_mode == "cache" and paths:
        try:
            run_into_cache(paths, Path(app.outdir).parent / ".jupyter_cache", getLogger(__name__).info)
        except RuntimeError as error:
            raise SphinxError(str(error)) from None


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("env-before-read-docs", before_reading)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main() -> int:
    """Run the notebooks named on the command line, or all chapters; return the exit status."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "book").glob("*.ipynb"))
    for path in paths:
        start = time.perf_counter()
        try:
            run_notebook(path)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
