"""The picture of the first page, and the cards and buttons beside it."""

import re

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_repository import ROOT, load_tool

from earlyexit import load_detector
from earlyexit.data import scene_dataset

story = load_tool("story")
book_pages = load_tool("book_pages")


@pytest.mark.parametrize("name", story.PICTURES)
def test_pictures_show_the_results_of_today(name):
    drawn, stored = story.PICTURES[name](), (story.IMAGES / name).read_text()
    assert story.without_scenes(drawn) == story.without_scenes(stored)
    assert len(re.findall(r'href="data:image/jpeg;base64,[^"]{1000,}"', stored)) == 2 * (name == "story.svg")


def test_curves_rise_to_full_depth_and_ours_lies_above_the_papers():
    found = story.curves()
    x, y = zip(*found["the paper's way"], strict=True)
    assert max(x) == 1 and y[-1] == max(y)
    for points in found.values():
        assert len(points) > 1 and [p[0] for p in points] == sorted(p[0] for p in points)
    mine, *_ = (at for at in found["ours"] if at[0] > 0.45)
    assert mine[1] > np.interp(mine[0], x, y) + 3


def test_numbers_are_means_of_the_seeds():
    found = story.numbers()
    assert found["exits"][1]["share"] == pytest.approx(0.3205)
    assert found["exits"][1]["kept"] == pytest.approx((0.8941 + 0.8867 + 0.8953) / 3)
    assert found["exits"][4] == {"share": 1, "kept": 1}
    assert found["seeds"] == 3 and found["mixed"]["kept"] == pytest.approx(0.9851, abs=1e-4)


def test_scenes_leave_where_the_picture_says():
    dataset = scene_dataset("test", max(story.LEAVES) + 1)
    images = [dataset[dataset.ids.index(i)][0] for i in story.LEAVES]
    with torch.inference_mode():
        found = load_detector("scenes-early")[0].eval()(images, thresholds=(story.SURE,) * 3)
    assert [one["exit"] for one in found] == list(story.LEAVES.values())


@pytest.fixture
def book(tmp_path):
    """A book of two chapters in one part."""
    (tmp_path / "book").mkdir()
    entries = "".join(f"      - file: book/{name}\n" for name in ("01_first", "02_second", "reference"))
    (tmp_path / "_toc.yml").write_text(f"parts:\n  - caption: Part one\n    chapters:\n{entries}")
    text = "# 1. First\n\n**You will be able to**\n- read a\n  file,\n- write it,\n- more.\n\n"
    text += "**Time**: 30 minutes to read, 2 to run."
    picture = new_output("display_data", data={"image/png": "aaaa"})
    cell = new_code_cell("draw()", outputs=[picture], metadata={"mystnb": {"image": {"alt": "A line."}}})
    nbformat.write(new_notebook(cells=[new_markdown_cell(text), cell]), tmp_path / "book" / "01_first.ipynb")
    drawn = new_code_cell('course.picture("boxes")', metadata={"mystnb": {"image": {"alt": "Two boxes"}}})
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Second"), drawn]), tmp_path / "book" / "02_second.ipynb")
    return tmp_path


def test_chapters_tell_their_cards(book, monkeypatch):
    monkeypatch.setattr(book_pages, "ROOT", book)
    monkeypatch.setattr(book_pages, "thumbnail", lambda path, stored: book / "_build" / f"{path.stem}.webp")
    text = book_pages.cards(book)
    first, second = text.split(":::{grid-item-card} ")[1:]
    assert text.startswith("### Part one\n")
    assert first.startswith(
        "1. First\n:link: 01_first\n:link-type: doc\n:img-top: /_build/01_first.webp\n:img-alt: A line."
    )
    assert "*30 minutes to read*\n\n- read a file\n- write it\n:::" in first
    assert ":img-top: /earlyexit/pictures/boxes.svg\n:img-alt: Two boxes\n" in second and "*" not in second


def test_a_page_without_aims_says_what_it_is():
    text = "# Lost\n\nAfter [one](01_first.ipynb) comes\n*two*.![Two](a.svg)\n\nMore."
    assert book_pages.about(new_notebook(cells=[new_markdown_cell(text)]))["first"] == "After one comes *two*."
    assert book_pages.about(new_notebook(cells=[new_markdown_cell("# Lost")]))["first"] == ""
    assert "An appendix to chapter 10." in book_pages.card(ROOT / "book" / "ablations.ipynb")


def test_every_chapter_has_a_card_with_a_figure():
    """An appendix may do without one."""
    cards = book_pages.cards(ROOT).split("{grid-item-card} ")[1:]
    assert len(cards) == len([path for _, paths in book_pages.chapters(ROOT) for path in paths])
    numbered = [card for card in cards if card[0].isdigit()]
    assert len(numbered) >= 10
    assert all(":img-top:" in card and ":img-alt:" in card for card in numbered)


def test_buttons_lead_into_the_book(book):
    there = book_pages.buttons(book, "https://github.com/someone/name", "main")
    assert "{button-ref} 01_first" in there and "lecturers" not in there
    assert "https://colab.research.google.com/github/someone/name/blob/main/book/01_first.ipynb" in there
    toc = book / "_toc.yml"
    toc.write_text(toc.read_text() + "      - file: book/lecturers\n")
    assert "{button-ref} lecturers" in book_pages.buttons(book, "https://github.com/someone/name", "main")


def test_slips_of_the_extensions_are_mended():
    body = (
        '<section id="exercise-content">a</section><section id="solution-content">b</section>'
        '<div role="list" class="citation-list"><div class="citation" id="id3" role="doc-biblioentry">\n'
        '<span class="label"><span class="fn-bracket">[</span>KJK+24<span class="fn-bracket">]</span></span>\n<p>K</p>'
    )
    context = {"body": body, "script_files": ["a.js", "_static/sphinx-thebe.js"]}
    book_pages.mend(None, "page", "page.html", context, None)
    assert "content" not in context["body"] and "KJK" not in context["body"] and "<p>K</p>" in context["body"]
    assert 'role="list"' not in context["body"] and 'id="id3"' in context["body"]
    assert context["script_files"] == ["a.js"]
