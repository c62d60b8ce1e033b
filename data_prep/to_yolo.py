"""Write a folder in COCO's layout as YOLO's tools read it: images, labels and data.yaml.

python data_prep/to_yolo.py data/mine --out data/mine-yolo
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from prepare import commands
from prepare.commands import Link, echo
from prepare.layout import check_places, check_writable
from prepare.yolo import YOLO_SPLITS, read_parts, write_yolo

app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Argument(help="Folder with annotations/instances_SPLIT.json and SPLIT/.")],
    out: Annotated[Path, typer.Option(help="Folder to make: data.yaml, images/ and labels/.")],
    link: commands.LinkOption = Link.hard,
) -> None:
    """Boxes become lines of a class's number and shares of the image; calibration becomes val."""
    with commands.refusals():
        parts = read_parts(data)
        check_writable(out)
        for split, (coco, images) in parts.items():
            check_places(coco, images, out / "images" / YOLO_SPLITS[split], link.value)
        counts = write_yolo(parts, out, link.value)
    for split, (coco, _) in parts.items():
        left = len(coco["annotations"]) - counts[split]
        more = f", {left} crowds or boxes without area left out" if left else ""
        echo(f"{YOLO_SPLITS[split]}: {len(coco['images'])} images, {counts[split]} boxes{more}")
    echo(f"wrote {out / 'data.yaml'}: give it to the tool that reads it")


if __name__ == "__main__":
    run_app(app)
