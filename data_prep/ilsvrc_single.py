"""Make ILSVRC-Single (paper, section 4.1.1 and table 2) in COCO's layout: the images of ImageNet with one object.

python data_prep/ilsvrc_single.py --root imagenet --out data/ilsvrc-single
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from earlyexit.cli import run_app
from prepare import commands
from prepare.boxes import ImageBoxes, fill_size, fit_boxes, to_coco
from prepare.cleaning import Report, check_photos
from prepare.commands import Link, Protocol
from prepare.xml_boxes import read_xml_folder

PAPER_IMAGES, PAPER_CLASSES = 20_192, 200
TASKS = ("DET", "CLS-LOC")
# Lists of WordNet ids with names that come with ImageNet: the development kits' and Kaggle's.
NAME_FILES = {"DET": ("map_det.txt",), "CLS-LOC": ("LOC_synset_mapping.txt", "map_clsloc.txt")}


def find_task(root: str | Path, task: str | None = None) -> tuple[Path, str]:
    """The folder with Annotations/ and Data/ (`root`, or ILSVRC/ in it), and which task it has: DET if it has both.

    Raises:
        ValueError: neither task, or not the one that is asked for, is there.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"the task is one of {TASKS}, got {task!r}")
    for folder in (Path(root), Path(root) / "ILSVRC"):
        for name in (task,) if task else TASKS:
            if (folder / "Annotations" / name).is_dir() and (folder / "Data" / name).is_dir():
                return folder, name
    wanted = task or "DET (or CLS-LOC)"
    raise ValueError(f"{str(root)!r} is not ImageNet's folder: it has no Annotations/{wanted} and Data/{wanted}")


def read_classes(path: str | Path) -> dict[str, str]:
    """WordNet ids and names from a file of lines such as "n02672831 accordion", sorted by id.

    ImageNet's own lists can be read too: a number after the id is passed over, and of several names between commas
    the first is taken. A name that occurs twice gets its id in brackets, an id without a name is its own.

    Raises:
        ValueError: the file is not readable, or a line does not begin with a WordNet id.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"the list of classes {str(path)!r} is not readable: {error}") from None
    names = {}
    for line in filter(str.strip, lines):
        parts = re.fullmatch(r"\s*(n\d{8})(?:\s+\d+(?=\s))?(?:\s+([^,]*).*)?", line)
        if not parts:
            raise ValueError(
                f"{str(path)!r}: each line is a WordNet id and a name, 'n02672831 accordion', not {line!r}"
            )
        names[parts[1]] = (parts[2] or "").strip() or parts[1]
    often = Counter(names.values())
    return {key: name if often[name] == 1 else f"{name} ({key})" for key, name in sorted(names.items())}


def find_names(root: str | Path, task: str) -> dict[str, str]:
    """Readable names from the list of classes that lies in ImageNet's folder, or beside it; {} if there is none."""
    root = Path(root)
    for name in NAME_FILES[task]:
        for folder in (root, root.parent, root / "devkit" / "data"):
            if (folder / name).is_file():
                return read_classes(folder / name)
    return {}


def read_ilsvrc(folder: Path, task: str, split: str, report: Report, *, only: str = "*") -> list[ImageBoxes]:
    """The records of Annotations/TASK/SPLIT, with the images that they belong to in Data/TASK/SPLIT.

    An XML file's image has the same path with the ending JPEG; <filename> is not asked, it is often wrong or bare.
    """
    records = read_xml_folder(folder / "Annotations" / task / split, report, origin=0, only=only)
    for record in records:
        record.file_name = str(PurePosixPath(record.source).with_suffix(".JPEG"))
    return records


def all_classes(records: Iterable[ImageBoxes], names: Mapping[str, str]) -> dict[str, str]:
    """The WordNet ids that occur, sorted, with their names; the id itself where `names` has none."""
    seen = {name for record in records for name, _ in record.objects}
    return {key: names.get(key, key) for key in sorted(seen)}


