"""Reduce a data set in COCO's layout to its images with exactly one object.

python data_prep/single_object.py --annotations instances_val2017.json --images val2017 --out coco_single
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.command_line import run_app
from earlyexit.data.filtering import KEPT, Coco, classify_images, keep_single_objects
from earlyexit.data.prepare.choices import Link
from earlyexit.data.prepare.earlier import check_earlier
from earlyexit.data.prepare.layout import check_writable, stays_inside
from earlyexit.data.prepare.placing import place_image
from earlyexit.data.reading import load_coco
from earlyexit.files import write_whole


def check_present(coco: Coco, folder: Path) -> None:
    """Raise a ValueError if images are missing, before anything is written."""
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: no such folder; give the folder that holds the image files")
    for image in coco["images"]:
        if not stays_inside(image["file_name"]):
            raise ValueError(
                f"file_name {image['file_name']!r} leaves the folder of images; it has to be relative to it"
            )
    missing = [image["file_name"] for image in coco["images"] if not (folder / image["file_name"]).is_file()]
    if missing:
        raise ValueError(
            f"--images {folder}: {len(missing)} of {len(coco['images'])} single-object images are missing, "
            f"the first is {missing[0]!r}; the folder has to hold every file_name"
        )


def make_single_object(annotations: Path, images: Path, out: Path, link: Link) -> Counter[str]:
    """Make the reduced data set; return how many images had each verdict."""
    coco = load_coco(annotations)
    try:
        verdicts = classify_images(coco)
        single = keep_single_objects(coco)
    except ValueError as error:
        raise ValueError(f"--annotations {annotations}: {error}") from error
    if not single["images"]:
        raise ValueError(f"--annotations {annotations}: none of its {len(verdicts)} images has exactly one object")
    check_writable(out)
    check_present(single, images)
    new_json = out / "annotations" / annotations.name
    new_images = out / images.resolve().name
    if new_json.resolve() == annotations.resolve() or new_images.resolve() == images.resolve():
        raise ValueError(f"--out {out}: this would overwrite the data set that is read; give another folder")
    check_earlier(new_json, single)
    for image in single["images"]:
        target = new_images / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        place_image(images / image["file_name"], target, link.value)
    new_json.parent.mkdir(parents=True, exist_ok=True)
    write_whole(new_json, lambda path: path.write_text(json.dumps(single), encoding="utf-8"))
    return Counter(verdicts.values())


app = typer.Typer(add_completion=False)


@app.command()
def main(
    annotations: Annotated[Path, typer.Option(help="instances JSON in COCO's layout")],
    images: Annotated[Path, typer.Option(help="folder of its images")],
    out: Annotated[Path, typer.Option(help="folder to make: annotations/ and a folder of images")],
    link: Annotated[Link, typer.Option(help="hard links need no space; across disks they become copies")] = Link.hard,
) -> None:
    """Keep the images with exactly one annotation of any kind, as COCO-Single does."""
    try:
        counts = make_single_object(annotations, images, out, link)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    typer.echo(f"images before: {counts.total()}")
    for reason, count in sorted(counts.items()):
        if reason != KEPT:
            typer.echo(f"  dropped, {reason}: {count}")
    typer.echo(f"images after: {counts[KEPT]}, each with one object")
    typer.echo(f"wrote {out / 'annotations' / annotations.name}")


if __name__ == "__main__":
    run_app(app)
