"""Pictures: those that files, folders, patterns, films and cameras give, as one stream; and detections on them.

Detections are drawn into figures, or painted over the photo's own pixels and written as a film.
"""

import contextlib
import functools
import glob
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data.photos import list_files, open_photo, photo_endings
from ..files import progress, whole_file, write_whole

# Okabe and Ito's colours, which colour-blind readers can tell apart; one for each exit.
EXIT_COLOURS = {1: "#009E73", 2: "#0072B2", 3: "#E69F00", 4: "#D55E00"}
TRUTH_COLOUR = "#222222"
FILMS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
RATE = 25.0  # frames per second of a camera that does not say how many it gives
SHOWN = 480  # pixels of the longer side of a photo in a picture of many


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


def show_image(ax: Axes, image: Tensor | np.ndarray) -> None:
    """Show an image, (3, H, W) floats in [0, 1] or (H, W, 3) bytes, without axes."""
    ax.imshow(image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy() if isinstance(image, Tensor) else image)
    ax.set_axis_off()


def draw_boxes(ax: Axes, boxes: Tensor, names: Sequence[str], *, colour: str, dashed: bool = False) -> None:
    """Draw xyxy boxes with their names into an axes that shows the image; names grow towards its middle."""
    middle = sum(ax.get_xlim()) / 2
    for (x0, y0, x1, y1), name in zip(boxes.tolist(), names, strict=True):
        style = {"fill": False, "edgecolor": colour, "linewidth": 1.6, "linestyle": "--" if dashed else "-"}
        ax.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, **style))
        label = {"color": "white", "fontsize": 9, "bbox": {"facecolor": colour, "edgecolor": "none", "pad": 1.2}}
        if name:
            at_right = (x0 + x1) / 2 > middle
            label |= {"ha": "right" if at_right else "left", "va": "bottom", "parse_math": False}  # "$" is a letter
            ax.text(x1 if at_right else x0, y0, name, **label)


def draw_detection(
    ax: Axes,
    image: Tensor | np.ndarray,
    detection: dict,
    classes: Sequence[str],
    *,
    min_score: float = 0.5,
    note: str = "",
) -> None:
    """Show an image, its detections from `min_score` on, and the exit that it took with its confidence.

    The image is (3, H, W) floats in [0, 1], or (H, W, 3) bytes; `detection` one item of what the detector gives in
    eval mode; a `note` is added to the title.
    """
    show_image(ax, image)
    boxes, names, colour, title = _shown(detection, classes, min_score, note)
    draw_boxes(ax, boxes, names, colour=colour)
    ax.set_title(title, fontsize=9, color=colour, fontweight="bold", parse_math=False)


def paint_detection(
    image: Image.Image, detection: dict, classes: Sequence[str], *, min_score: float = 0.5, note: str = ""
) -> Image.Image:
    """A copy of a photo, or of a frame of a film, with what `draw_detection` shows painted over its own pixels.

    A small one is enlarged by a whole number, so that there is room for the words.
    """
    boxes, names, colour, title = _shown(detection, classes, min_score, note)
    times = math.ceil(SHOWN / max(image.size))
    painted = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    pen, line = ImageDraw.Draw(painted), max(2, round(max(painted.size) / 400))
    font = _font(max(12, round(max(painted.size) / 50)))
    places = (boxes * times).tolist()
    labels = [(box[:2], name) for box, name in zip(places, names, strict=True)]
    for box in places:
        pen.rectangle(box, outline=colour, width=line)
    for (x, y), text in [*labels, ((0, 0), title)]:
        width, height = pen.multiline_textbbox((0, 0), text, font=font)[2:]
        place = max(min(x, painted.width - width - 2 * line), 0), max(y - height - line, 0)
        pen.rectangle((*place, place[0] + width + 2 * line, place[1] + height + line), fill=colour)
        pen.multiline_text((place[0] + line, place[1]), text, fill="white", font=font)
    return painted


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's, which has many alphabets."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def _shown(detection: dict, classes: Sequence[str], min_score: float, note: str) -> tuple[Tensor, list[str], str, str]:
    """Boxes from `min_score` on, the best last so that it lies over the others; their names, a colour, and a title."""
    rising = detection["scores"].argsort()
    good = rising[detection["scores"][rising] >= min_score]
    scored = zip(detection["labels"][good].tolist(), detection["scores"][good].tolist(), strict=True)
    names = [f"{classes[label]} {score:.2f}" for label, score in scored]
    empty = detection["exit"] not in EXIT_COLOURS  # exit 1 took the image for empty
    colour = TRUTH_COLOUR if empty else EXIT_COLOURS[detection["exit"]]
    title = "taken for empty at exit 1" if empty else f"exit {detection['exit']}"
    title += f", confidence {detection['confidence']:.2f}" + (f"\n{note}" if note else "")
    # File names may hold bytes that are no text, which no font can show.
    return detection["boxes"][good], names, colour, title.encode(errors="replace").decode()


def image_grid(count: int, *, columns: int = 4, size: float = 2.4) -> tuple[Figure, list[Axes]]:
    """A figure of `count` square axes in rows of `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size * 1.12), squeeze=False)
    flat = list(axes.flat)
    for ax in flat[count:]:
        ax.remove()
    figure.set_layout_engine("constrained")
    return figure, flat[:count]


def save_figure(figure: Figure, path: Path, **options) -> None:
    """`figure.savefig` into a file that appears whole or not at all; a letter that the font lacks is an empty box."""
    with warnings.catch_warnings():
        # Matplotlib has a warning for each such letter, which tells a user nothing that the picture does not.
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support")
        write_whole(path, lambda temporary: figure.savefig(temporary, **options))


def small_copy(image: Image.Image, detection: dict) -> tuple[np.ndarray, dict]:
    """A photo as (H, W, 3) bytes, and what was found on it, at the size of a picture of many."""
    scale = min(1.0, SHOWN / max(image.size))
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = image if scale == 1 else image.resize(size, Image.Resampling.BOX, reducing_gap=2)
    boxes = detection["boxes"] * detection["boxes"].new_tensor([size[0] / image.width, size[1] / image.height] * 2)
    return np.asarray(small), {**detection, "boxes": boxes}
