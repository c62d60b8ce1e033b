"""Run the chapters as Colab would: python tools/colab_check.py [book/04_detector.ipynb ...], or `make colab-check`.

Colab opens a chapter's notebook alone: there is no checkout beside it, the machine has the newest libraries and an old
IPython, and the first cell installs the package from the repository. So an environment is made far from the checkout,
of the newest versions that the package index has and Colab's own IPython, with the package from a wheel. Each chapter's
notebook is copied alone into an empty folder and run there, two at a time. Nothing may fail or write to stderr, and
what is imported must be the wheel.

Then the package is taken away and the first cell alone runs as in Colab: it installs the package from git (the address
in the cell is led to a clone of this checkout, so that no repository has to be reached and what is not committed does
not count), runs again without a network, and says so where it can install nothing.

Colab's GPU, its Drive and its own frontend are not tried: how a page looks there is not seen here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from release_check import ROOT, UV, build, find_python, install, make_environment, run, say

PYTHON = "3.12"  # Colab's
# Colab's machines differ from a reader's own environment in these: a much older IPython, pandas and pip beside it.
COLABS = ("ipython==7.34.0", "ipykernel==6.17.1", "nbclient", "pandas", "pip", "setuptools")
NOBODY = "http://127.0.0.1:9"  # where no proxy listens
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_RETRIES": "0", "http_proxy": NOBODY, "https_proxy": NOBODY}
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def execute(python: Path, notebook: Path, **environment: str) -> list[dict]:
    """Run a notebook in its own folder and store it there; give its code cells."""
    run(python, "-c", EXECUTE, notebook.name, cwd=notebook.parent, OMP_NUM_THREADS="1", **environment)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(cell: dict, stream: str = "stdout") -> str:
    """What a cell wrote."""
    return "".join("".join(out["text"]) for out in cell["outputs"] if out.get("name") == stream)


def check_chapter(python: Path, chapter: Path, folder: Path) -> str:
    """Run a chapter alone in an empty folder; give a line about it, or stop."""
    start = time.perf_counter()
    alone = folder / chapter.stem
    alone.mkdir()
    cells = execute(python, Path(shutil.copy(chapter, alone)))
    if str(ROOT) in json.dumps(cells):
        raise SystemExit(f"{chapter.name} used the checkout")
    for number, cell in enumerate(cells, start=1):
        if said := printed(cell, "stderr"):
            raise SystemExit(f"{chapter.name}, code cell {number} writes to stderr: {said}")
    return f"  {chapter.name}: {len(cells)} cells, {time.perf_counter() - start:.0f} s"


def attempt(python: Path, chapter: Path, folder: Path) -> bool:
    """Say how a chapter ran, and give whether it did: one that fails does not hide the others."""
    try:
        say(check_chapter(python, chapter, folder))
    except SystemExit as stopped:
        say(f"  {chapter.name} fails: {stopped}")
        return False
    return True


def first_cell(folder: Path, name: str) -> Path:
    """A notebook with the first code cell of the chapters and a line that tells where the package comes from."""
    chapter = json.loads((ROOT / "book" / "01_data.ipynb").read_text(encoding="utf-8"))
    cell = next(cell for cell in chapter["cells"] if cell["cell_type"] == "code")
    asks = {**cell, "id": "asks", "source": "import earlyexit\nprint('from', earlyexit.__file__)"}
    for one in (cell, asks):
        one.update(outputs=[], execution_count=None)
    path = folder / name / "first.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({**chapter, "cells": [cell, asks]}), encoding="utf-8")
    return path


def check_first_cell(python: Path, folder: Path) -> None:
    """The first cell installs from git, runs again without a network, and says so where it cannot install."""
    run(UV, "pip", "uninstall", "--quiet", "--python", python, "earlyexit-detection", cwd=folder)
    gone = first_cell(folder, "offline")
    (folder / "none.txt").touch()  # in place of limits that this machine sets pip: Colab has others or none
    nowhere = {
        "PIP_CONSTRAINT": f"{folder}/none.txt",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}/none.insteadOf",
    }
    repository = re.search(r"git\+(https://[^\"]+)", gone.read_text(encoding="utf-8").replace("\\", ""))[1]
    led = {"GIT_CONFIG_VALUE_0": repository, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        execute(python, gone, **nowhere, **led, **OFFLINE)
    except SystemExit as stopped:
        if "could not be installed: no network?" not in str(stopped):
            raise
    else:
        raise SystemExit("the first cell finds a package that was taken away")
    run("git", "clone", "--quiet", "--bare", ROOT, folder / "repository", cwd=folder)
    here = {**nowhere, "GIT_CONFIG_KEY_0": f"url.file://{folder}/repository.insteadOf"}
    again = first_cell(folder, "online")
    for network, environment in (("a network", {}), ("no network, a second time", OFFLINE)):
        said = printed(execute(python, again, **here, **led, **environment)[1])
        if "site-packages" not in said:
            raise SystemExit(f"with {network} the first cell leaves the package {said or 'unknown'}")
    say("the first cell alone: says that there is no network, installs from git, and runs again without a network")


def main() -> None:
    """Make the environment, then run the chapters and the first cell in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", type=Path, default=sorted((ROOT / "book").glob("[0-9]*.ipynb")))
    parser.add_argument("--python", help="version or path of the Python")
    parser.add_argument("--jobs", type=int, default=2, help="chapters that run at the same time")
    options = parser.parse_args()
    if not UV.exists():
        raise SystemExit(f"{UV} is not there: `make colab-check` installs it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        _, wheel = build(folder / "dist")
        python = make_environment(folder / "colab", options.python or find_python(PYTHON))
        install(python, wheel, *COLABS)
        shown = run(UV, "pip", "freeze", "--python", python, cwd=folder).splitlines()
        told = [
            line for line in shown if line.startswith(("torch", "numpy==", "matplotlib==", "ipython==", "pandas=="))
        ]
        version = run(python, "-c", "import sys; print(sys.version.split()[0])", cwd=folder).strip()
        say(f"Python {version} with {' '.join(told)}")
        with ThreadPoolExecutor(options.jobs) as pool:
            ran = list(pool.map(lambda chapter: attempt(python, chapter, folder), options.chapters))
        check_first_cell(python, folder)
    if not all(ran):
        raise SystemExit(f"{ran.count(False)} of {len(ran)} chapters fail")
    say(f"{len(options.chapters)} chapters run as in Colab")


if __name__ == "__main__":
    main()
