"""How far a long work is: a bar in a terminal; elsewhere, as in a log file, a line every half minute."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines
Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one, while standard error says how many there have been.

    Args:
        items: what is worked on.
        what: the work, such as "checking images".
        total: how many there will be; the length of `items` unless told, if it has one.
    """
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
