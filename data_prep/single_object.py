"""Reduce a data set in COCO's layout to its images with exactly one object.

python data_prep/single_object.py --annotations instances_val2017.json --images val2017 --out coco_single
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import (
    KEPT,
    Coco,
    annotation_file,
    classify_images,
    find_photos,
    keep_single_objects,
    load_coco,
    tidy,
)
from prepare import commands
from prepare.commands import Link
from prepare.layout import check_earlier, check_places, check_writable, write_images
from prepare.next_steps import next_lines


def with_photos(coco: Coco, folder: Path) -> Coco:
    """The data set with the names of its photos on the disk; `ValueError` if some are missing."""
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: no such folder; give the folder that holds the image files")
    names = [image["file_name"] for image in coco["images"]]
    found = find_photos(folder, names)
    missing = [(name, problem) for name, (photo, problem) in zip(names, found, strict=True) if photo is None]
    if missing:
        name, problem = missing[0]
        raise ValueError(
            f"--images {folder}: {len(missing)} of {len(names)} single-object images are missing, "
            f"the first is {name!r} ({problem}); the folder has to hold every file_name"
        )
    images = [{**i, "file_name": photo} for i, (photo, _) in zip(coco["images"], found, strict=True)]
    return {**coco, "images": images}


def make_single_object(annotations: Path, images: Path, out: Path, link: Link) -> Counter[str]:
    """Make the reduced data set; return how many images had each verdict."""
    coco, _ = tidy(load_coco(annotations))
    try:
        verdicts = classify_images(coco)
        single = keep_single_objects(coco)
    except ValueError as error:
        raise ValueError(f"--annotations {annotations}: {error}") from error
    if not single["images"]:
        raise ValueError(f"--annotations {annotations}: none of its {len(verdicts)} images has exactly one object")
    check_writable(out)
    new_json, new_images = annotation_file(out, images.resolve().name), out / images.resolve().name
    check_places(single, images, new_images, link.value)
    single = with_photos(single, images)
    if new_json.resolve() == annotations.resolve() or new_images.resolve() == images.resolve():
        raise ValueError(f"--out {out}: this would overwrite the data set that is read; give another folder")
    check_earlier(new_json, single)
    write_images(single, images, new_images, new_json, link.value)
    return Counter(verdicts.values())


app = typer.Typer(add_completion=False)


@app.command()
def main(
    annotations: Annotated[Path, typer.Option(help="instances JSON in COCO's layout")],
    images: Annotated[Path, typer.Option(help="folder of its images")],
    out: Annotated[Path, typer.Option(help="folder to make: annotations/ and a folder of images")],
    link: commands.LinkOption = Link.hard,
) -> None:
    """Keep the images with exactly one annotation of any kind, as COCO-Single does."""
    with commands.refusals():
        counts = make_single_object(annotations, images, out, link)
    typer.echo(f"images before: {counts.total()}")
    for reason, count in sorted(counts.items()):
        if reason != KEPT:
            typer.echo(f"  dropped, {reason}: {count}")
    typer.echo(f"images after: {counts[KEPT]}, each with one object")
    split = images.resolve().name
    written = annotation_file(out, split)
    commands.echo(f"wrote {written}", *next_lines(out, {split: load_coco(written)}, split))


if __name__ == "__main__":
    run_app(app)