def single_objects(
    records: Iterable[ImageBoxes], classes: Mapping[str, str], images: Path, report: Report
) -> tuple[dict, Counter]:
    """Images with exactly one object, of one of `classes`, as COCO instances; the others are counted.

    Objects of any class count, so that a second object of another class still makes two. So does an object that could
    not be used. Categories are numbered from 1 in the order of `classes` and carry their WordNet id as "wnid".

    Returns:
        The data set, and a count of "single", "no object", "several objects", "another class" and "unusable".
    """
    kept, verdicts = [], Counter()
    for record in records:
        verdict = _verdict(record, classes)
        if verdict == "single":
            if fill_size(record, images, report):
                fit_boxes(record, report)
            else:
                record.lost += 1
            verdict = _verdict(record, classes)
        verdicts[verdict] += 1
        if verdict == "single":
            kept.append(record)
    coco = to_coco(kept, classes)
    categories = [{**category, "wnid": key} for category, key in zip(coco["categories"], classes, strict=True)]
    return {**coco, "categories": categories}, verdicts


def _verdict(record: ImageBoxes, classes: Mapping[str, str]) -> str:
    if record.is_single:
        return "single" if record.objects[0][0] in classes else "another class"
    if record.lost:
        return "unusable"
    return "several objects" if record.objects else "no object"


def compare_with_paper(datasets: Iterable[dict]) -> list[str]:
    """Counts beside the paper's (table 2), and a plain word where they differ."""
    datasets = list(datasets)
    images = sum(len(coco["images"]) for coco in datasets)
    classes = len({found["category_id"] for coco in datasets for found in coco["annotations"]})
    if (images, classes) == (PAPER_IMAGES, PAPER_CLASSES):
        return [f"ILSVRC-Single: {images:,} images of {classes} classes, as in the paper"]
    return [
        f"NOT the paper's ILSVRC-Single: {images:,} images that show {classes} classes; "
        f"the paper has {PAPER_IMAGES:,} and {PAPER_CLASSES}",
        "the paper does not say which of ILSVRC's training folders it took (see --only)",
    ]


def read_single(root: Path, task: str | None, classes: Path | None, only: str, check: bool, faults: Report) -> list:
    """For "train" and "val": (images with one object as COCO instances, the folder of the images)."""
    folder, task = find_task(root, task)
    known = read_classes(classes) if classes else find_names(root, task)
    patterns = {"train": only, "val": "*"}
    records = {split: read_ilsvrc(folder, task, split, faults, only=p) for split, p in patterns.items()}
    if not classes:
        known = all_classes(records["train"] + records["val"], known)
    typer.echo(f"{folder}, {task}: {len(known)} classes")
    single = []
    for split, found in records.items():
        images = folder / "Data" / task / split
        coco, verdicts = single_objects(found, known, images, faults)
        typer.echo(f"{split}: {len(found)} files; " + ", ".join(f"{v}: {verdicts[v]}" for v in sorted(verdicts)))
        single.append((check_photos(coco, images, faults) if check else coco, images))
    return single


app = typer.Typer(add_completion=False)


@app.command()
def main(
    root: Annotated[Path, typer.Option(help="ImageNet's folder: Annotations/ and Data/, or ILSVRC/ with these.")],
    out: commands.Out,
    task: Annotated[str | None, typer.Option(help="DET or CLS-LOC; DET if there are both.")] = None,
    classes: Annotated[Path | None, typer.Option(help='Lines "n02672831 accordion"; else all there are.')] = None,
    only: Annotated[str, typer.Option(help="Pattern for training files, such as 'ILSVRC2014_train_*'.")] = "*",
    protocol: commands.ProtocolOption = Protocol.own,
    share: commands.Share = 0.2,
    seed: commands.Seed = 0,
    link: commands.LinkOption = Link.hard,
    strict: commands.Strict = False,
    report: commands.ReportFile = None,
    check: commands.Check = True,
) -> None:
    """Test images are those of val; calibration images are taken out of train. Categories follow the WordNet ids."""
    faults = Report()
    with commands.refusals():
        commands.check_places_and_share(out, report, share)
        train, test = read_single(root, task, classes, only, check, faults)
        commands.tell(faults, report, strict)
        commands.write_single(train, test, out, "ilsvrc_single", protocol=protocol, share=share, seed=seed, link=link)
    commands.echo(*compare_with_paper(coco for coco, _ in (train, test)))


if __name__ == "__main__":
    run_app(app)
