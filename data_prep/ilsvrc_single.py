"""Make ILSVRC-Single, the images of ImageNet's detection data with exactly one object, in COCO's layout.

python data_prep/ilsvrc_single.py --root imagenet --out data/ilsvrc-single
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earlyexit.command_line import check_file, run_app
from earlyexit.data.prepare import ilsvrc
from earlyexit.data.prepare.choices import Link, Protocol
from earlyexit.data.prepare.dividing import write_splits
from earlyexit.data.prepare.layout import check_images, check_writable
from earlyexit.data.prepare.report import Report
from earlyexit.data.prepare.splits import take_calibration


def read_single(root: Path, task: str | None, classes: Path | None, only: str, check: bool, faults: Report) -> dict:
    """{"train" and "val": (images with one object as COCO instances, the folder of the images)}."""
    folder, task = ilsvrc.find_task(root, task)
    known = ilsvrc.read_classes(classes) if classes else ilsvrc.find_names(root, task)
    patterns = {"train": only, "val": "*"}
    records = {split: ilsvrc.read_ilsvrc(folder, task, split, faults, only=p) for split, p in patterns.items()}
    if not classes:
        known = ilsvrc.all_classes(records["train"] + records["val"], known)
    typer.echo(f"{folder}, {task}: {len(known)} classes")
    single = {}
    for split, found in records.items():
        images = folder / "Data" / task / split
        coco, verdicts = ilsvrc.single_objects(found, known, images, faults)
        typer.echo(f"{split}: {len(found)} files; " + ", ".join(f"{v}: {verdicts[v]}" for v in sorted(verdicts)))
        single[split] = (check_images(coco, images, faults) if check else coco, images)
    return single


app = typer.Typer(add_completion=False)


@app.command()
def main(
    root: Annotated[Path, typer.Option(help="ImageNet's folder: Annotations/ and Data/, or ILSVRC/ with these.")],
    out: Annotated[Path, typer.Option(help="Folder to make: annotations/, train/, calibration/ and test/.")],
    task: Annotated[str | None, typer.Option(help="DET or CLS-LOC; DET if there are both.")] = None,
    classes: Annotated[Path | None, typer.Option(help='Lines "n02672831 accordion"; else all there are.')] = None,
    only: Annotated[str, typer.Option(help="Pattern for training files, such as 'ILSVRC2014_train_*'.")] = "*",
    protocol: Annotated[Protocol, typer.Option(help="paper: calibration images are training images.")] = Protocol.own,
    share: Annotated[float, typer.Option(help="Of the training images, for calibration.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed takes other images for calibration.")] = 0,
    link: Annotated[Link, typer.Option(help="Hard links need no space; across disks they become copies.")] = Link.hard,
    strict: Annotated[bool, typer.Option("--strict", help="Stop, and list them, if files are unusable.")] = False,
    report: Annotated[Path | None, typer.Option(help="CSV of all that was dropped or mended.")] = None,
    check: Annotated[bool, typer.Option("--check-images/--no-check-images", help="Open every image.")] = True,
) -> None:
    """Test images are those of val; calibration images are taken out of train. Categories follow the WordNet ids."""
    faults = Report()
    try:
        if not 0 < share < 1:
            raise ValueError(f"--share is between 0 and 1, such as 0.2, got {share}")
        check_file("--report", report)
        check_writable(out)
        single = read_single(root, task, classes, only, check, faults)
        if report:
            faults.write(report)
        if strict:
            faults.check_strict()
        for line in faults.lines():
            typer.echo(line)
        whole, images = single["train"]
        if protocol == Protocol.paper:
            train, calibration, note = whole, whole, "protocol of the paper: the calibration images ARE training images"
        else:
            train, calibration = take_calibration(whole, share, seed)
            note = f"calibration images are taken out of the training images: {share:.0%}, seed {seed}"
        parts = {"train": (train, images), "calibration": (calibration, images), "test": single["val"]}
        noted = {split: ({**coco, "ilsvrc_single": note}, folder) for split, (coco, folder) in parts.items()}
        write_splits(noted, out, link.value)  # the files tell it, too
    except (ValueError, OSError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    for split, (coco, _) in parts.items():
        typer.echo(f"{split}: {len(coco['images'])} images")
    for line in [note, *ilsvrc.compare_with_paper(coco for coco, _ in single.values())]:
        typer.echo(line)


if __name__ == "__main__":
    run_app(app)
