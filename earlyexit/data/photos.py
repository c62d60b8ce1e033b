"""Where the photos of an annotation file are, whatever a tool on another system called them, and how one is opened.

There is one opener, which gives every photo upright in eight bits of red, green and blue, and its size.
"""

import contextlib
import difflib
import functools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from PIL import ExifTags, Image, UnidentifiedImageError

# What turns a photo upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # what such a file says it is


class Photo(NamedTuple):
    """A photo as everything in this package sees it: the `image` upright, in RGB; the `size`, width and height of the
    whole photo upright, also where `image` is a small copy; and a `note`, what its values were taken for where the file
    does not say it ("" where it does)."""

    image: Image.Image
    size: tuple[int, int]
    note: str


class Header(NamedTuple):
    """What a photo says of itself before its pixels are read: its size upright, its EXIF orientation, 1 to 8, and
    whether it is `deep`: of 16 bits, of which only the pixels tell how many are used."""

    size: tuple[int, int]
    orientation: int
    deep: bool = False


def open_photo(path: str | Path, *, longest: int | None = None) -> Photo:
    """Read a photo to its last byte, and turn it the way its EXIF orientation says.

    Of previews `longest` limits the longer side: a JPEG is decoded small, which is faster. `ValueError` with the
    reason, whatever it is that stops the photo from being used.
    """
    with _opened(path) as image:
        size, orientation, deep = _header(image)
        if longest:
            image.draft("RGB", (longest, longest))
        image.load()
        if orientation in TURNS and image.format != "TIFF":  # which Pillow turns itself
            image = image.transpose(TURNS[orientation])
        upright, note = _eight_bits(image, deep and not image.mode.startswith("I"))
        if longest:
            upright.thumbnail((longest, longest))
        return Photo(upright, size, note)


def read_header(path: str | Path) -> Header:
    """The size and orientation of a photo whose pixels are not read; `ValueError` with the reason if it cannot be."""
    with _opened(path) as image:
        return _header(image)


def size_problem(said: tuple[int, int], header: Header) -> str:
    """What is wrong if annotations are for an image of the size `said`; "" if nothing is.

    A photo that lies on its side in the file may be annotated so or upright: with its sides exchanged nobody can tell
    what its boxes mean, so this is never mended but said, with what helps in either case.
    """
    width, height = header.size
    if said == header.size:
        return ""
    if said != header.size[::-1]:
        return f"image of another size: {width} x {height}, its annotations are for {said[0]} x {said[1]}"
    problem = f"annotations for the other orientation: {said[0]} x {said[1]}, the photo is {width} x {height}"
    if header.orientation < 5:
        return f"{problem} and has no EXIF orientation that says otherwise; turn it back or annotate it again"
    return (
        f"{problem} when turned as its EXIF orientation {header.orientation} says; if its boxes are right for the "
        "upright photo, leave width and height out of the annotations, and if they are right for the photo on its "
        "side, take the orientation out of the photos (exiftool -Orientation= FOLDER)"
    )


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Pillow's image; `ValueError` with its reason for whatever stops it from being opened or used within."""
    try:
        with _open(path) as image:
            yield image
    except Image.DecompressionBombError as error:
        remedy = "make it smaller first, for a detector sees it much smaller anyway"
        raise ValueError(f"{str(error).rstrip('.')}: {remedy} (or raise PIL.Image.MAX_IMAGE_PIXELS)") from None
    except Exception as error:  # Pillow raises errors of many kinds for broken files
        raise ValueError(str(error) or type(error).__name__) from None


