"""Reduce a data set in COCO's layout to its images with exactly one object.

python data_prep/single_object.py --annotations instances_val2017.json --images val2017 --out coco_single
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.data.filtering import KEPT, Coco, classify_images, keep_single_objects


class Link(str, Enum):
    """How the images get into the new folder."""

    hard = "hard"
    symlink = "symlink"
    copy = "copy"


def read_coco(path: Path) -> Coco:
    """Read a JSON file; a ValueError names the file and what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"--annotations {path}: no such file; give the instances JSON of a COCO data set")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--annotations {path}: not valid JSON ({error})") from error


def check_images(coco: Coco, folder: Path) -> None:
    """Raise a ValueError if images are missing, before anything is written."""
    if not folder.is_dir():
        raise ValueError(f"--images {folder}: no such folder; give the folder that holds the image files")
    for image in coco["images"]:
        name = Path(image["file_name"])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"file_name {str(name)!r} leaves the folder of images; it has to be relative to it")
    missing = [image["file_name"] for image in coco["images"] if not (folder / image["file_name"]).is_file()]
    if missing:
        raise ValueError(
            f"--images {folder}: {len(missing)} of {len(coco['images'])} single-object images are missing, "
            f"the first is {missing[0]!r}; the folder has to hold every file_name"
        )


def place_image(source: Path, target: Path, link: Link) -> None:
    """Link or copy one image; an image that is already there is left or replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source) and not (link == Link.copy or target.is_symlink()):
        return
    # To a temporary name first: an interrupted run leaves no half image behind.
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    if link == Link.symlink:
        part.symlink_to(source.resolve())
    elif link == Link.copy or not hard_link(source, part):
        shutil.copyfile(source, part)
    os.replace(part, target)


def hard_link(source: Path, target: Path) -> bool:
    """Make a hard link; False where that is impossible, as across file systems."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def write_json(data: Coco, path: Path) -> None:
    """Write the JSON at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data), encoding="utf-8")
    os.replace(part, path)


def make_single_object(annotations: Path, images: Path, out: Path, link: Link) -> Counter[str]:
    """Make the reduced data set; return how many images had each verdict."""
    coco = read_coco(annotations)
    try:
        verdicts = classify_images(coco)
        single = keep_single_objects(coco)
    except ValueError as error:
        raise ValueError(f"--annotations {annotations}: {error}") from error
    check_images(single, images)
    new_json = out / "annotations" / annotations.name
    new_images = out / images.resolve().name
    if new_json.resolve() == annotations.resolve() or new_images.resolve() == images.resolve():
        raise ValueError(f"--out {out}: this would overwrite the data set that is read; give another folder")
    for image in single["images"]:
        place_image(images / image["file_name"], new_images / image["file_name"], link)
    write_json(single, new_json)
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
    app()
