"""Draw some images of every class, with their boxes, from any folder in COCO's layout.

python data_prep/contact_sheet.py data/scenes --split train --out sheet.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import Coco, annotation_file, check_plausible, read_coco
from earlyexit.files import check_file
from prepare.commands import refusals
from prepare.next_steps import next_lines
from prepare.sheet import contact_sheet, sum_up, summary_lines

app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Argument(help="Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    split: Annotated[str, typer.Option(help="Which split of the folder.")] = "train",
    per_class: Annotated[int, typer.Option(min=1, help="Images of each class.")] = 3,
    most: Annotated[int, typer.Option(min=1, help="Images in all; with more classes some are left out.")] = 48,
    seed: Annotated[int, typer.Option(help="Another seed shows other images.")] = 0,
) -> None:
    """Print what is in a split and draw its contact sheet."""
    with refusals():
        check_file("--out", out, ".png")
        coco = read_coco(annotation_file(data, split))
        shown = contact_sheet(coco, data / split, out, per_class=per_class, most=most, seed=seed)
    typer.echo("\n".join(summary_lines(sum_up(coco)) + check_plausible(coco)))
    typer.echo(f"wrote {out}, {shown} images: look at it before you train")
    typer.echo("\n".join(next_lines(data, {split: coco, **_calibration(data, split)}, split)))


def _calibration(data: Path, split: str) -> dict[str, Coco]:
    """The split that a training on another can be measured on, where there is one; nobody looks into it here."""
    return {"calibration": {}} if split != "calibration" and annotation_file(data, "calibration").exists() else {}


if __name__ == "__main__":
    run_app(app)
