"""One image under another name: linked or copied, and not again where it is in place already."""

import os
import shutil
from pathlib import Path

LINKS = ("hard", "symlink", "copy")


def place_image(source: Path, target: Path, link: str) -> None:
    """Link or copy one image, unless it is in place already; what else is there is replaced.

    Args:
        source: the image; it is never changed.
        target: its new name, in a folder that exists.
        link: "hard" (a copy where the file system cannot), "symlink" or "copy".
    """
    if _is_in_place(source, target, link):
        return
    part = target.with_name(f".{target.name}.part")  # always the same name, so that the next run finds it
    part.unlink(missing_ok=True)
    if link == "symlink":
        part.symlink_to(source.resolve(strict=True))
    elif link == "copy" or not _hard_link(source, part):
        if _is_in_place(source, target, "copy"):
            return
        shutil.copy2(source, part)  # with its time, by which the next run knows the copy
    os.replace(part, target)


def _is_in_place(source: Path, target: Path, link: str) -> bool:
    if link == "symlink":
        return target.is_symlink() and os.path.realpath(target) == os.path.realpath(source)
    if target.is_symlink() or not target.exists():
        return False
    here, there = source.stat(), target.stat()
    if link == "hard":
        return os.path.samestat(here, there)
    same = (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)
    return same and not os.path.samestat(here, there)


def _hard_link(source: Path, target: Path) -> bool:
    """Make a hard link; False where that is impossible, as across file systems."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True
