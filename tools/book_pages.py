"""What the book's pages get when Sphinx builds them, as an extension of Sphinx.

The first page has two marks, `<!-- buttons -->` and `<!-- chapters -->`. In their places come the ways in and a card
for each chapter, made from the chapters themselves: title, minutes, the first things that one will be able to do, and
a figure. Pages with sliders or a gallery get their data. And a few slips of the extensions in use are mended: ids that
occur twice, roles that do not fit, scripts that are not used.
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbformat
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
THUMBNAIL = (480, 240)
INTERACTIVE = ROOT / "book" / "interactive"
# Parts that the reader moves, by the id of their element, and their data.
PARTS = {"threshold-sliders": "thresholds.json", "budget-slider": "budget.json", "gallery": "gallery.json"}


def chapters(root: Path) -> list[tuple[str, list[Path]]]:
    """The parts of the book, each with its notebooks in order."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    notebooks = [(part["caption"], [root / f"{entry['file']}.ipynb" for entry in part["chapters"]]) for part in parts]
    return [(caption, [path for path in paths if path.exists()]) for caption, paths in notebooks]


def about(notebook: nbformat.NotebookNode) -> dict:
    """A chapter's title, its first paragraph, minutes ("" if it does not say) and what one will be able to do."""
    text = notebook.cells[0].source
    listed = re.search(r"(?m)^[-*] .*(?:\n(?:[-*] |  ).*)*", text)
    aims = re.split(r"\n[-*] ", listed[0][2:]) if listed else []
    plain = re.sub(r"(!?)\[([^\]]*)\]\([^)]*\)", lambda found: "" if found[1] else found[2], text)
    return {
        "first": " ".join(plain.strip().partition("\n")[2].strip().partition("\n\n")[0].split()),
        "title": re.search(r"(?m)^# (.+)$", text)[1],
        "time": next(iter(re.findall(r"\*\*Time\*\*:?\s*(.+?)[.,](?:\s|$)", text)), ""),
        "aims": [" ".join(aim.split()).rstrip(",;.") for aim in aims],
    }


def figure(path: Path, notebook: nbformat.NotebookNode) -> tuple[Path, str] | None:
    """A chapter's first figure, drawn or stored by a cell, as a file beneath _build; with its alt text."""
    for cell in notebook.cells:
        if drawn := re.search(r'course\.picture\("(\w+)"\)', cell.source):
            return ROOT / "earlyexit" / "pictures" / f"{drawn[1]}.svg", cell.metadata["mystnb"]["image"]["alt"]
        for output in cell.get("outputs", []):
            if stored := output.get("data", {}).get("image/png"):
                return thumbnail(path, stored), cell.metadata["mystnb"]["image"]["alt"]
    return None


def thumbnail(path: Path, stored: str) -> Path:
    """A stored picture made small, so that the first page stays light."""
    target = ROOT / "_build" / "cards" / f"{path.stem}.webp"
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(base64.b64decode(stored))).convert("RGB")
    picture.thumbnail((2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))
    picture.save(target, quality=80)
    return target


def card(path: Path) -> str:
    """MyST of a chapter's card."""
    notebook = nbformat.read(path, as_version=4)
    said, shown = about(notebook), figure(path, notebook)
    lines = [f":::{{grid-item-card}} {said['title']}", f":link: {path.stem}", ":link-type: doc"]
    if shown:
        # Sphinx takes an absolute path as one beneath the book's root.
        lines += [f":img-top: /{shown[0].resolve().relative_to(ROOT)}", f":img-alt: {shown[1]}"]
    told = [f"- {aim}" for aim in said["aims"][:2]] or [said["first"]]
    lines += ["", f"*{said['time']}*" if said["time"] else "", "", *told]
    return "\n".join([*lines, ":::"])


def cards(root: Path) -> str:
    """MyST of all cards, part by part."""
    parts = []
    for caption, paths in chapters(root):
        if paths:
            grid = "\n\n".join(map(card, paths))
            parts.append(f"### {caption}\n\n::::{{grid}} 1 2 2 2\n:gutter: 3\n\n{grid}\n::::")
    return "\n\n".join(parts)


