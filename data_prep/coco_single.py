"""Make COCO-Single, the images of COCO 2017 with exactly one annotation, from a COCO folder.

python data_prep/coco_single.py --coco coco --out data/coco-single
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import KEPT, Coco, annotation_file, classify_images, keep_single_objects, load_coco
from prepare import commands
from prepare.cleaning import Report, check_photos, clean_coco
from prepare.commands import Link, Protocol
from prepare.download import download_coco
from prepare.layout import check_writable

COCO_IMAGES = {"train2017": 118_287, "val2017": 5_000}
PAPER_TEST, PAPER_ALL = 593, 14_486  # images of COCO-Single in the paper (Table 1): validation, all


def read_single(coco: Path, part: str, report: Report, check: bool) -> Coco:
    """The images of "train2017" or "val2017" with exactly one annotation, clean and, unless told not to, opened."""
    path, images = annotation_file(coco, part), coco / part
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
        single = clean_coco(check_photos(single, images, report), report, path.name)
    return keep_single_objects(single) if single["images"] else single


def check_parts(train: Coco, test: Coco) -> None:
    """`ValueError` if one part of COCO is empty or they share images, for then the test would not be one."""
    for part, single in zip(COCO_IMAGES, (train, test), strict=True):
        if not single["images"]:
            raise ValueError(f"no image with a single object that can be used is left of {part}")
    names = [{(c["id"], c["name"]) for c in single["categories"]} for single in (train, test)]
    if names[0] != names[1]:
        other = min(names[0] ^ names[1])
        raise ValueError(f"train2017 and val2017 have other categories: only one of them has {other}")
    both = {image["id"] for image in train["images"]} & {image["id"] for image in test["images"]}
    if both:
        raise ValueError(f"{len(both)} images are in train2017 and in val2017, such as {min(both)}")


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


app = typer.Typer(add_completion=False)


@app.command()
def main(
    coco: Annotated[Path, typer.Option(help="COCO's folder: annotations/, train2017/ and val2017/.")],
    out: commands.Out,
    protocol: commands.ProtocolOption = Protocol.own,
    share: commands.Share = 0.2,
    seed: commands.Seed = 0,
    link: commands.LinkOption = Link.hard,
    strict: commands.Strict = False,
    report: commands.ReportFile = None,
    check: commands.Check = True,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing of COCO first.")] = False,
) -> None:
    """Test images are those of val2017; calibration images are taken out of train2017."""
    faults = Report()
    with commands.refusals():
        commands.check_places_and_share(out, report, share)
        if download:
            check_writable(coco)
            download_coco(coco)
        train, test = (read_single(coco, part, faults, check) for part in COCO_IMAGES)
        commands.tell(faults, report, strict)
        check_parts(train, test)
        placed = ((single, coco / part) for part, single in zip(COCO_IMAGES, (train, test), strict=True))
        commands.write_single(*placed, out, "coco_single", protocol=protocol, share=share, seed=seed, link=link)
    typer.echo(compare_with_paper(train, test))


if __name__ == "__main__":
    run_app(app)
