"""Fetching one large file from a server, going on where the last attempt stopped."""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

ATTEMPTS = 5  # in a row that bring nothing; one that brings something is followed by another, which goes on there
PAUSE = 5  # seconds before the next attempt
CHUNK = 1 << 20
LOST = (OSError, http.client.HTTPException)  # what a lost connection may be


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