def buttons(root: Path, repository: str, branch: str) -> str:
    """MyST of the ways in: the first chapter, the same in Colab, and the lecturers' page."""
    first = chapters(root)[0][1][0].relative_to(root)
    colab = repository.replace("https://github.com", "https://colab.research.google.com/github")
    shown = [
        f":::{{button-ref}} {first.stem}\n:ref-type: doc\n:color: primary\nStart\n:::",
        f":::{{button-link}} {colab}/blob/{branch}/{first}\n:color: primary\n:outline:\nOpen in Colab\n:::",
    ]
    if "book/lecturers" in (root / "_toc.yml").read_text(encoding="utf-8"):
        shown.append(":::{button-ref} lecturers\n:ref-type: doc\n:color: primary\n:outline:\nFor lecturers\n:::")
    items = "\n\n".join(f":::::{{grid-item}}\n:columns: auto\n\n{button}\n:::::" for button in shown)
    return f"::::::{{grid}}\n:gutter: 2\n\n{items}\n::::::"


def fill(app, docname: str, source: list[str]) -> None:
    """Put buttons and cards where the first page has their marks."""
    for place, name in PARTS.items():
        if place in source[0]:
            app.env.note_dependency(str(INTERACTIVE / name))
    if "<!-- chapters -->" not in source[0]:
        return
    for name in (__file__, "_toc.yml", *(path for _, paths in chapters(ROOT) for path in paths)):
        app.env.note_dependency(str(ROOT / name))
    theme = app.config.html_theme_options
    ways = buttons(ROOT, theme["repository_url"], theme.get("repository_branch", "main"))
    source[0] = source[0].replace("<!-- buttons -->", ways).replace("<!-- chapters -->", cards(ROOT))


def with_data(body: str) -> str:
    """A page with the data of its interactive parts inside, so that they also work from a file."""
    for place, name in PARTS.items():
        element = f'<div id="{place}">'
        if element in body:
            data = (INTERACTIVE / name).read_text(encoding="utf-8").strip().replace("</", "<\\/")
            stored = f'<script type="application/json" id="{place}-data">{data}</script>'
            body = body.replace(element, f"{stored}\n{element}")
    return body


def onward(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Let "Previous" and "Next" go from chapter to chapter: pages of solutions lie beside the way."""
    for side, step in (("prev", 1), ("next", 2)):
        place = app.builder.relations.get(pagename, [None] * 3)[step]
        while place and "/solutions/" in place:
            place = app.builder.relations[place][step]
        if place and context.get(side):
            title = app.builder.render_partial(app.env.titles[place])["title"]
            context[side] = {"link": app.builder.get_relative_uri(pagename, place), "title": title}


def mend(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Take ids that occur twice, roles that do not fit, citation keys and unused scripts out of a page."""
    body = re.sub(r' id="(?:exercise|solution)-content"', "", context.get("body", ""))
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    # Citations in the text are by author and year, and the list is sorted by author.
    body = re.sub(r'(<div class="citation"[^>]*>)\s*<span class="label">.*?</span></span>', r"\1", body)
    context["body"] = with_data(body)
    # Two extensions add Thebe, which the book does not use: it would run code on a foreign host.
    scripts = context.get("script_files", [])
    unused = [script for script in scripts if "thebe" in f"{script} {getattr(script, 'attributes', '')}".lower()]
    for script in unused:
        scripts.remove(script)


def whole_returns(app, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """What is returned has no type before a colon, as the next step would read it: types are in the signatures."""
    for place, line in enumerate(lines[:-1]):
        if line.strip() == "Returns:":
            told = lines[place + 1]
            lines[place + 1] = f"{told[: len(told) - len(told.lstrip())]}: {told.lstrip()}"


def skip_fields(app, kind: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """Fields of a named tuple are in its signature; listed once more they are an "Alias for field number 0"."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", whole_returns, priority=100)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("source-read", fill)
    app.connect("html-page-context", mend, priority=900)
    app.connect("html-page-context", onward)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
