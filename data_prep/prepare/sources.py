"""The annotation files of a data set, one or one of each split, and the folders of their images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from earlyexit.data import Coco, list_files

from .splits import only_several, split_of_name, split_of_path

# Beside COCO's instances other files describe the same images; Roboflow's begin with an underscore.
PREFERRED = ("instances", "_annotations")
DEPTH = 2  # folders below the one that is given


def find_sources(source: Path, ending: str) -> dict[Path, str]:
    """The files to read and the split of each, "" where there are no splits.

    Args:
        source: the file; or a folder with one, or with one for each split, by their names or those of their folders.
        ending: of the files, such as ".json".

    Raises:
        ValueError: there is no such file, or several for one split; it lists them.
    """
    if source.is_file():
        return {source: ""}
    names = [name for name in list_files(source, (ending,)) if name.count("/") < DEPTH]
    if not names:
        raise ValueError(f"{str(source)!r} holds no *{ending} file; give the file, or the folder that it is in")
    known = {name: split_of_name(PurePosixPath(name).stem) or split_of_path(name) for name in names}
    known = only_several({name: split for name, split in known.items() if split}) or dict.fromkeys(names, "")
    groups = defaultdict(list)
    for name, split in known.items():
        groups[split].append(name)
    return {source / _choose(source, files): split for split, files in groups.items()}


def _choose(source: Path, names: Sequence[str]) -> str:
    preferred = [name for name in names if PurePosixPath(name).name.casefold().startswith(PREFERRED)]
    chosen = preferred or names
    if len(chosen) > 1:
        raise ValueError(f"{str(source)!r} holds several files, {', '.join(chosen[:5])}: give the one that is meant")
    return chosen[0]


def images_of(file: Path, split: str, root: Path, names: Iterable[str]) -> str:
    """The folder, relative to `root`, that the images of an annotation file are in; "" if it is `root`, or unknown.

    Looked at are the folder of the file and those called like the split; the one with most of the names is it.

    Args:
        file: with the annotations.
        split: of the file; "" if it is of no split, and names are relative to `root`.
        root: the folder of all images.
        names: some images of the file.
    """
    if not split:
        return ""
    folders = [folder for above in (root, root / "images") if above.is_dir() for folder in sorted(above.iterdir())]
    folders = [folder for folder in folders if folder.is_dir() and split_of_name(folder.name) == split]
    near = [file.parent] if file.parent.is_relative_to(root) else []
    choices = [*near, *folders, root / "images", root]
    choices = [inner for folder in choices for inner in (folder, folder / "images", folder / "data")]
    found = {folder: sum((folder / name).is_file() for name in names) for folder in choices}
    best = max(found, key=found.get)
    return best.relative_to(root).as_posix().removeprefix(".") if found[best] else ""


def merge(parts: Sequence[Coco]) -> Coco:
    """Several data sets as one. Images and annotations are numbered anew, and classes of one name are one class.

    Where all have the same categories these stay; otherwise they are numbered from 1 in the order of their names.
    """
    if len(parts) == 1:
        return parts[0]
    categories = parts[0]["categories"]
    if any(part["categories"] != categories for part in parts):
        names = sorted({category["name"] for part in parts for category in part["categories"]})
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    number = {category["name"]: category["id"] for category in categories}
    images, annotations = [], []
    for part in parts:
        names = {category["id"]: category["name"] for category in part["categories"]}
        new = {image["id"]: len(images) + place for place, image in enumerate(part["images"], 1)}
        images += [{**image, "id": new[image["id"]]} for image in part["images"]]
        annotations += [
            {**a, "image_id": new[a["image_id"]], "category_id": number[names[a["category_id"]]]}
            for a in part["annotations"]
        ]
    annotations = [{**found, "id": place} for place, found in enumerate(annotations, 1)]
    return {**parts[0], "images": images, "annotations": annotations, "categories": categories}
