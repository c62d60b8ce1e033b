"""What the commands of this folder have in common: options, refusals in one line, the paper's two protocols."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.data import Coco, check_plausible
from earlyexit.files import check_file

from .cleaning import Report
from .layout import check_share, check_writable, take_calibration, write_splits
from .next_steps import next_lines


class Link(str, Enum):
    """How the images get into the new folder."""

    hard = "hard"
    symlink = "symlink"
    copy = "copy"


class Protocol(str, Enum):
    """Where the images come from by which the exits' thresholds are set."""

    own = "own"
    paper = "paper"


Out = Annotated[Path, typer.Option(help="Folder to make: annotations/, train/, calibration/ and test/.")]
ProtocolOption = Annotated[Protocol, typer.Option(help="paper: calibration images are training images.")]
Share = Annotated[float, typer.Option(help="Of the training images, for calibration.")]
Seed = Annotated[int, typer.Option(help="Another seed takes other images for calibration.")]
LinkOption = Annotated[Link, typer.Option(help="Hard links need no space; across disks they become copies.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop, and list them, if any are unusable.")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="CSV of all that was dropped or mended.")]
Check = Annotated[bool, typer.Option("--check-images/--no-check-images", help="Open every image.")]


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What cannot be done ends the command in one line, with exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None


def echo(*lines: str) -> None:
    """Print lines."""
    for line in lines:
        typer.echo(line)


def tell(faults: Report, report: Path | None, strict: bool) -> None:
    """What was dropped and mended, in a file if there is to be one; `ValueError` for anything dropped if `strict`."""
    if report:
        faults.write(report)
    if strict:
        faults.check_strict()
    echo(*faults.lines())


def check_places_and_share(out: Path, report: Path | None, share: float) -> None:
    """`ValueError` for options that cannot be, before any work."""
    check_share(share)
    check_file("--report", report)
    check_writable(out)


def write_single(
    train: tuple[Coco, Path],
    test: tuple[Coco, Path],
    out: Path,
    key: str,
    *,
    protocol: Protocol,
    share: float,
    seed: int,
    link: Link,
) -> None:
    """Write images with one object as three splits, and say how many there are.

    Args:
        train, test: the data sets, each with the folder of its images.
        out: the folder to make.
        key: where the files tell which images the calibration split holds.
        protocol, share, seed: what the calibration split holds.
        link: how images get into the folder.
    """
    coco, images = train
    echo(*check_plausible(coco))
    if protocol == Protocol.paper:
        parts = {"train": coco, "calibration": coco}
        note = "protocol of the paper: the calibration images ARE the training images"
    else:
        parts = dict(zip(("train", "calibration"), take_calibration(coco, share, seed), strict=True))
        note = f"calibration images are taken out of the training images: {share:.0%}, seed {seed}"
    placed = {**{split: (part, images) for split, part in parts.items()}, "test": test}
    write_splits({split: ({**part, key: note}, folder) for split, (part, folder) in placed.items()}, out, link.value)
    echo(*(f"{split}: {len(part['images'])} images" for split, (part, _) in placed.items()), note)
    echo(f"wrote {out}", *next_lines(out, parts if protocol == Protocol.own else {"train": coco}))
