"""Photo files: opened as eight bits of red, green and blue, and found below a folder by what annotations call them."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Pillow's image; `ValueError` with its reason for whatever stops it from being opened or used within."""
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow raises errors of many kinds for broken files, and one of its own for huge ones
        raise ValueError(str(error) or type(error).__name__) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; `ValueError` for floats that are neither in [0, 1] nor in [0, 255]."""
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to 8
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    elif image.mode == "F":
        low, high = image.getextrema()
        if not 0 <= low <= high <= 255:
            raise ValueError(f"its floats are from {low:g} to {high:g}; they have to be in [0, 1] or in [0, 255]")
        image = image.point(lambda value: value * 255) if high <= 1 else image
    return image.convert("RGB")


def list_files(folder: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[str]:
    """Files below a folder with one of these endings (in any case), sorted, relative, with "/" between folders."""
    found = []
    for path, _, names in os.walk(folder):
        inner = Path(path).relative_to(folder).as_posix()
        before = "" if inner == "." else inner + "/"
        found += [before + name for name in names if name.lower().endswith(tuple(suffixes)) and name[0] != "."]
    return sorted(found)


def stays_inside(file_name: str) -> bool:
    """Whether a file name names something below the folder that it is relative to."""
    return Path(file_name).name != "" and not Path(file_name).is_absolute() and ".." not in Path(file_name).parts


class PhotoFinder:
    """Finds a photo below a folder by the annotation file that describes it, and by the name that this gives.

    Args:
        folder: searched to any depth.
    """

    def __init__(self, folder: str | Path):
        self._by_path, self._by_name = defaultdict(list), defaultdict(list)
        for name in list_files(folder):
            stem = PurePosixPath(name).with_suffix("")
            self._by_path[str(stem).casefold()].append(name)
            self._by_name[stem.name.casefold()].append(name)

    def find(self, own: PurePosixPath, named: PurePosixPath) -> str | None:
        """The photo's name relative to the folder; None if there is none, or several: never a guess.

        The annotation's own path decides: a/b belongs to a/b.jpg, or else to the only b.* there is. Where there is no
        such photo the given name decides, with or without ending, with or without folders; it also chooses between
        b.jpg and b.png. Case does not matter.

        Args:
            own: the annotation's path without its ending; empty where it says nothing about the photo.
            named: what the annotation calls the photo; empty if it does not say.
        """
        choices = [(self._by_path, str(own)), (self._by_name, own.name)]
        if named.name:
            other = named.with_name(without_ending(named))
            choices += [(self._by_path, str(own.parent / other)), (self._by_path, str(other))]
            choices += [(self._by_name, other.name)]
        photos = (_choose(known.get(key.casefold(), []), named.name) for known, key in choices)
        return next(filter(None, photos), None)


def without_ending(path: PurePosixPath) -> str:
    """A photo's name without its ending; another dot, as in "scan.0001", belongs to the name."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _choose(photos: list[str], named: str) -> str | None:
    """The only photo, or the only one that is named so."""
    same = [photo for photo in photos if PurePosixPath(photo).name == named] or photos
    return same[0] if len(same) == 1 else None
