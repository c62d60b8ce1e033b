"""Fetching COCO 2017 from its official address: going on where it stopped, checking what came, unpacking it."""

import os
import shutil
import zipfile
from pathlib import Path

from tqdm import tqdm

from .fetching import CHUNK, LOST, fetch, remote_size, size_of
from .layout import stays_inside

ADDRESS = "http://images.cocodataset.org"  # as on https://cocodataset.org/#download
# What is fetched, and what lies in the folder once it is unpacked.
FILES = {
    "annotations/annotations_trainval2017.zip": "annotations/instances_val2017.json",
    "zips/train2017.zip": "train2017",
    "zips/val2017.zip": "val2017",
}


def download_coco(folder: str | Path, address: str = ADDRESS) -> None:
    """Fetch COCO 2017 and unpack it: `folder/annotations`, `folder/train2017` and `folder/val2017`.

    What is there already is not fetched or unpacked again, so it may be stopped and run again. A zip file that lies in
    the folder is taken as it is, and so are images or annotations without their zip file. Every zip file is checked:
    its size against the server's, its content against its own CRC sums.

    Args:
        folder: where it goes; it is made if need be.
        address: of the server.

    Raises:
        ValueError: the server cannot be reached or sends something else than it says, the disk is too small, or a zip
            file is damaged; the message says what to do.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    todo = {path.rpartition("/")[2]: f"{address}/{path}" for path in FILES if not _is_done(folder, path)}
    wanted = {name: url for name, url in todo.items() if not (folder / name).exists()}
    try:
        sizes = {name: remote_size(url) for name, url in wanted.items()}
        here = {name: size_of(folder / f"{name}.part") for name in wanted}
        # Twice: the zip files and what comes out of them. Photos do not get smaller in a zip file.
        check_space(folder, sum(2 * sizes[name] - here[name] for name in wanted))
        for name, url in wanted.items():
            fetch(url, folder / name, sizes[name])
    except LOST as error:
        by_hand = ", ".join(wanted.values())
        raise ValueError(
            f"cannot download COCO ({error}): run it again to go on, or fetch {by_hand} in another way, put the zip "
            f"files into {str(folder)!r} and run it again"
        ) from None
    for name in todo:
        unpack(folder / name, folder)
        _mark(folder, name).touch()


def check_space(folder: Path, needed: int) -> None:
    """`ValueError` unless the disk of a folder has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(f"{str(folder)!r} needs {needed / 1e9:.1f} GB of free disk, there are {free / 1e9:.1f} GB")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file, but not again what is there in its full size; `ValueError` if the file is damaged."""
    try:
        with zipfile.ZipFile(archive) as source:
            files = [info for info in source.infolist() if not info.is_dir()]
            missing = [info for info in files if size_of(folder / info.filename) != info.file_size]
            check_space(folder, sum(info.file_size for info in missing))
            for info in tqdm(missing, f"unpacking {archive.name}", leave=False, disable=None):
                if not stays_inside(info.filename):
                    raise ValueError(f"{str(archive)!r} would write outside its folder: {info.filename!r}")
                _unpack_file(source, info, folder / info.filename)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{str(archive)!r} is damaged ({error}): delete it and run again") from None


def _unpack_file(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open(info) as packed, open(part, "wb") as file:
            shutil.copyfileobj(packed, file, CHUNK)  # reading to the end checks the CRC
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _mark(folder: Path, name: str) -> Path:
    """The empty file that says that a zip file is unpacked, so that it may be deleted."""
    return folder / f".{name}.unpacked"


def _is_done(folder: Path, path: str) -> bool:
    name = path.rpartition("/")[2]
    begun = (folder / name).exists() or (folder / f"{name}.part").exists()
    return _mark(folder, name).exists() or ((folder / FILES[path]).exists() and not begun)
