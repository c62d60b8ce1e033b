"""Fetching COCO 2017 from its official address: going on where it stopped, checking what came, unpacking it."""

import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from earlyexit.data import stays_inside

ATTEMPTS = 5  # in a row that bring nothing; one that brings something is followed by another, which goes on there
PAUSE = 5  # seconds before the next attempt
CHUNK = 1 << 20
LOST = (OSError, http.client.HTTPException)  # what a lost connection may be
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


def remote_size(url: str) -> int:
    """Bytes of a file on a server, without fetching it; `OSError` if it cannot be reached or does not say."""
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30) as answer:
        length = answer.headers["Content-Length"]
    if length is None:
        raise OSError(f"{url} does not say how large it is")
    return int(length)


def fetch(url: str, target: Path, size: int) -> None:
    """Fetch a file of `size` bytes to `target`, which appears when it is whole; goes on with what is there of it.

    Raises:
        OSError, HTTPException: the connection was lost too often, or the server's file has another size.
    """
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while (before := size_of(part)) != size:
        try:
            _fetch_rest(url, part, size)
        except LOST as error:
            failures = 0 if size_of(part) > before else failures + 1
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if failures == ATTEMPTS or refused:
                raise
            time.sleep(PAUSE)
    os.replace(part, target)


def _fetch_rest(url: str, part: Path, size: int) -> None:
    if size_of(part) > size:
        part.unlink()  # of another file: begin anew
    start = size_of(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        goes_on = answer.status == 206  # 200: the server does not know Range and sends the whole file
        with open(part, "ab" if goes_on else "wb") as file, _bar(part.stem, size, start * goes_on) as bar:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if size_of(part) != size:
        raise OSError(f"{url} has {size} bytes, {size_of(part)} came")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def _bar(name: str, size: int, start: int) -> tqdm:
    return tqdm(desc=name, total=size, initial=start, unit="B", unit_scale=True, leave=False, disable=None)


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
