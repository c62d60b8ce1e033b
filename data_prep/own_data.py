"""Make a COCO-layout folder with training, calibration and test images from your own annotations.

python data_prep/own_data.py voc Annotations --images JPEGImages --out data/mine --sheet sheet.png
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import Coco, annotation_file, check_plausible, keep_single_objects, list_files
from earlyexit.files import check_file
from prepare import commands
from prepare.cleaning import Report
from prepare.commands import Link, echo
from prepare.copies import Copies, find_copies
from prepare.layout import SPLITS, check_writable, divide, parse_shares, photos_of, write_splits
from prepare.next_steps import next_lines
from prepare.reading import Kind, read
from prepare.sheet import contact_sheet, missing_classes, sum_up, summary_lines
from prepare.sources import find_sources
from prepare.splits import drop_others, kept_lines, splits_of, take_splits

SHARES = "0.7,0.1,0.2"


def check_places(kind: Kind, source: Path, images: Path | None, out: Path) -> None:
    """`ValueError` if what is read is not there, or if it would be written to."""
    if not source.exists():
        what = "a JSON file, a folder of XML files, a CSV file, a data.yaml, or a folder with one of them"
        raise ValueError(f"there is no {str(source)!r}: SOURCE is {what}")
    ending = {Kind.coco: ".json", Kind.csv: ".csv"}.get(kind)
    files = {path.resolve() for path in (find_sources(source, ending) if ending else [source])}
    if files.intersection(annotation_file(out, split).resolve() for split in SPLITS):
        raise ValueError(f"--out {out} would overwrite {str(source)!r}, which is read; give another folder")
    check_apart(out, images or (source if source.is_dir() else source.parent), told=images is not None)


def check_apart(out: Path, images: Path, told: bool) -> None:
    """`ValueError` if the images of the new folder would be found, as some more of its own, by the next run."""
    if images.resolve() in (out.resolve(), *out.resolve().parents):
        hint = "give another folder" if told else "say with --images where they are"
        raise ValueError(f"--out {out} lies in the folder of the images, {str(images)!r}; {hint}")


def unused(coco: Coco, images: Path) -> str:
    """A line on the images in the folder that are not in the data set."""
    left = set(list_files(images)) - {image["file_name"] for image in coco["images"]}
    return f"images in {images} that are not used: {len(left)}" + (f", such as {min(left)}" if left else "")


def parts_of(
    coco: Coco, images: Path, splits: Mapping[int, str], copies: Copies, shares: str, seed: int
) -> dict[str, tuple[Coco, Path]]:
    """The splits that are there, or new ones, each with the folder of its images; copies are said and kept together."""
    echo(*copies.lines())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    coco = {**coco, "images": [{k: v for k, v in image.items() if k != "split"} for image in coco["images"]]}
    if splits:
        parts = take_splits(coco, images, splits)
        echo(*kept_lines(parts))
        echo(*copies.across({split: [names[i["id"]] for i in part["images"]] for split, (part, _) in parts.items()}))
        return parts
    ids = {name: image_id for image_id, name in names.items()}
    groups = [[ids[name] for name in group] for group in copies.groups]
    shares = parse_shares(shares)
    if len(photos_of(names, groups)) < sum(share > 0 for share in shares):
        echo("WARNING: there are fewer different photos than splits, so copies are divided, too: no split is a test")
        groups = []
    return {split: (part, images) for split, part in divide(coco, shares, seed, groups).items()}


def _nothing(coco: Coco, faults: Report, single: bool) -> str:
    """What is left where no object is, and why."""
    left = f"{len(coco['images'])} images and no object"
    if faults.dropped:
        return f"{left}; dropped, {faults.commonest()}"
    return f"{left}; " + ("no image has exactly one (--single)" if single else "its annotations hold none")


app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def main(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="coco: an instances JSON; voc: a folder of XML files; csv: a CSV file; yolo: data.yaml or classes.txt."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="The file; or a folder with it, or with one for each split.")],
    out: Annotated[Path, typer.Option(help="Folder to make: annotations/ and a folder of images for each split.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images; that of SOURCE unless told.")] = None,
    origin: Annotated[int, typer.Option(min=0, max=1, help="First pixel in XML: 1 in VOC, 0 in other tools.")] = 1,
    split_share: Annotated[
        str | None,
        typer.Option(
            help=f"Divide into training, calibration and test images so; 0: none. [default: {SHARES}, "
            "or the splits that are there]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed divides the images otherwise.")] = 0,
    single: Annotated[bool, typer.Option("--single", help="Keep only the images with exactly one object.")] = False,
    copies: Annotated[bool, typer.Option(help="Look for copies of one photo; they stay in one split.")] = True,
    link: commands.LinkOption = Link.hard,
    strict: commands.Strict = False,
    report: commands.ReportFile = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG of some training images of every class.")] = None,
) -> None:
    """Read annotations, leave out and count what cannot be used, divide the images and show what there is."""
    if kind == Kind.voc and images is None and (source / "Annotations").is_dir() and (source / "JPEGImages").is_dir():
        source, images = source / "Annotations", source / "JPEGImages"
    with commands.refusals():
        parse_shares(split_share or SHARES)
        check_file("--report", report)
        check_file("--sheet", sheet, ".png")
        check_writable(out)
        check_places(kind, source, images, out)
        faults = Report()
        coco, folder = read(kind, source, images, origin, faults)
        check_apart(out, folder, told=True)
        splits = {} if split_share else splits_of(coco)
        coco = drop_others(coco, splits, faults) if splits else coco
        commands.tell(faults, report, strict)
        echo(unused(coco, folder))
        if single and coco["images"]:
            coco = keep_single_objects(coco)
        echo(*summary_lines(sum_up(coco)))
        if not coco["annotations"]:
            raise ValueError(f"nothing to learn from: {source} leaves {_nothing(coco, faults, single)}")
        echo(*check_plausible(coco))
        found = find_copies([image["file_name"] for image in coco["images"]], folder) if copies else Copies()
        parts = parts_of(coco, folder, splits, found, split_share or SHARES, seed)
        write_splits(parts, out, link.value)
        parts = {split: part for split, (part, _) in parts.items()}
        echo(*(f"{split}: {len(p['images'])} images, {len(p['annotations'])} objects" for split, p in parts.items()))
        echo(*missing_classes(parts))
        if sheet:
            shown = contact_sheet(parts["train"], out / "train", sheet)
            echo(f"wrote {sheet}, {shown} training images: look at it before you train")
        echo(f"wrote {out}", *next_lines(out, parts))


if __name__ == "__main__":
    run_app(app)
