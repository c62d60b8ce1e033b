"""What would go wrong on Colab is found: a file that is not there, words in stderr, and the checkout in use."""

import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

TOOLS = Path(__file__).resolve().parent.parent / "tools"


@pytest.fixture
def colab_check(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("colab_check")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("open('images/x.svg')", "No such file or directory: 'images/x.svg'"),
        ("import sys\nprint('old', file=sys.stderr)", r"alone.ipynb, code cell 1 writes to stderr: old"),
        (f"{str(TOOLS.parent)!r}", "alone.ipynb used the checkout"),
    ],
    ids=["missing file", "stderr", "checkout"],
)
def test_a_chapter_that_does_not_stand_alone_is_found(colab_check, tmp_path, source, said):
    chapter = tmp_path / "alone.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), chapter)
    with pytest.raises(SystemExit, match=said):
        colab_check.check_chapter(Path(sys.executable), chapter, tmp_path)


def test_first_cell_is_tried_as_the_chapters_have_it(colab_check, tmp_path):
    path = colab_check.first_cell(tmp_path, "first")
    cells = json.loads(path.read_text())["cells"]
    assert len(cells) == 2 and "%pip install" in "".join(cells[0]["source"])
    assert cells[0]["outputs"] == cells[1]["outputs"] == [] and list(path.parent.iterdir()) == [path]
