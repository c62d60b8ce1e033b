"""What every chapter of the course has: small steps, questions before results, exercises, captioned figures."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
import yaml

from earlyexit import course

ROOT = Path(__file__).resolve().parent.parent
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
spec = importlib.util.spec_from_file_location("minutes", ROOT / "tools" / "minutes.py")
minutes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(minutes)
CHAPTERS = [ROOT / f"{entry['file']}.ipynb" for part in PARTS for entry in part["chapters"]]
CHAPTERS = [path for path in CHAPTERS if re.match(r"\d\d_", path.name)]
VISIBLE = 20  # lines of a code cell that is not folded
MINUTES = 45  # to read
EACH = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def text(path):
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def test_all_chapters_are_found():
    assert [int(path.stem[:2]) for path in CHAPTERS] == list(range(len(CHAPTERS)))
    assert len(CHAPTERS) >= 11


@EACH
def test_visible_cells_are_short(path):
    shown = [cell for cell in cells(path, "code") if not set(cell.metadata.get("tags", [])) & set(minutes.FOLDED)]
    long = {cell.id: len(cell.source.splitlines()) for cell in shown if len(cell.source.splitlines()) > VISIBLE}
    assert long == {}


@EACH
def test_questions_come_with_feedback_for_each_option(path):
    questions = re.split(r"\*\*Guess first\.\*\*", text(path))[1:]
    assert len(questions) >= 3
    for question in questions:
        options = re.findall(
            r'<details class="guess (right|wrong)"><summary>.+?</summary>\n\n(.+?)\n\n</details>', question, re.S
        )
        assert len(options) >= 2, question[:80]
        assert [verdict for verdict, _ in options].count("right") == 1, question[:80]
        assert all(len(said.split()) >= 3 for _, said in options)


@EACH
def test_right_answers_are_not_always_in_the_same_place(path):
    questions = re.split(r"\*\*Guess first\.\*\*", text(path))[1:]
    places = {re.findall(r'class="guess (right|wrong)"', question).index("right") for question in questions}
    assert len(places) >= 2


@EACH
def test_exercises_check_themselves(path):
    number = int(path.stem[:2])
    checked = [cell.source for cell in cells(path, "code") if cell.id.startswith("check-")]
    assert len(checked) >= 3
    assert all(re.search(rf'check\("{number}\.[a-z_0-9]+", ', source) for source in checked)


@EACH
def test_figures_have_captions_and_words_for_those_who_do_not_see_them(path):
    drawn = [cell for cell in cells(path, "code") if any("image/png" in out.get("data", {}) for out in cell.outputs)]
    for cell in drawn:
        about = cell.metadata.get("mystnb", {})
        assert len(about.get("image", {}).get("alt", "")) > 20, cell.id
        assert len(about.get("figure", {}).get("caption", "")) > 10, cell.id


@EACH
def test_the_idea_has_a_drawn_figure_that_a_notebook_alone_shows(path):
    """What the cell stores is what the package draws, so that the figure is seen on Colab, too, before a cell runs."""
    every = nbformat.read(path, as_version=4).cells
    drawn = [place for place, cell in enumerate(every) if "course.picture(" in cell.source]
    assert drawn, "no figure was drawn for the idea"
    for place in drawn:
        (output,) = every[place].outputs
        picture = course.picture(re.search(r'picture\("(\w+)"\)', every[place].source)[1])
        assert output.data == {"image/svg+xml": picture.svg, "text/plain": repr(picture)}
        described = ElementTree.fromstring(picture.svg).findtext("{*}desc")
        assert every[place].metadata["mystnb"]["image"]["alt"] == repr(picture) == described
        assert len(described) > 20
        assert every[place + 1].source.startswith("*"), "no caption"


def test_every_drawn_figure_is_shown():
    shown = [name for path in CHAPTERS for name in re.findall(r'course\.picture\(\\"(\w+)', path.read_text())]
    assert sorted(shown) == sorted(path.stem for path in (ROOT / "earlyexit" / "pictures").iterdir())


@pytest.mark.parametrize("path", sorted((ROOT / "book").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_needs_no_file_beside_it(path):
    """On Colab there is only the notebook: a picture by a relative address would be missing."""
    assert re.findall(r"(?:!\[[^\]]*\]\(|<img[^>]* src=.)(?!https?:|data:)([^)\"']+)", text(path)) == []


@EACH
def test_a_chapter_says_what_for_how_long_and_what_next(path):
    whole = text(path)
    assert re.search(r"[Aa]fter this chapter you can", whole)
    notebook = nbformat.read(path, as_version=4)
    measured = minutes.measured(path.parent)[path.stem]
    wanted = minutes.line(notebook, measured.get("seconds"))
    assert wanted in whole, "python tools/minutes.py writes it"
    assert minutes.to_read(notebook) <= MINUTES
    assert "**You should know**" in whole
    assert re.search(r"(?m)^## Summary", whole)


@EACH
def test_a_gpu_is_used_and_the_chapter_says_so(path):
    """`course.start` takes a GPU, and `print(here)` names it; what does without it has to do both itself."""
    code = "\n".join(cell.source for cell in cells(path, "code"))
    assert "print(here)" in code or ('"cuda" if' in code and re.search(r"print\(.*\bdevice\)", code))


def test_the_course_has_three_dozen_exercises():
    assert sum(cell.id.startswith("check-") for path in CHAPTERS for cell in cells(path, "code")) >= 36


def test_lecturers_read_the_same_minutes():
    notebooks = [nbformat.read(path, as_version=4) for path in CHAPTERS]
    measured = minutes.measured(ROOT / "book")
    seconds = [measured[path.stem].get("seconds") for path in CHAPTERS]
    said = (ROOT / "book" / "lecturers.md").read_text(encoding="utf-8")
    assert minutes.together(said, notebooks, seconds) in said, "python tools/minutes.py writes it"
