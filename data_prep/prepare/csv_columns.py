"""What the columns of a CSV file mean, decided by the whole first line: each may be called as many tools call it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

# In the order of choice; case, spaces and signs do not matter.
IMAGE = (
    *("filename", "imagename", "imagefile", "imagefilename", "imagepath", "filepath", "path", "file", "image", "img"),
    *("imageid", "imgid", "imageurl", "url", "uri", "photo", "picture", "frame"),
)
# A column that says "name" goes before others, one of numbers comes last. "name" alone is the class's, too, but the
# image's where there is another column for the class.
LABELS = (
    ("classname", "labelname", "categoryname", "objectname", "classtitle"),
    ("label", "class", "category", "objectclass", "objectlabel"),
    ("object", "tag", "type"),
    ("classid", "labelid", "categoryid"),
)
SPLIT = ("split", "set", "subset", "usage", "partition")
BOX_PREFIX = "bbox|bndbox|boundingbox|box|bb|roi|region|rectangle|rect|object"
IMAGE_PREFIX = "image|img|photo|picture|frame|file|original|orig|source|full"
WORDS = {
    **dict.fromkeys(("xmin", "minx", "xtl", "topleftx", "upperleftx", "leftx"), "xmin"),
    **dict.fromkeys(("ymin", "miny", "ytl", "toplefty", "upperlefty", "topy"), "ymin"),
    **dict.fromkeys(("xmax", "maxx", "xbr", "bottomrightx", "lowerrightx", "rightx", "right"), "xmax"),
    **dict.fromkeys(("ymax", "maxy", "ybr", "bottomrighty", "lowerrighty", "bottomy", "bottom"), "ymax"),
    **dict.fromkeys(("cx", "xc", "xcenter", "xcentre", "centerx", "centrex", "xmid"), "cx"),
    **dict.fromkeys(("cy", "yc", "ycenter", "ycentre", "centery", "centrey", "ymid"), "cy"),
    **{word: word for word in ("x", "y", "left", "top", "w", "h", "width", "height")},
}
CORNERS = (("xmin", "left"), ("ymin", "top"), ("xmax",), ("ymax",))
SUCH_AS = {
    "image": "file, filename, image",
    "label": "label, class, name",
    **{"x1": "xmin, x1, left", "y1": "ymin, y1, top", "x2": "xmax, x2, right", "y2": "ymax, y2, bottom"},
    **{"x": "x, left, xmin", "y": "y, top, ymin", "w": "width, w", "h": "height, h"},
}
WHOLE_BOX = ("bbox", "box", "boundingbox", "bndbox", "bboxes", "points", "polygon", "segmentation", "coordinates")
NEEDED = "needed are the image, the class, and xmin, ymin, xmax, ymax or x, y, width, height"


@dataclass(frozen=True)
class Columns:
    """Places of the columns.

    Attributes:
        image: of the image's name.
        labels: of the class; where there are several, what stands in them has to decide.
        kind: what the box is: "corners", "corner and size", "centre and size" or "outline".
        box: x1, y1, x2, y2; or x, y, width, height; or x and y of every point in turn.
        size: width and height of the image; empty if they are not there.
        split: which split the image is of, or None.
    """

    image: int
    labels: tuple[int, ...]
    kind: str
    box: tuple[int, ...]
    size: tuple[int, ...] = ()
    split: int | None = None

    def said(self, header: Sequence[str]) -> str:
        """What was taken for what, for people."""

        def quoted(*places: int) -> str:
            return ", ".join(repr(header[place].strip()) for place in places)

        parts = [
            f"image {quoted(self.image)}",
            f"class {quoted(*self.labels)}",
            f"box {quoted(*self.box)} ({self.kind})",
        ]
        parts += [f"size of the image {quoted(*self.size)}"] if self.size else []
        parts += [f"split {quoted(self.split)}"] if self.split is not None else []
        used = {self.image, *self.labels, *self.box, *self.size, self.split}
        rest = [place for place, name in enumerate(header) if place not in used and name.strip()]
        return "; ".join(parts) + (f"; not used: {quoted(*rest)}" if rest else "")


def find_columns(header: Sequence[str], path: str) -> Columns:
    """Decide what each column means.

    Raises:
        ValueError: it is no line of names, a column is missing, or one could mean two things; it says what would do.
    """
    _check_names(header, path)
    known = _Header(header)
    try:
        image, labels = _image_and_labels(known)
        kind, box, lacking = _box(known)
        lacking = ["image"] * (image is None) + ["label"] * (not labels) + lacking
        if lacking:
            raise ValueError("has no column for " + "; ".join(f"{key} (such as {SUCH_AS[key]})" for key in lacking))
        split = known.place(*SPLIT)
    except ValueError as error:
        raise ValueError(f"{path!r} {error}. Its first line is {list(header)!s:.400}; {NEEDED}") from None
    size = known.pair("image width", "image height") or known.pair("width", "height")
    return Columns(image, labels, kind, box, () if set(size) & set(box) else size, split)


class _Header:
    """The columns by their meaning; a word after "box " or "image " was said to be of the box or of the image."""

    def __init__(self, header: Sequence[str]):
        self.names, self.places = header, defaultdict(list)
        for place, name in enumerate(header):
            word = re.sub(r"[\W_]", "", re.sub(r"\.\d+$", "", name.strip()).casefold())  # pandas' second x is "x.1"
            side = re.fullmatch(rf"(?:{IMAGE_PREFIX})(w|h)(?:idth|eight)?", word)
            of_box = re.fullmatch(rf"({BOX_PREFIX})?({'|'.join(WORDS)}|[xy]\d)", word)
            if side:
                word = {"w": "image width", "h": "image height"}[side[1]]
            elif of_box:
                word = ("box " if of_box[1] else "") + WORDS.get(of_box[2], of_box[2])
            self.places[word].append(place)

    def place(self, *words: str) -> int | None:
        """Where the first of the words is that is there; `ValueError` if two columns are called so."""
        found = next((self.places[word] for word in words if word in self.places), [None])
        if len(found) > 1:
            raise ValueError(
                f"has several columns that could be meant, {self.quoted(found)}: rename those that are not"
            )
        return found[0]

    def of_box(self, *words: str) -> int | None:
        """As `place`; columns that are said to be of the box go before others."""
        return self.place(*(f"box {word}" for word in words), *words)

    def pair(self, *words: str) -> tuple[int, ...]:
        """Where all these words are, or nothing if one is not there or occurs twice."""
        found = [self.places.get(word, ()) for word in words]
        return tuple(places[0] for places in found) if all(len(places) == 1 for places in found) else ()

    def points(self) -> list[tuple[int | None, int | None]]:
        """x and y of every number that occurs, as in x1, y1, x2, y2."""
        numbers = sorted({word[-1] for word in self.places if re.fullmatch(r"(box )?[xy]\d", word)})
        return [(self.of_box(f"x{number}"), self.of_box(f"y{number}")) for number in numbers]

    def quoted(self, places: Sequence[int]) -> str:
        """The names of columns, as they stand in the file."""
        return " and ".join(repr(self.names[place].strip()) for place in places)


def _image_and_labels(known: _Header) -> tuple[int | None, tuple[int, ...]]:
    image, name = known.place(*IMAGE), known.place("name")
    tier = next((tier for tier in LABELS if any(word in known.places for word in tier)), ())
    labels = tuple(sorted(place for word in tier for place in known.places.get(word, ())))
    if image is None and labels:
        image = name
    elif not labels and image is not None and name is not None:
        labels = (name,)
    return image, labels


def _box(known: _Header) -> tuple[str, tuple[int, ...], list[str]]:
    """What the box is, its columns, and what is missing to it."""
    corners = [known.of_box(*words) for words in CORNERS]
    points = known.points()
    if None in corners and len(points) > 1:
        corners = [place for point in points for place in point]
    if None not in corners:
        return "corners" if len(corners) == 4 else "outline", tuple(corners), []
    if len(points) > 1 or corners[2] is not None or corners[3] is not None:
        names = [f"{axis}{number}" for number in range(1, len(corners) // 2 + 1) for axis in "xy"]
        return "", (), [name for name, place in zip(names, corners, strict=True) if place is None]
    starts = [(known.of_box("x", "left", "xmin"), known.of_box("y", "top", "ymin")), *points]
    centre = known.of_box("cx"), known.of_box("cy")
    start, kind = next(((s, "corner and size") for s in starts if None not in s), (centre, "centre and size"))
    size = _size(known, start)
    if None not in (*start, *size):
        return kind, (*start, *size), []
    if centre == (None, None):
        start = starts[0]
    if not any(place is not None for place in (*start, *centre)):
        _check_other_ways(known)
    return "", (), [name for name, place in zip("xywh", (*start, *size), strict=True) if place is None]


def _size(known: _Header, start: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """Width and height of the box: what is said to be so, then "w" and "h", for "width" beside them is the image's."""
    if "box w" in known.places or "box width" in known.places:
        return known.place("box w", "box width"), known.place("box h", "box height")
    short, long = known.pair("w", "h"), known.pair("width", "height")
    if short and long and None not in start:
        after = max(start)
        if min(long) == after + 1 and min(short) != after + 1:
            raise ValueError(
                f"does not say which of {known.quoted(long)}, {known.quoted(short)} are the box's: "
                "call those of the image image_width and image_height, or leave them out"
            )
    return known.place("w", "width"), known.place("h", "height")


