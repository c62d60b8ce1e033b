"""Draw the embedded data set "scenes" and write it in the COCO layout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from earlyexit.cli import run_app
from earlyexit.data import load_coco
from earlyexit.data.scenes import export_scenes
from prepare.commands import echo, refusals
from prepare.layout import check_writable
from prepare.next_steps import next_lines


def main(
    out: Annotated[Path, typer.Option(help="Folder for the images and annotations.")],
    train: Annotated[int, typer.Option(help="Number of training scenes.")] = 8000,
    calibration: Annotated[int, typer.Option(help="Number of calibration scenes.")] = 2000,
    test: Annotated[int, typer.Option(help="Number of test scenes.")] = 2000,
    pretrain: Annotated[int, typer.Option(help="Number of pretraining scenes.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images in pixels (64 to 1024).")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    split_only: Annotated[
        str | None, typer.Option(help="Write only this split: train, calibration, test or pretrain.")
    ] = None,
) -> None:
    """Draw the scenes and write them below OUT."""
    counts = {"train": train, "calibration": calibration, "test": test, "pretrain": pretrain}
    if split_only is not None:
        counts = {split_only: counts.get(split_only, 0)}  # export_scenes knows which there are
    start = time.perf_counter()
    with refusals():
        check_writable(out)
        paths = export_scenes(out, counts, size, seed, workers, progress=True)
    for split, path in paths.items():
        typer.echo(f"{split}: {counts[split]} scenes, {path}")
    typer.echo(f"done in {time.perf_counter() - start:.0f} s")
    if "train" in paths:
        echo(*next_lines(out, {split: load_coco(path) for split, path in paths.items()}))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run_app(app)
