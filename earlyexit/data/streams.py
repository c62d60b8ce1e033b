"""Which images files, folders, patterns, films and cameras give, as one stream; and how far a long work on many is."""

import contextlib
import glob
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..files import whole_file
from .photos import list_files, open_photo, photo_endings

EVERY = 30.0  # seconds between two lines
Item = TypeVar("Item")
FILMS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
RATE = 25.0  # frames per second of a camera that does not say how many it gives


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one, while standard error says `what` is done and how many of the `total` there have been."""
    total = len(items) if total is None and hasattr(items, "__len__") else total
    if sys.stderr.isatty():
        yield from tqdm(items, what, total, leave=False)
        return
    said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            sys.stderr.write(f"{what}: {number}{f' of {total}' if total else ''}\n")
            sys.stderr.flush()


class Source(NamedTuple):
    """Where images come from: a photo's file, a film's, or a camera's number."""

    name: str
    kind: str  # "photo", "film" or "camera"


class Shot(NamedTuple):
    """An image of a source, upright."""

    name: str  # the file, or "camera 0"
    image: Image.Image | None  # in RGB; None if it cannot be read
    note: str = ""  # why not; or what its values were taken for
    frame: int = 0  # its number in a film, from 1; 0 for a photo
    rate: float = 0.0  # frames per second of the film


def find_sources(words: Sequence[str]) -> list[Source]:
    """What is meant by words of a command: files, folders with all that is below them, patterns, numbers of cameras.

    Patterns are those of a shell, with ** for folders of any depth; shells of Windows leave them as they are.
    `ValueError` for a word that means nothing, and for films where OpenCV is missing.
    """
    found = [source for word in words for source in _of_word(word)]
    if any(source.kind != "photo" for source in found):
        _cv2()
    return list(dict.fromkeys(found))


def _of_word(word: str) -> list[Source]:
    known, problem = (*photo_endings(), *FILMS), f"no image {word!r}"
    if Path(word).is_dir():
        names = [str(Path(word, name)) for name in list_files(word, known)]
        problem = f"there is no photo and no film below the folder {word!r}"
    elif Path(word).exists():
        names = [word]
    elif word.isdigit():
        return [Source(word, "camera")]
    else:
        found = sorted(glob.glob(word, recursive=True))
        names = [name for name in found if name.lower().endswith(known) and Path(name).is_file()]
        problem = f"no image is called as {word!r} says" if glob.has_magic(word) else problem
    if not names:
        raise ValueError(problem)
    return [Source(name, "film" if name.lower().endswith(FILMS) else "photo") for name in names]


def shots(source: Source) -> Iterator[Shot]:
    """The images of a source, one by one: a photo's single one, or the frames of a film while it is read."""
    if source.kind != "photo":
        yield from _frames(source)
        return
    try:
        photo = open_photo(source.name)
    except ValueError as error:
        yield Shot(source.name, None, f"is not a readable image: {error}")
    else:
        yield Shot(source.name, photo.image, photo.note)


def _frames(source: Source) -> Iterator[Shot]:
    cv2, camera = _cv2(), source.kind == "camera"
    name = f"camera {source.name}" if camera else source.name
    film = cv2.VideoCapture(int(source.name) if camera else source.name)
    try:
        rate, count = film.get(cv2.CAP_PROP_FPS), film.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = rate if 0 < rate < 1000 else RATE
        read = iter(film.read, (False, None))  # what the end gives
        number = 0
        for number, (_, frame) in enumerate(progress(read, name, int(count) if count > 0 and not camera else None), 1):
            yield Shot(name, Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)), "", number, rate)
        if not number:
            yield Shot(name, None, "gives no images" if camera else "is not a readable film")
    finally:
        film.release()


@contextlib.contextmanager
def film_writer(path: Path, size: tuple[int, int], rate: float) -> Iterator[Callable[[Image.Image], None]]:
    """A function that adds a frame, of that width and height, to an MP4 file, which appears whole or not at all."""
    cv2 = _cv2()
    with whole_file(path, ".mp4") as temporary:
        film = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
        if not film.isOpened():
            raise ValueError(f"cannot write the film {str(path)!r}: OpenCV has no writer for frames of {size}")
        try:
            yield lambda image: film.write(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR))
        finally:
            film.release()


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        what = 'the extra "video" of this package'
        raise ValueError(f"films and cameras need OpenCV, {what}: pip install opencv-python-headless") from None
    return cv2
