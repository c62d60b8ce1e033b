"""What a data set in YOLO's layout is made of: its classes, the images of each split, and where their labels lie."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from earlyexit.data import list_files, without_ending

from .splits import read_lines, read_lists, read_text, split_of_name

CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "_classes.txt")
IMAGE_FOLDERS = ("images", "jpegimages", "imgs", "img")  # beside which there is one called "labels"
NO_LABELS = ("classes", "_classes", "predefined_classes", "notes", "readme")  # text files that may lie among labels


@dataclass
class YoloSet:
    """What describes a data set as a whole.

    Attributes:
        root: the folder that all images are below.
        classes: the name of each number.
        images: {split: its images, relative to `root`}; "" where nothing says which split an image is of.
        keypoints: numbers after each box that are points of a pose.
        notes: what was taken for what, and what is not there.
    """

    root: Path
    classes: dict[int, str]
    images: dict[str, list[str]]
    keypoints: int = 0
    notes: list[str] = field(default_factory=list)


def describe(source: Path, images: Path | None) -> YoloSet:
    """Read a data.yaml, or a list of classes and the folders.

    Args:
        source: the YAML file; the list, such as classes.txt; or a folder with one of them.
        images: the folder of the images, if it is another one.

    Raises:
        ValueError: there are no names of classes, or no images.
    """
    if source.suffix.lower() in (".yaml", ".yml"):
        return _from_yaml(source, read_yaml(source), images)
    if source.is_dir():
        files = sorted([*source.glob("*.yaml"), *source.glob("*.yml")], key=lambda path: path.stem != "data")
        for path in files:
            if "names" in (content := read_yaml(path)):
                return _from_yaml(path, content, images)
    return _from_folder(source, images)


def read_yaml(path: Path) -> dict:
    """The content of a YAML file, every value a text, a list or a dict: a class called "no" is no False.

    Raises:
        ValueError: it is not readable, or does not hold keys and values.
    """
    try:
        import yaml
    except ImportError:
        raise ValueError(f"reading {str(path)!r} needs the package pyyaml: pip install pyyaml") from None
    try:
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no keys and values, as a data.yaml does")
    return content


def _from_yaml(path: Path, content: dict, images: Path | None) -> YoloSet:
    bases = [images] if images else []
    bases += [path.parent / content["path"]] if isinstance(content.get("path"), str) else []
    files, notes = {}, []
    for key, value in content.items():
        split = split_of_name(key)
        for entry in _texts(value) if split else ():
            found = _find_entry(entry, [*bases, path.parent])
            if not found:
                notes.append(f"{path.name}: no images for {key}, looked for {entry!r}")
            files.setdefault(split, []).extend(found)
    files = {split: paths for split, paths in files.items() if paths}
    if not files:
        raise ValueError(f"{str(path)!r} names no folder of images that is there; {'; '.join(notes) or 'no train'}")
    folders = {path.parent for paths in files.values() for path in paths}
    root = Path(os.path.commonpath(folders))
    shape = [int(number) for number in _texts(content.get("kpt_shape")) if number.isdecimal()]
    names = {split: [file.relative_to(root).as_posix() for file in paths] for split, paths in files.items()}
    return YoloSet(root, _classes(content.get("names"), path), names, math.prod(shape) if shape else 0, notes)


def _from_folder(source: Path, images: Path | None) -> YoloSet:
    folder = source if source.is_dir() else source.parent
    lists = [source] if source.suffix.lower() in (".txt", ".names", ".labels") and source.is_file() else []
    if not lists:  # a folder; or Darknet's obj.data, whose paths seldom hold, beside obj.names
        lists = [folder / name for name in list_files(folder, CLASS_LISTS)]
    if not lists or source.is_file() and source.suffix.lower() not in (".txt", ".names", ".labels", ".data"):
        raise ValueError(
            f"{str(source)!r} does not name its classes: put a data.yaml with `names` there, or a classes.txt with a "
            "name in each line, in the order of the numbers"
        )
    root = images or folder
    names, splits = list_files(root), read_lists(folder)
    if not names:
        raise ValueError(f"no images below {str(root)!r}; say with --images where they are")
    found = {}
    for name in names:
        found.setdefault(splits.get(without_ending(PurePosixPath(name)), ""), []).append(name)
    classes = read_lines(lists[0])
    return YoloSet(root, dict(enumerate(classes)), found, notes=[f"{len(classes)} classes from {str(lists[0])!r}"])


def _find_entry(entry: str, bases: Sequence[Path]) -> list[Path]:
    """The images of a folder, or of a list of paths, that a data.yaml names; none if there is no such.

    Roboflow writes ../train/images for what lies in train/images beside the file.
    """
    entry = entry.replace("\\", "/")
    for place in (base / name for base in bases for name in (entry, entry.removeprefix("../"))):
        place = Path(os.path.abspath(place))  # links stay, for the labels lie beside them
        if place.is_dir():
            return [place / name for name in list_files(place)]
        if place.is_file():
            lines = [line.replace("\\", "/") for line in read_lines(place)]
            found = ([base / line for base in (place.parent, *bases)] for line in lines)
            chosen = (next((path for path in choices if path.is_file()), choices[0]) for choices in found)
            return [Path(os.path.abspath(path)) for path in chosen]
    return []


def _classes(names: object, path: Path) -> dict[int, str]:
    """{number: name} from a list, or from a dict whose keys are numbers."""
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    classes = {int(number): name for number, name in pairs if str(number).isdecimal() and isinstance(name, str)}
    if not classes or len(classes) != len(names):
        raise ValueError(f"{str(path)!r} needs `names`: a list of the classes, or a number and a name for each")
    return classes


def _texts(value: object) -> Iterable[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]


def label_folders(found: YoloSet, source: Path) -> dict[Path, str | None]:
    """The folders of label files, each with the folder of its images relative to the root; None if it has several.

    Labels lie in `labels` where the images lie in `images`, at any depth, or beside the images.
    """
    own = source if source.is_dir() else source.parent
    result = {}
    for inner in sorted({str(PurePosixPath(name).parent) for names in found.images.values() for name in names}):
        folder = found.root / inner
        choices = [folder, folder / "labels", folder.parent / "labels", own / "labels", own]
        for place in reversed(range(len(folder.parts))):
            if folder.parts[place].casefold() in IMAGE_FOLDERS:
                choices.insert(0, Path(*folder.parts[:place], "labels", *folder.parts[place + 1 :]))
                break
        chosen = next((choice for choice in choices if any(label_files(choice))), None)
        if chosen:
            result[chosen] = None if chosen in result else inner
    return result


def label_files(folder: Path) -> list[Path]:
    """The text files of a folder that may hold labels."""
    found = folder.iterdir() if folder.is_dir() else ()
    texts = (path for path in found if path.suffix.lower() == ".txt" and not path.name.startswith("."))
    return sorted(path for path in texts if path.stem.casefold().split(".")[0] not in NO_LABELS and not _is_list(path))


def _is_list(path: Path) -> bool:
    """Whether a text file lists the images of a split; it may as well be the labels of a photo of a train."""
    if path.stem.casefold() not in ("train", "val", "valid", "test", "trainval"):
        return False
    with open(path, "rb") as file:
        return file.read(1).strip(b"0123456789 \t\r\n") != b""
