"""Make COCO-Single, the images of COCO 2017 with exactly one annotation, from a COCO folder.

python data_prep/coco_single.py --coco coco --out data/coco-single
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.command_line import check_file, run_app
from earlyexit.data.filtering import KEPT, Coco, classify_images, keep_single_objects
from earlyexit.data.prepare.choices import Link, Protocol
from earlyexit.data.prepare.clean import clean_coco
from earlyexit.data.prepare.dividing import write_splits
from earlyexit.data.prepare.download import download_coco
from earlyexit.data.prepare.layout import check_images, check_writable
from earlyexit.data.prepare.report import Report
from earlyexit.data.prepare.splits import take_calibration
from earlyexit.data.reading import load_coco

COCO_IMAGES = {"train2017": 118_287, "val2017": 5_000}
PAPER_TEST, PAPER_ALL = 593, 14_486  # images of COCO-Single in the paper (Table 1): validation, all


def read_single(coco: Path, part: str, report: Report, check: bool) -> Coco:
    """The images of "train2017" or "val2017" with exactly one annotation, clean and, unless told not to, opened."""
    path, images = coco / "annotations" / f"instances_{part}.json", coco / part
    if not images.is_dir():
        raise ValueError(f"no image folder {str(images)!r}; --coco names the folder with annotations/ and {part}/")
    whole = clean_coco(load_coco(path, outlines=False), report, path.name)
    if not whole["images"]:
        raise ValueError(f"{str(path)!r} has no image that can be used")
    verdicts = list(classify_images(whole).values())
    typer.echo(f"{part}: {len(verdicts)} images")
    for verdict in sorted(set(verdicts) - {KEPT}):
        typer.echo(f"  left out, {verdict}: {verdicts.count(verdict)}")
    typer.echo(f"  with one object: {verdicts.count(KEPT)}")
    single = keep_single_objects(whole)
    if check:
        # Once more: sizes that were not in the file are known now, and boxes may lie outside.
        single = clean_coco(check_images(single, images, report), report, path.name)
    return keep_single_objects(single) if single["images"] else single


def divide(train: Coco, test: Coco, protocol: Protocol, share: float, seed: int) -> dict[str, Coco]:
    """The three splits; `ValueError` if the two parts of COCO share images, for then the test would not be one."""
    for part, single in zip(COCO_IMAGES, (train, test), strict=True):
        if not single["images"]:
            raise ValueError(f"no image with a single object that can be used is left of {part}")
    names = [[(c["id"], c["name"]) for c in single["categories"]] for single in (train, test)]
    if sorted(names[0]) != sorted(names[1]):
        other = min(set(names[0]) ^ set(names[1]))
        raise ValueError(f"train2017 and val2017 have other categories: only one of them has {other}")
    both = {image["id"] for image in train["images"]} & {image["id"] for image in test["images"]}
    if both:
        raise ValueError(f"{len(both)} images are in train2017 and in val2017, such as {min(both)}")
    if protocol == Protocol.paper:
        return {"train": train, "calibration": train, "test": test}
    train, calibration = take_calibration(train, share, seed)
    return {"train": train, "calibration": calibration, "test": test}


def compare_with_paper(train: Coco, test: Coco) -> str:
    """A line that says whether the counts are the paper's."""
    count, total = len(test["images"]), len(train["images"]) + len(test["images"])
    if (count, total) == (PAPER_TEST, PAPER_ALL):
        return f"COCO-Single: {PAPER_TEST} validation images, {PAPER_ALL:,} in all, as in the paper"
    of = " + ".join(f"{images:,}" for images in COCO_IMAGES.values())
    return (
        f"NOT the paper's COCO-Single: {count:,} validation images, {total:,} in all; "
        f"the paper has {PAPER_TEST} and {PAPER_ALL:,} of {of} images"
    )


def how_calibrated(protocol: Protocol, share: float, seed: int) -> str:
    """A line that says which images the calibration split holds."""
    if protocol == Protocol.paper:
        return "protocol of the paper: the calibration images ARE the training images"
    return f"calibration images are taken out of the training images: {share:.0%}, seed {seed}"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    coco: Annotated[Path, typer.Option(help="COCO's folder: annotations/, train2017/ and val2017/.")],
    out: Annotated[Path, typer.Option(help="Folder to make: annotations/, train/, calibration/ and test/.")],
    protocol: Annotated[Protocol, typer.Option(help="paper: calibration images are training images.")] = Protocol.own,
    share: Annotated[float, typer.Option(help="Of the training images, for calibration.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed takes other images for calibration.")] = 0,
    link: Annotated[Link, typer.Option(help="Hard links need no space; across disks they become copies.")] = Link.hard,
    strict: Annotated[bool, typer.Option("--strict", help="Stop, and list them, if records are unusable.")] = False,
    report: Annotated[Path | None, typer.Option(help="CSV of all that was dropped or mended.")] = None,
    check: Annotated[bool, typer.Option("--check-images/--no-check-images", help="Open every image.")] = True,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing of COCO first.")] = False,
) -> None:
    """Test images are those of val2017; calibration images are taken out of train2017."""
    faults = Report()
    try:
        if not 0 < share < 1:
            raise ValueError(f"--share is between 0 and 1, such as 0.2, got {share}")
        check_file("--report", report)
        check_writable(out)
        if download:
            check_writable(coco)
            download_coco(coco)
        train, test = (read_single(coco, part, faults, check) for part in COCO_IMAGES)
        if report:
            faults.write(report)
        if strict:
            faults.check_strict()
        for line in faults.lines():
            typer.echo(line)
        splits = divide(train, test, protocol, share, seed)
        folders = {"train": coco / "train2017", "calibration": coco / "train2017", "test": coco / "val2017"}
        note = how_calibrated(protocol, share, seed)
        noted = {split: {**part, "coco_single": note} for split, part in splits.items()}  # told by the files, too
        write_splits({split: (part, folders[split]) for split, part in noted.items()}, out, link.value)
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    for split, part in splits.items():
        typer.echo(f"{split}: {len(part['images'])} images")
    typer.echo(note)
    typer.echo(compare_with_paper(train, test))


if __name__ == "__main__":
    run_app(app)
