"""The minutes that a chapter promises follow from what it holds, and from measured seconds."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_repository import load_tool

minutes = load_tool("minutes")
TIME = "**Time**: 1 minutes to read, a while to run, 1 minutes for the exercises."


def chapter(*cells):
    return new_notebook(cells=[new_markdown_cell(f"# 1. One\n\n{TIME} **You should know**: it."), *cells])


def figure():
    return new_output("display_data", data={"image/png": "aaaa", "text/plain": "<Figure>"})


@pytest.mark.parametrize(
    ("cells", "more"),
    [
        ([new_markdown_cell("word " * 2000)], 10),
        ([new_markdown_cell("[word](address_of_it.ipynb) | ** $ " * 2000)], 10),
        ([new_code_cell("a = 1\n\n" * 120)], 10),
        ([new_code_cell("a = 1\n" * 120, metadata={"tags": ["hide-input"]})], 0),
        ([new_code_cell("a = 1\n" * 120, id="stub-1-a")], 0),
        ([new_code_cell("", outputs=[new_output("stream", text="1.0\n" * 300)])], 10),
        ([new_code_cell("", outputs=[figure()]) for _ in range(20)], 10),
        ([new_markdown_cell("**Guess first.** ") for _ in range(18)], 9 + 36 / 200),
        ([new_markdown_cell("### Exercise: one (core)\n\n" + "word " * 2000)], 0),
    ],
    ids=["words", "links", "code", "folded", "stub", "printed", "figures", "questions", "exercise"],
)
def test_minutes_to_read(cells, more):
    """The chapter with nothing else has 16 words; with them the sum is just above a multiple of five, or below it."""
    assert minutes.to_read(chapter()) == 5
    assert minutes.to_read(chapter(*cells)) == minutes.in_fives(16 / 200 + more)


def test_minutes_for_exercises():
    asked = [new_markdown_cell(f"### Exercise: one ({kind})") for kind in ("warm-up", "core", "stretch")]
    assert minutes.for_exercises(chapter(*asked)) == 20  # 16
    assert minutes.for_exercises(chapter(*asked[1:])) == 15  # 13


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (4, "half a minute"),
        (44, "half a minute"),
        (46, "a minute"),
        (80, "a minute and a half"),
        (110, "2 minutes"),
        (140, "2 and a half minutes"),
    ],
)
def test_seconds_in_words(seconds, said):
    assert minutes.in_words(seconds) == said


@pytest.fixture
def book(tmp_path):
    for name in ("01_one", "02_two"):
        nbformat.write(chapter(new_markdown_cell("### Exercise: one (core)")), tmp_path / f"{name}.ipynb")
    said = "All by one rule. Together: 1 minutes to read,\n2 minutes for the exercises, hours to run on one core. More."
    (tmp_path / "lecturers.md").write_text(said)
    return tmp_path


def lines(book):
    return [nbformat.read(path, as_version=4).cells[0].source for path in sorted(book.glob("*.ipynb"))]


def test_only_measured_chapters_get_other_words(book):
    (book / "minutes.json").write_text(json.dumps({"01_one": {"seconds": 61.0}}))
    minutes.write(book)
    for text, to_run in zip(lines(book), ("a minute", "a while"), strict=True):
        assert f"**Time**: 5 minutes to read, {to_run} to run, 5 minutes for the exercises. **You" in text
    said = (book / "lecturers.md").read_text()
    assert said.endswith("Together: 10 minutes to read,\n10 minutes for the exercises, hours to run on one core. More.")


def test_when_all_are_measured_their_sum_is_written(book):
    (book / "minutes.json").write_text(json.dumps({"01_one": {"seconds": 200}, "02_two": {"seconds": 250}}))
    minutes.write(book)
    assert "exercises, 10 minutes to run on one core. More." in (book / "lecturers.md").read_text()


def test_running_counts_the_processor_not_the_clock(tmp_path):
    source = "import time\nstart = time.process_time()\nwhile time.process_time() - start < 1:\n    pass\ntime.sleep(2)"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), tmp_path / "01_one.ipynb")
    assert minutes.run(tmp_path / "01_one.ipynb") >= 1
