"""Draw some images of every class, with their boxes, from any folder in COCO's layout.

python data_prep/contact_sheet.py data/scenes --split train --out sheet.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.command_line import check_file, run_app
from earlyexit.data.prepare.sheet import contact_sheet
from earlyexit.data.prepare.summary import summarise, summary_lines
from earlyexit.data.reading import read_coco

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
    try:
        check_file("--out", out, ".png")
        coco = read_coco(data / "annotations" / f"instances_{split}.json")
        shown = contact_sheet(coco, data / split, out, per_class=per_class, most=most, seed=seed)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    typer.echo("\n".join(summary_lines(summarise(coco))))
    typer.echo(f"wrote {out}, {shown} images")


if __name__ == "__main__":
    run_app(app)
