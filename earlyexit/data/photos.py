"""Photo files: one opener, which gives every photo upright in eight bits of red, green and blue, and its size."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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

    Args:
        path: the file.
        longest: a limit for the longer side, for previews: a JPEG is decoded small, which is faster.

    Raises:
        ValueError: with the reason, whatever it is that stops the photo from being used.
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
