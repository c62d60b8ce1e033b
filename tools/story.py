"""Draw the pictures of the first page from the results of the study, book/images/*.svg: python tools/story.py.

story.svg: two scenes and the exits at which they leave, and what each exit costs and keeps. choosing.svg: mAP over
compute where images have any number of objects. README.md shows both, too. `--check` compares instead (without the
scenes, whose bytes depend on the picture library); exit 1 if results have moved on.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import re
import sys
from pathlib import Path

from only_check import only_check
from torchvision.transforms.v2.functional import to_pil_image

from earlyexit.data import scene_dataset
from earlyexit.evaluation import EXIT_COLOURS
from earlyexit.study import open_study, select
from earlyexit.study.opponents import upper_hull

IMAGES = Path(__file__).resolve().parent.parent / "book" / "images"
# An easy test scene and a hard one, by id, and where the detector of chapter 10 lets them go if an exit has to be
# sure of its class to 99 %; tests/test_story.py asks the detector.
LEAVES = {107: 1, 65: 4}
SURE = 0.99
LEFT = {1: 92, 2: 178, 3: 264, 4: 350}
WIDE = 80


def numbers() -> dict:
    """What each exit costs and keeps, in shares of full depth, and what a mixture at half of the compute does."""
    study = open_study()
    rows = select(study.table("beyond_exits"), group="early", split="test")
    exits = {}
    for k in EXIT_COLOURS:
        found = select(rows, exit=k)
        exits[k] = {name: sum(row[name] for row in found) / len(found) for name in ("share", "kept")}
    half = select(study.table("beyond_budgets"), budget=0.5, scores="comparable", group="early")
    mixed = {name: sum(row[name] for row in half) / len(half) for name in ("share", "kept")}
    return {"exits": exits, "mixed": mixed, "seeds": len(half)}


def scene(image_id: int) -> str:
    """A scene of the test images as a data address."""
    dataset = scene_dataset("test", max(LEAVES) + 1)
    image = dataset[dataset.ids.index(image_id)][0]
    memory = io.BytesIO()
    to_pil_image(image).save(memory, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"


def text(x: float, y: float, said: str, style: str = "") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" fill="currentColor" {style}>{said}</text>'


def walk(place: int, image_id: int, exit: int) -> list[str]:
    """A scene and its way through the network to the exit where it leaves."""
    y, end, colour = 12 + 76 * place, LEFT[exit] + WIDE / 2, EXIT_COLOURS[exit]
    return [
        f'<image x="8" y="{y}" width="64" height="64" href="{scene(image_id)}"/>',
        f'<path d="M78 {y + 32}H{end:g}" stroke="{colour}" stroke-width="4" fill="none"/>',
        f'<circle cx="{end:g}" cy="{y + 32}" r="8" fill="{colour}"/>',
    ]


def bars(y: int, label: str, shares: dict[int, float]) -> list[str]:
    """A row of bars, one for each exit, with their numbers."""
    drawn = [text(4, y + 15, label)]
    for k, share in shares.items():
        bar = (
            f'<rect x="{LEFT[k]}" y="{y + 22}" width="{WIDE * share:.1f}" height="8" rx="2" fill="{EXIT_COLOURS[k]}"/>'
        )
        drawn += [text(LEFT[k] + WIDE / 2, y + 15, f"{share:.0%}", 'text-anchor="middle" font-weight="bold"'), bar]
    return drawn


def draw() -> str:
    """The whole picture, in the colour of the text around it, or grey where there is none."""
    found = numbers()
    exits, mixed = found["exits"], found["mixed"]
    cost = {k: row["share"] for k, row in exits.items()}
    kept = {k: row["kept"] for k, row in exits.items()}
    lines = []
    for k, colour in EXIT_COLOURS.items():
        lines += [
            f'<rect x="{LEFT[k]}" y="4" width="{WIDE}" height="190" rx="8" fill="{colour}" fill-opacity="0.15"/>',
            text(LEFT[k] + WIDE / 2, 184, f"exit {k}", 'text-anchor="middle" font-weight="bold"'),
        ]
    for place, (image_id, exit) in enumerate(LEAVES.items()):
        lines += walk(place, image_id, exit)
    lines += bars(204, "compute", cost) + bars(250, "accuracy", kept)
    lines += [
        text(4, 312, "Mixed, picture by picture: half of the compute"),
        text(4, 332, f"({mixed['share']:.0%}) keeps {mixed['kept']:.1%} of the accuracy of full depth."),
    ]
    said = (
        "Two pictures go through a network with four exits. The easy one leaves at exit 1, the hard one at exit 4. "
        + " ".join(
            f"Exit {k} takes {cost[k]:.0%} of the compute and keeps {kept[k]:.0%} of the accuracy." for k in exits
        )
        + f" Mixed picture by picture, {mixed['share']:.0%} of the compute keep {mixed['kept']:.1%}."
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 342" role="img" aria-label="{said}" '
        'font-family="system-ui, sans-serif" font-size="15" color="#727a83">'  # grey is read on white and on black
    )
    return "\n".join([head, *lines, "</svg>\n"])


Points = list[tuple[float, float]]


def curves() -> dict[str, Points]:
    """Compute in shares of the paper's full depth and mAP on test scenes with none to four objects, by way."""
    study = open_study()
    ours, paper = (study.table(f"choosing_scenes_many{name}") for name in ("", "_paper"))
    unit = select(paper, policy="exit 4")[0]["gmacs"]

    def points(rows: list[dict]) -> Points:
        return sorted({(row["gmacs"] / unit, row["mAP"]) for row in rows})

    of_seed = select(ours, seed=ours[0]["seed"])
    static = points(select(of_seed, policy="static"))
    choosing = [row for row in of_seed if row["policy"] in ("exit 1", "the rule at any size")]
    published = [row for row in paper if row["policy"] in ("max softmax", "exit 4")]
    return {
        "the paper's way": points(published),
        "trained for one exit": [static[k] for k in upper_hull(static)],
        "ours": points(choosing),
    }