def _open(path: str | Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in HEIC:
            raise
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ValueError("this is HEIC, as phones store it: pip install pillow-heif, or save it as JPEG") from None
    register_heif_opener()
    return Image.open(path)


def _header(image: Image.Image) -> Header:
    # For a mark that comes after them, Pillow decodes the pixels of every PNG.
    late = image.format != "PNG" or b"eXIf" in _rest(image)
    try:
        orientation = (image.getexif() if late else Image.Image.getexif(image)).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged mark is no mark: the pixels may be well
        orientation = 1
    orientation = orientation if orientation in range(1, 9) else 1
    size = image.size
    if image.format == "TIFF":  # of which some versions of Pillow turn the size when they open it
        size = image.tag_v2[256], image.tag_v2[257]
    # Of 16 bits a colour Pillow keeps the upper eight; only the tile tells.
    deep = image.mode.startswith("I") or re.search(r"(RGB\w?|LA|CMYK);16", str(getattr(image, "tile", "")))
    return Header(size[::-1] if orientation >= 5 else size, orientation, bool(deep))


def _rest(image: Image.Image) -> bytes:
    position = image.fp.tell()
    rest = image.fp.read()
    image.fp.seek(position)
    return rest


def _eight_bits(image: Image.Image, halved: bool) -> tuple[Image.Image, str]:
    """Eight bits of red, green and blue, and a note; `ValueError` for values whose range nobody can tell."""
    note = ""
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to 8
        image = image.convert("I")
        low, high = image.getextrema()
        if low < 0:
            raise ValueError(f"its values are from {low} to {high}; they have to be from 0 on")
        # Cameras and scanners write 10, 12 or 14 bits into files of 16: the largest value says how many.
        bits = max(8, high.bit_length() + high.bit_length() % 2)
        if bits < 16:
            note = f"{bits} bits in a file of 16: the largest value is {high}, so {2**bits - 1} is taken for white"
        image = image.point(lambda value: value * (255 / (2**bits - 1))).convert("L")
    elif image.mode == "F":
        low, high = image.getextrema()
        if not 0 <= low <= high <= 255:
            raise ValueError(f"its floats are from {low:g} to {high:g}; they have to be in [0, 1] or in [0, 255]")
        image = image.point(lambda value: value * 255) if high <= 1 else image
    image = image.convert("RGB")
    brightest = max(high for _, high in image.getextrema()) if halved else 255
    if brightest < 64:
        note = f"nearly black: 16 bits a colour of which Pillow reads the upper 8, and they end at {brightest} of 255"
    return image, note


# Endings that Pillow knows of formats which it cannot decode, or which are documents.
NO_PHOTOS = {".bufr", ".emf", ".eps", ".grib", ".h5", ".hdf", ".mpeg", ".mpg", ".pdf", ".ps", ".wmf"}
HINTS = 10  # missing photos whose nearest names are looked for; a report shows no more


@functools.cache
def photo_endings() -> tuple[str, ...]:
    """The endings of photos, with their dots: those of all formats that Pillow reads, and HEIC's."""
    known = {ending for ending, format in Image.registered_extensions().items() if format in Image.OPEN}
    return tuple(sorted(known - NO_PHOTOS | {".heic", ".heif"}))


def list_files(folder: str | Path, suffixes: Sequence[str] | None = None) -> list[str]:
    """Files at any depth below a folder, sorted, relative, with "/" between folders.

    They have one of the endings, in any case; those of photos unless told. Links to folders are followed, but no folder
    is listed twice.
    """
    endings, found, seen = tuple(suffixes or photo_endings()), [], set()
    for path, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort(key=lambda name: (os.path.islink(os.path.join(path, name)), name))
        inner = Path(path).relative_to(folder).as_posix()
        before = "" if inner == "." else inner + "/"
        found += [before + name for name in names if name.lower().endswith(endings) and name[0] != "."]
    return sorted(found)


def stays_inside(file_name: str) -> bool:
    """Whether a file name names something below the folder that it is relative to."""
    return Path(file_name).name != "" and not Path(file_name).is_absolute() and ".." not in Path(file_name).parts


class PhotoFinder:
    """Finds a photo below a folder by the annotation file that describes it, and by the name that this gives.

    Names are compared as people read them: with "/" or "\\" between folders, in any case, with an accent as a letter of
    its own or not, with "%20" or the space that it stands for, with or without ending and folders. What follows the "?"
    of an address in the web does not count.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._by_path, self._by_name = defaultdict(list), defaultdict(list)
        for name in list_files(folder):
            stem = PurePosixPath(name).with_suffix("")
            self._by_path[_key(str(stem))].append(name)
            self._by_name[_key(stem.name)].append(name)

    def find(self, own: PurePosixPath, named: PurePosixPath) -> str | None:
        """The photo's name relative to the folder; None if there is none, or several: never a guess.

        The annotation's own path decides: a/b belongs to a/b.jpg, or else to the only b.* there is. Where there is no
        such photo the given name decides; it also chooses between b.jpg and b.png. `own` is the annotation's path
        without its ending, `named` what it calls the photo; empty where they say nothing.
        """
        written, named = named.name, PurePosixPath(_path_of(str(named)))
        choices = [(self._by_path, str(own)), (self._by_name, own.name)]
        if named.name:
            other = named.with_name(without_ending(named))
            choices += [(self._by_path, str(own.parent / other)), (self._by_path, str(other))]
            choices += [(self._by_name, other.name)]
        photos = (self._choose(known.get(_key(key), []), written, named.name) for known, key in choices)
        return next(filter(None, photos), None)

    def _choose(self, photos: list[str], written: str, named: str) -> str | None:
        """The only photo, or the only one that is named so; a link and what it leads to are one."""
        for same in (written.__eq__, named.__eq__, lambda name: _key(name) == _key(named), lambda name: True):
            left = {os.path.realpath(self.folder / p): p for p in photos if same(PurePosixPath(p).name)}
            if left:
                return next(iter(left.values())) if len(left) == 1 else None
        return None

    def nearest(self, named: str) -> str:
        """A photo that is called nearly so, and what differs, for a message; "" if there is none."""
        name = without_ending(PurePosixPath(named.replace("\\", "/")))
        same = self._by_name.get(_key(name), [])
        if len(same) > 1:
            return f"there are several, such as {same[0]!r} and {same[1]!r}"
        photos = {PurePosixPath(p).with_suffix("").name: p for group in self._by_name.values() for p in group}
        near = difflib.get_close_matches(name, photos, 1) if len(name) < 256 else []
        if not near:
            return ""
        steps = difflib.SequenceMatcher(None, name, near[0], autojunk=False).get_opcodes()
        # In ASCII, for letters of two alphabets may look the same, and some have no look at all.
        differ = [f"{near[0][c:d]!a} for {name[a:b]!a}" for step, a, b, c, d in steps if step != "equal"]
        return f"the nearest is {photos[near[0]]!r}" + (f", with {' and '.join(differ)}" if differ else "")


def find_photos(folder: str | Path, names: Sequence[str]) -> list[tuple[str | None, str]]:
    """For each file name of a COCO file the photo's name relative to the folder, or None and why.

    A photo that is called exactly so is taken. For the other names `PhotoFinder` looks; a photo that another name has
    exactly, or that two names could mean, is nobody's.
    """
    exact = [name if stays_inside(name) and os.path.isfile(os.path.join(folder, name)) else None for name in names]
    if all(exact):
        return [(name, "") for name in exact]
    finder, taken, hints = PhotoFinder(folder), set(exact), HINTS
    found = [
        there or finder.find(PurePosixPath(), PurePosixPath(name.replace("\\", "/")))
        for name, there in zip(names, exact, strict=True)
    ]
    often = Counter(photo for photo, there in zip(found, exact, strict=True) if not there)
    results = []
    for name, there, photo in zip(names, exact, found, strict=True):
        if photo and (there or (photo not in taken and often[photo] == 1)):
            results.append((photo, ""))
        elif photo:
            results.append((None, f"no such image: the only one it could be, {photo!r}, is that of another record"))
        else:
            near, hints = (finder.nearest(name) if hints else ""), max(hints - 1, 0)
            outside = "" if stays_inside(name) else "file name leaves the image folder"
            results.append((None, outside or f"no such image{': ' if near else ''}{near}"))
    return results


class PhotoFiles:
    """The photos of a COCO file. The folder is searched, see `find_photos`, only when one is not simply there.

    All `names` are needed: a photo that is called otherwise must not be that of another name.
    """

    def __init__(self, folder: str | Path, names: Sequence[str]):
        self.folder, self._names, self._found = Path(folder), list(names), None

    def path(self, name: str) -> Path:
        """Where the photo is; `ValueError` says that it is missing, and what is called nearly so."""
        if os.path.isfile(self.folder / name):
            return self.folder / name
        if self._found is None:
            self._found = dict(zip(self._names, find_photos(self.folder, self._names), strict=True))
        photo, problem = self._found[name]
        if photo is None:
            raise ValueError(problem)
        return self.folder / photo


def without_ending(path: PurePosixPath) -> str:
    """A photo's name without its ending; another dot, as in "scan.0001", belongs to the name."""
    return path.stem if path.suffix.lower() in photo_endings() else path.name


def _path_of(name: str) -> str:
    """What may be a path: an address in the web goes without what a server is asked for, such as a signature."""
    address = re.match(r"(?:https?|s3|gs):/[^?#]*", name.strip(), re.I)
    return unquote(address[0] if address else name).strip().replace("\\", "/")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", unquote(name.strip())).casefold())
