"""Slides: what of a chapter becomes one, and what does not."""

import importlib.util
from pathlib import Path

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


def test_heading_comes_with_its_first_sentence():
    (made,) = slides.of_text("## Thresholds\n\nAn exit leaves at 0.9. Then more\nis said.\n\nAnd more.")
    assert made.source == "## Thresholds\n\nAn exit leaves at 0.9."


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
    printed = new_output("stream", text="3.0")
    cells = [
        new_markdown_cell("# 1. One\n\nObjectives."),
        new_code_cell("plot()", outputs=[printed, figure]),
        new_code_cell("print(3.0)", outputs=[printed]),
        new_markdown_cell("### Exercise: a filter (core)\n\nWrite it."),
        new_markdown_cell("Text without a heading."),
    ]
    made = slides.deck(new_notebook(cells=cells)).cells
    assert [cell.cell_type for cell in made] == ["markdown", "code"]
    assert made[1].outputs == [figure]
    assert made[1].source == ""
