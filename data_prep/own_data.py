"""Make a COCO-layout folder with training, calibration and test images from your own annotations.

python data_prep/own_data.py voc Annotations --images JPEGImages --out data/mine --sheet sheet.png
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import annotation_file, check_plausible, keep_single_objects, list_files, load_coco
from earlyexit.files import check_file
from prepare import commands
from prepare.boxes import ImageBoxes, fill_size, find_images, fit_boxes, to_coco
from prepare.cleaning import Report, check_photos, clean_coco
from prepare.commands import Link, echo
from prepare.csv_boxes import read_csv
from prepare.layout import SPLITS, check_writable, divide, parse_shares, write_splits
from prepare.sheet import contact_sheet, missing_classes, summarise, summary_lines
from prepare.xml_boxes import read_xml_folder


class Kind(str, Enum):
    """What the annotations are."""

    coco = "coco"
    voc = "voc"
    csv = "csv"


def read(kind: Kind, source: Path, images: Path, origin: int, faults: Report) -> dict:
    """The annotations as COCO instances, without what cannot be used; images are opened to their last byte."""
    if kind == Kind.coco:
        coco = clean_coco(load_coco(source, outlines=False), faults, source.name, fit=False)
        return clean_coco(check_photos(coco, images, faults), faults, source.name)  # now all sizes are known
    if kind == Kind.voc:
        records = find_images(read_xml_folder(source, faults, origin=origin), images, faults)
    else:
        records = find_images(read_csv(source, faults), images, faults, by_source=False)
    return check_photos(to_coco(fitted(records, images, faults)), images, faults)


def check_places(source: Path, images: Path | None, out: Path) -> Path:
    """The folder of the images; `ValueError` if what is read is not there, or if it would be written to."""
    if not source.exists():
        raise ValueError(f"there is no {str(source)!r}: SOURCE is a JSON file, a folder of XML files, or a CSV file")
    if source.resolve() in [annotation_file(out, split).resolve() for split in SPLITS]:
        raise ValueError(f"--out {out} would overwrite {str(source)!r}, which is read; give another folder")
    folder = images or (source if source.is_dir() else source.parent)
    if folder.resolve() in (out.resolve(), *out.resolve().parents):  # its images would be found by the next run
        hint = "give another folder" if images else "say with --images where they are"
        raise ValueError(f"--out {out} lies in the folder of the images, {str(folder)!r}; {hint}")
    return folder


def fitted(records: list[ImageBoxes], images: Path, faults: Report) -> list[ImageBoxes]:
    """The records whose size is known or can be read, with boxes inside their images."""
    records = [record for record in records if fill_size(record, images, faults, compare=True)]
    for record in records:
        fit_boxes(record, faults)
    return records


def unused(coco: dict, images: Path) -> str:
    """A line on the images in the folder that are not in the data set."""
    left = set(list_files(images)) - {image["file_name"] for image in coco["images"]}
    return f"images in {images} that are not used: {len(left)}" + (f", such as {min(left)}" if left else "")


app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def main(
    kind: Annotated[Kind, typer.Argument(help="coco: an instances JSON; voc: a folder of XML files; csv: a CSV file.")],
    source: Annotated[Path, typer.Argument(help="The file or folder; or VOC's, with Annotations/ and JPEGImages/.")],
    out: Annotated[Path, typer.Option(help="Folder to make: annotations/ and a folder of images for each split.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images; that of SOURCE unless told.")] = None,
    origin: Annotated[int, typer.Option(min=0, max=1, help="First pixel in XML: 1 in VOC, 0 in other tools.")] = 1,
    split_share: Annotated[str, typer.Option(help="Of training, calibration, test images; 0: none.")] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(help="Another seed divides the images otherwise.")] = 0,
    single: Annotated[bool, typer.Option("--single", help="Keep only the images with exactly one object.")] = False,
    link: commands.LinkOption = Link.hard,
    strict: commands.Strict = False,
    report: commands.ReportFile = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG of some training images of every class.")] = None,
) -> None:
    """Read annotations, leave out and count what cannot be used, divide the images and show what there is."""
    if kind == Kind.voc and images is None and (source / "Annotations").is_dir() and (source / "JPEGImages").is_dir():
        source, images = source / "Annotations", source / "JPEGImages"
    with commands.refusals():
        shares = parse_shares(split_share)
        check_file("--report", report)
        check_file("--sheet", sheet, ".png")
        check_writable(out)
        images = check_places(source, images, out)
        faults = Report()
        coco = read(kind, source, images, origin, faults)
        commands.tell(faults, report, strict)
        echo(unused(coco, images))
        if single and coco["images"]:
            coco = keep_single_objects(coco)
        echo(*summary_lines(summarise(coco)))
        if not coco["annotations"]:
            raise ValueError(f"nothing to learn from: {source} leaves {len(coco['images'])} images and no object")
        echo(*check_plausible(coco))
        parts = divide(coco, shares, seed)
        write_splits({split: (part, images) for split, part in parts.items()}, out, link.value)
        echo(*(f"{split}: {len(p['images'])} images, {len(p['annotations'])} objects" for split, p in parts.items()))
        echo(*missing_classes(parts))
        if sheet:
            shown = contact_sheet(parts["train"], out / "train", sheet)
            echo(f"wrote {sheet}, {shown} training images: look at it before you train")
        echo(f"wrote {out}")


if __name__ == "__main__":
    run_app(app)