def _check_other_ways(known: _Header) -> None:
    if "regionshapeattributes" in known.places:
        raise ValueError(
            "is of the VGG Image Annotator: export its annotations in COCO's format instead, and read these"
        )
    whole = [place for word in WHOLE_BOX for place in known.places.get(word, ())]
    if whole:
        raise ValueError(
            f"has the whole box in {known.quoted(whole[:1])}, and nobody can tell corners from corner and size there: "
            "make four columns of it"
        )


def _check_names(header: Sequence[str], path: str) -> None:
    """`ValueError` if the first line is not one of names; it says what could stand there."""
    cells = [cell.strip() for cell in header]
    numbers = [place for place, cell in enumerate(cells) if re.fullmatch(r"[-+]?\d*[.,]?\d+", cell)]
    photos = [
        place for place, cell in enumerate(cells) if PurePosixPath(cell).suffix.lower() in Image.registered_extensions()
    ]
    if not numbers and not photos:
        return
    guess = ["image" if place in photos else "label" if cell else "" for place, cell in enumerate(cells)]
    if len(numbers) == 4:
        for place, name in zip(numbers, ("xmin", "ymin", "xmax", "ymax"), strict=True):
            guess[place] = name
    like = f", such as {','.join(guess)} (or x,y,width,height for the box)" if len(numbers) == 4 else ""
    raise ValueError(
        f"{path!r} begins with {list(header)!s:.200}, which is no line of names: put one before it that says what the "
        f"columns are{like}; {NEEDED}"
    )
