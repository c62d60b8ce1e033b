"""Image files of whatever kind, as eight bits of red, green and blue."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


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
