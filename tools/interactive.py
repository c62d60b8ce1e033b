"""What the tools of the book's interactive parts share: their data, a table that stands in for them, and a check.

A part's data are computed here, since a browser can count images but not run a detector; `book_pages.py` puts them into
the page. The table is written into the chapter from the same data, for readers without scripts.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from only_check import only_check
from torch import Tensor
from torchvision.transforms.v2.functional import resize, to_pil_image

from earlyexit import load_detector
from earlyexit.data.scenes.composition import GENERATOR_VERSION
from earlyexit.evaluation.records import hash_weights

BOOK = Path(__file__).resolve().parent.parent / "book"


@dataclass(frozen=True)
class Part:
    """A part of a chapter that the reader moves.

    Attributes:
        place: the id of its element, by which page and script know it.
        name: of its file of data.
        chapter, cell: where its table stands.
        about: what the data depend on, as far as it is known without running the detector.
        compute: all data, a dict with `about` inside.
        table: Markdown for readers without scripts, from the data.
    """

    place: str
    name: str
    chapter: str
    cell: str
    about: Callable[[], dict]
    compute: Callable[[], dict]
    table: Callable[[dict], str]

    @property
    def path(self) -> Path:
        """The file of data."""
        return BOOK / "interactive" / f"{self.name}.json"

    def with_table(self, data: dict) -> nbformat.NotebookNode:
        """The chapter with the table of these data in its cell."""
        chapter = nbformat.read(BOOK / self.chapter, as_version=4)
        (cell,) = [cell for cell in chapter.cells if cell.id == self.cell]
        inside = re.compile(rf'(?s)(?<=<div id="{self.place}">\n\n).*?(?=\n\n</div>)')
        cell.source = inside.sub(lambda _: self.table(data), cell.source)
        return chapter

    def problems(self) -> list[str]:
        """What has moved on since the data were written."""
        if not self.path.exists():
            return [f"there is no {self.path.name}"]
        data, now = json.loads(self.path.read_text(encoding="utf-8")), self.about()
        found = [f"{self.path.name} was made of other {key}" for key in now if data["about"].get(key) != now[key]]
        if self.with_table(data) != nbformat.read(BOOK / self.chapter, as_version=4):
            found.append(f"{self.chapter} has another table than {self.path.name}")
        return found

    def main(self) -> int:
        """Compute, or with `--check` compare; return the exit status."""
        if only_check(sys.modules["__main__"].__doc__):
            found = self.problems()
            print("\n".join(found or [f"{self.path.name} shows this detector"]))
            return 1 if found else 0
        data = {"about": self.about(), **self.compute()}
        self.path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
        nbformat.write(self.with_table(data), BOOK / self.chapter)
        print(f"wrote {self.path.name}, {self.path.stat().st_size / 1000:.0f} kB, and the table in {self.chapter}")
        return 0


def made_of(shipped: str, scenes: int, **more) -> dict:
    """The weights and scenes that data are made of."""
    return {"weights": hash_weights(load_detector(shipped)[0]), "scenes": [GENERATOR_VERSION, scenes], **more}


def thumbnail(image: Tensor, side: int, kind: str = "webp", quality: int = 75) -> str:
    """An image (3, H, W) as an address that holds it, `side` pixels high and wide."""
    memory = io.BytesIO()
    to_pil_image(resize(image, [side, side], antialias=True)).save(memory, kind, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(memory.getvalue()).decode()}"
