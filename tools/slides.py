"""Slides from the chapters: python tools/slides.py [--out _build/slides] [book/04_detector.ipynb ...].

Nothing is written for the slides alone. A chapter's deck has its title and objectives, a slide for each section's first
sentence, each question that comes before a result (its answers appear one by one), each figure, and the summary. The
deck is one HTML file; it fetches reveal.js when it is opened, so a lecture room without a network needs a copy:
--reveal FOLDER.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BOOK = Path(__file__).resolve().parent.parent / "book"
OPTION = re.compile(
    r'<details class="guess (?P<verdict>right|wrong)"><summary>(?P<option>.*?)</summary>(?P<said>.*?)</details>',
    re.DOTALL,
)


def deck(chapter: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook of slides, made from a chapter that has its outputs."""
    slides = []
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            slides += of_text(cell.source)
        elif figures := pictures(cell):
            slides.append(figures)
    return new_notebook(cells=slides, metadata=chapter.metadata)


def of_text(source: str) -> list[nbformat.NotebookNode]:
    """The slides of a markdown cell: a heading with the first sentence under it, and a question with its answers."""
    slides = []
    text = OPTION.sub("", source)
    heading = re.search(r"^(#{1,2}) (.+)$", text, re.MULTILINE)
    if heading and not heading[2].startswith("Exercise"):
        whole = heading[1] == "#" or heading[2].startswith("Summary")
        rest = text[heading.end() :].strip()
        slides.append(slide(f"## {heading[2]}\n\n{rest if whole else first_sentence(rest)}"))
    options = list(OPTION.finditer(source))
    if options:
        question = re.search(r"\*\*Guess first\.\*\*(.*?)<details", source, re.DOTALL)
        letters = "\n".join(f"{i}. {one['option'].strip()}" for i, one in enumerate(options, 1))
        slides.append(slide(f"### Guess first\n\n{question[1].strip() if question else ''}\n\n{letters}"))
        for place, one in enumerate(options, 1):
            slides.append(slide(f"**{place}: {one['verdict']}.** {one['said'].strip()}", kind="fragment"))
    return slides


def first_sentence(text: str) -> str:
    """The first sentence of a text's first paragraph of prose, "" if it has none."""
    prose = [p for p in text.split("\n\n") if p and not re.match(r"[#|`<:!]", p)]
    if not prose:
        return ""
    flat = " ".join(prose[0].split())
    end = re.search(r"[.?!](?= |$)", flat)
    return flat[: end.end()] if end else flat


def pictures(cell: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """A slide with a cell's figures and nothing else of it, or None."""
    shown = [
        out for out in cell.outputs if "image/png" in out.get("data", {}) or "image/svg+xml" in out.get("data", {})
    ]
    if not shown:
        return None
    made = new_code_cell("", outputs=shown)
    made.metadata = {"slideshow": {"slide_type": "slide"}, "tags": ["remove-input"]}
    return made


def slide(text: str, kind: str = "slide") -> nbformat.NotebookNode:
    """One slide, or a fragment of the slide before it."""
    return new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})


def main() -> None:
    """Write the decks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", type=Path, default=sorted(BOOK.glob("[0-9]*.ipynb")))
    parser.add_argument("--out", type=Path, default=BOOK.parent / "_build" / "slides")
    parser.add_argument("--reveal", default=SlidesExporter().reveal_url_prefix, help="address or folder of reveal.js")
    given = parser.parse_args()
    exporter = SlidesExporter(reveal_url_prefix=given.reveal, exclude_input=True, embed_images=True)
    given.out.mkdir(parents=True, exist_ok=True)
    for path in given.chapters:
        slides = deck(nbformat.read(path, as_version=4))
        body, _ = exporter.from_notebook_node(slides, {"metadata": {"path": str(path.parent)}})
        target = given.out / f"{path.stem}.slides.html"
        target.write_text(body, encoding="utf-8")
        print(f"{target}: {len(slides.cells)} slides and fragments")


if __name__ == "__main__":
    main()
