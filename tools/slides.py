"""Slides from the chapters: python tools/slides.py [--out _build/slides] [book/04_detector.ipynb ...].

Nothing is written for the slides alone. A chapter's deck has its title and objectives, a slide for each section's first
words, each question that comes before a result (its answers appear one by one), each figure, and the summary. The
deck is one HTML file; it fetches reveal.js, and nothing else, when it is opened. A lecture room without a network
needs a copy of it: --reveal FOLDER.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
from pathlib import Path

import nbformat
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from nbconvert import SlidesExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

BOOK = Path(__file__).resolve().parent.parent / "book"
OPTION = re.compile(
    r'<details class="guess (?P<verdict>right|wrong)"><summary>(?P<option>.*?)</summary>(?P<said>.*?)</details>',
    re.DOTALL,
)
# Addresses of other chapters, and the line on minutes to read: both are of no use in a lecture.
NOT_SPOKEN = re.compile(r"\[([^]]*)\]\([^)]*\.(?:ipynb|md)\)|^\*\*Time\*\*.*?(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"(\${1,2})([^$]+)\1")
# nbconvert's page loads reveal.js by other libraries from the network, and one for formulas.
PAGE = """
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
.reveal .jp-RenderedHTMLCommon { font-size: 27px; }
.reveal :is(h2, h3) { text-transform: none !important; }
.reveal .fragment .jp-RenderedHTMLCommon p { margin: 0; }
.reveal section .jp-OutputArea-output img { width: 1200px; height: 540px; max-width: none; object-fit: contain; }
</style>
{%- endblock -%}
{%- block footer_js -%}
{%- for script in ("dist/reveal.js", "plugin/notes/notes.js") -%}
<script src="{{ resources.reveal.url_prefix }}/{{ script }}"></script>
{%- endfor -%}
<script>
function fit() {
  const slide = Reveal.getCurrentSlide();
  slide.style.zoom = Math.min(1, 680 / slide.scrollHeight);
}
Reveal.on("slidechanged", fit);
Reveal.initialize({
  width: 1280, height: 720, margin: 0.03, controls: false, history: true, slideNumber: "c/t", plugins: [RevealNotes],
}).then(fit);
</script>
{%- endblock -%}
"""


def deck(chapter: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook of slides, made from a chapter that has its outputs."""
    slides = []
    for cell, following in zip(chapter.cells, [*chapter.cells[1:], slide("")], strict=True):
        if cell.cell_type == "markdown":
            slides += of_text(NOT_SPOKEN.sub(lambda found: found[1] or "", cell.source))
        elif figures := pictures(cell):
            slides += [figures, caption(cell, following)]
    return new_notebook(cells=slides, metadata=chapter.metadata)


def drawn(formula: re.Match[str]) -> str:
    """A formula as a picture of the text's size that stands on its line."""
    picture = io.BytesIO()
    depth = math_to_image(f"${formula[2].strip()}$", picture, FontProperties(size=20), format="svg")
    data = base64.b64encode(picture.getvalue()).decode()
    style = f"margin: 0; vertical-align: {-depth:.0f}pt"
    return f'<img style="{style}" alt="{formula[2].strip()}" src="data:image/svg+xml;base64,{data}">'


def of_text(source: str) -> list[nbformat.NotebookNode]:
    """The slides of a markdown cell: a heading with the first sentences under it, and a question with its answers."""
    slides = []
    heading = re.search(r"^(#{1,2}) (.+)$", source, re.MULTILINE)
    if heading and not re.match("Exercise|.*to think about", heading[2], re.IGNORECASE):
        whole = heading[1] == "#" or heading[2].startswith("Summary")
        rest = source[heading.end() :].partition("**Guess first.**")[0].strip()
        slides.append(slide(f"## {heading[2]}\n\n{rest if whole else first_sentences(rest)}"))
    options = list(OPTION.finditer(source))
    if options:
        question = re.search(r"\*\*Guess first\.\*\*(.*?)<details", source, re.DOTALL)
        letters = "\n".join(f"{i}. {one['option'].strip()}" for i, one in enumerate(options, 1))
        slides.append(slide(f"### Guess first\n\n{question[1].strip() if question else ''}\n\n{letters}"))
        for place, one in enumerate(options, 1):
            slides.append(slide(f"**{place}: {one['verdict']}.** {one['said'].strip()}", kind="fragment"))
    return slides


def first_sentences(text: str, words: int = 12) -> str:
    """The sentences with which a text's first paragraph of prose begins, up to so many words; "" if it has none."""
    prose = [p for p in text.split("\n\n") if p and not re.match(r"[#|<:!]|```", p)]
    said = ""
    for sentence in re.split(r"(?<=[.?!:]) (?=\W*[A-Z])", " ".join(prose[0].split())) if prose else []:
        if len(said.split()) >= words:
            break
        said += f" {sentence}"
    return said.strip()


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


def caption(cell: nbformat.NotebookNode, following: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What is said under a figure: the chapter's caption, or for a drawn one the words in italics after it."""
    said = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
    after = re.match(r"\*([^*].*?)\*", following.source, re.DOTALL)
    return slide(said or (after[1] if after else ""), kind="-")


def slide(text: str, kind: str = "slide") -> nbformat.NotebookNode:
    """One slide, or a fragment of the slide before it."""
    return new_markdown_cell(FORMULA.sub(drawn, text), metadata={"slideshow": {"slide_type": kind}})


def main() -> None:
    """Write the decks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", type=Path, default=sorted(BOOK.glob("[0-9]*.ipynb")))
    parser.add_argument("--out", type=Path, default=BOOK.parent / "_build" / "slides")
    parser.add_argument("--reveal", default=SlidesExporter().reveal_url_prefix, help="address or folder of reveal.js")
    given = parser.parse_args()
    exporter = SlidesExporter(
        reveal_url_prefix=given.reveal, reveal_theme="white", embed_images=True, raw_template=PAGE
    )
    exporter.exclude_input = exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    given.out.mkdir(parents=True, exist_ok=True)
    for path in given.chapters:
        slides = deck(nbformat.read(path, as_version=4))
        body, _ = exporter.from_notebook_node(slides, {"metadata": {"path": str(path.parent)}})
        target = given.out / f"{path.stem}.slides.html"
        target.write_text(body, encoding="utf-8")
        print(f"{target}: {len(slides.cells)} slides and fragments")


if __name__ == "__main__":
    main()