LINES = {"the paper's way": "#56B4E9", "trained for one exit": "#A6761D", "ours": "#9A6FE0"}  # on white and on black


def draw_curves() -> str:
    """mAP over compute: the paper's way, the best that does not choose, and ours."""
    found = curves()
    bottom, top = (
        10 * side(end / 10) for side, end in ((math.floor, found["ours"][0][1]), (math.ceil, found["ours"][-1][1]))
    )

    def place(x: float, y: float) -> tuple[float, float]:
        return 50 + 370 * x, 270 - 230 * (y - bottom) / (top - bottom)

    lines = ['<clipPath id="drawn"><path d="M50 0H440V270H50Z"/></clipPath>']  # the paper's way begins far below
    for y in range(bottom, top + 1, 10):
        (left, at), (right, _) = place(0, y), place(1, y)
        lines.append(f'<path d="M{left:g} {at:.1f}H{right:g}" stroke="currentColor" stroke-opacity="0.25"/>')
        lines.append(text(left - 8, at + 5, str(y), 'text-anchor="end"'))
    for x in (0.2, 0.4, 0.6, 0.8, 1):
        lines.append(text(place(x, 0)[0], 290, f"{x:.0%}", 'text-anchor="middle"'))
    lines += [text(4, 22, "mAP"), text(440, 310, "compute", 'text-anchor="end"')]
    for row, (name, points) in enumerate(found.items()):
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in itertools.starmap(place, points))
        line = f'<polyline points="{way}" fill="none" stroke="{LINES[name]}" stroke-width="3"/>'
        dots = [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{LINES[name]}"/>'
            for x, y in itertools.starmap(place, points)
        ]
        lines += ['<g clip-path="url(#drawn)">', line, *dots, "</g>"]
        lines.append(f'<path d="M180 {196 + 22 * row}h24" stroke="{LINES[name]}" stroke-width="4"/>')
        lines.append(text(212, 201 + 22 * row, name))
    said = "mAP over compute. " + " ".join(
        f"{name}: " + ", ".join(f"{y:.0f} at {x:.0%}" for x, y in points) + "." for name, points in found.items()
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 446 318" role="img" aria-label="{said}" '
        'font-family="system-ui, sans-serif" font-size="15" color="#727a83">'
    )
    return "\n".join([head, *lines, "</svg>\n"])


PICTURES = {"story.svg": draw, "choosing.svg": draw_curves}


def without_scenes(svg: str) -> str:
    """The picture with its scenes left out."""
    return re.sub(r'href="data:[^"]*"', "", svg)


def main() -> int:
    """Draw or compare; return the exit status."""
    check = only_check(__doc__)
    for name, drawn in ((name, draw_it()) for name, draw_it in PICTURES.items()):
        path = IMAGES / name
        if not check:
            path.write_text(drawn, encoding="utf-8")
            print(f"wrote {name}")
        elif not path.exists() or without_scenes(path.read_text(encoding="utf-8")) != without_scenes(drawn):
            print(f"{name} shows other results: run tools/story.py")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
