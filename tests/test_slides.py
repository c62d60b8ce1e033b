"""Slides: what of a chapter becomes one, and what does not."""

import importlib.util
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("slides", ROOT / "tools" / "slides.py")
slides = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slides)

GUESS = """**Guess first.** How many leave?

<details class="guess wrong"><summary>None</summary>

Some do.

</details>
<details class="guess right"><summary>Half</summary>

Yes.

</details>"""


def kinds(cells):
    return [cell.metadata["slideshow"]["slide_type"] for cell in cells]


def test_heading_comes_with_its_first_sentences():
    """One of twelve words or more is enough; a short one says nothing alone. An abbreviation ends no sentence."""
    (made,) = slides.of_text(
        "## Leaving\n\nNow the question. All that left\nby eq. 2 at exit 1 had an answer there. More.\n\nAnd"
    )
    assert made.source == "## Leaving\n\nNow the question. All that left by eq. 2 at exit 1 had an answer there."


def test_a_question_under_a_heading_is_not_told_twice():
    made = slides.of_text(f"## Thresholds\n\n{GUESS}")
    assert made[0].source == "## Thresholds\n\n"
    assert sum("How many leave?" in one.source for one in made) == 1


def test_addresses_and_minutes_are_not_spoken():
    title = "# 4. Leaving\n\n**Time**: 40 minutes\nto read.\n\nSee [chapter 2](02_detection.ipynb) and [d2l](https://d2l.ai)."
    (made,) = slides.deck(new_notebook(cells=[new_markdown_cell(title)])).cells
    assert made.source == "## 4. Leaving\n\nSee chapter 2 and [d2l](https://d2l.ai)."


def test_summary_and_title_are_whole():
    for heading in ("# 4. Leaving", "## Summary"):
        (made,) = slides.of_text(f"{heading}\n\nOne. Two.\n\n- three")
        assert made.source == f"## {heading.lstrip('# ')}\n\nOne. Two.\n\n- three"


def test_question_shows_its_options_before_their_answers():
    made = slides.of_text(GUESS)
    assert kinds(made) == ["slide", "fragment", "fragment"]
    assert "How many leave?\n\n1. None\n2. Half" in made[0].source
    assert "Some do." not in made[0].source
    assert made[2].source == "**2: right.** Yes."


def test_a_deck_has_figures_and_neither_code_nor_exercises():
    figure = new_output("display_data", data={"image/png": "aaaa", "text/plain": "<Figure>"})
    drawn = new_output("display_data", data={"image/svg+xml": "<svg/>", "text/plain": "a cross"})
    printed = new_output("stream", text="3.0")
    captioned = {"mystnb": {"figure": {"caption": "Who leaves."}}}
    cells = [
        new_markdown_cell("# 1. One\n\nObjectives."),
        new_code_cell("plot()", outputs=[printed, figure], metadata=captioned),
        new_code_cell("print(3.0)", outputs=[printed]),
        new_markdown_cell("### Exercise: a filter (core)\n\nWrite it."),
        new_code_cell("draw()", outputs=[drawn]),
        new_markdown_cell("*A cross.* Text without a heading."),
        new_markdown_cell("## Questions to think about\n\nWhy?"),
    ]
    made = slides.deck(new_notebook(cells=cells)).cells
    assert [cell.cell_type for cell in made] == ["markdown", "code", "markdown", "code", "markdown"]
    assert [cell.outputs for cell in made[1::2]] == [[figure], [drawn]]
    assert [cell.source for cell in made[1:]] == ["", "Who leaves.", "", "A cross."]
    assert kinds(made) == ["slide", "slide", "-", "slide", "-"]


def test_the_page_asks_for_reveal_alone(tmp_path, monkeypatch, capsys):
    """A lecture room has no network, so what else a deck loads would have to be copied, too."""
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# 1. One\n\nObjectives of $\\theta$.")]), tmp_path / "one.ipynb"
    )
    monkeypatch.setattr(
        "sys.argv", ["slides.py", str(tmp_path / "one.ipynb"), "--out", str(tmp_path), "--reveal", "copy"]
    )
    slides.main()
    page = (tmp_path / "one.slides.html").read_text()
    asked = re.findall(r"<(?:script|link)[^>]* (?:src|href)=\"([^\"]+)", page)
    assert set(asked) == {
        "copy/dist/reveal.css",
        "copy/dist/theme/white.css",
        "copy/dist/reveal.js",
        "copy/plugin/notes/notes.js",
    }
    assert "import mermaid" not in page
    assert re.search(r'Objectives of <img [^>]*alt="\\theta"[^>]* src="data:image/svg', page)
