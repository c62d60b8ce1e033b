"""Copies of one photo among many: equal files, pictures that look the same, and versions by Roboflow's names.

A photo that is in the training images and, saved once more, in the test images makes the test say too much.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from earlyexit.data import open_photo
from earlyexit.files import progress

SIDE = 8  # of the small picture by which photos are compared
# Root mean square difference of copies, in steps of 255, once one picture is made as bright as the other. JPEG at
# quality 30 or half the size gives 0.5 to 1.5; different photos, even of one place, are at 10 and more.
NEAR = 4.0
BRIGHTER = 1.18  # a copy is at most so many times as bright
# Pictures that are nearly of one colour when they are small (noise, fog, a test picture) all look the same. So the
# difference is at most this share of their contrast; with less contrast than that only equal files are copies.
OF_CONTRAST, LEAST_CONTRAST = 1 / 8, 2.0
VERSION = re.compile(r"\.rf\.[0-9A-Za-z]{16,}$")  # Roboflow: dog_jpg.rf.0a1b... are changed pictures of dog.jpg


@dataclass
class Copies:
    """Which images are of one photo.

    Attributes:
        groups: file names that belong together, two or more each, in the order of the data set.
        kinds: how many images are the same as an earlier one, by what shows it.
    """

    groups: list[list[str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What was found, for people; nothing if there are no copies."""
        if not self.groups:
            return []
        count, group = sum(map(len, self.groups)), self.groups[0]
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.kinds.items() if number)
        return [
            f"copies: {count} images are of {_number(len(self.groups), 'photo')} ({kinds}), "
            f"such as {group[0]} and {group[1]}"
        ]

    def across(self, splits: Mapping[str, Iterable[str]]) -> list[str]:
        """A line for every two splits that share a photo.

        Args:
            splits: the file names of each split.
        """
        of = {name: split for split, names in splits.items() for name in names}
        shared = defaultdict(list)
        for group in self.groups:
            found = {of[name]: name for name in reversed(group) if name in of}
            for pair in combinations((split for split in splits if split in found), 2):
                shared[pair].append([found[split] for split in pair])
        return [
            f"WARNING: {_number(len(pairs), 'photo')} in {one} and in {other}, such as {' and '.join(pairs[0])}: "
            "what is measured there is not of new photos"
            for (one, other), pairs in shared.items()
        ]


def find_copies(names: Sequence[str], images: str | Path, workers: int | None = None) -> Copies:
    """Find the images that are copies of one photo: by content, by look, and by Roboflow's names.

    What looks the same is decided by a picture of 8 x 8 pixels: its size, its compression and a little brightness do
    not matter. Mirrored and cropped copies are only known by their names.

    Args:
        names: file names, relative to the folder; all can be opened.
        images: the folder.
        workers: images that are read at the same time; one for each core unless told.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    paths = [Path(images) / name for name in names]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        seen = list(progress(pool.map(_small, paths), "looking for copies", len(paths)))
    found = {
        "equal files": _equal_files(paths),
        "the same to look at": _alike(np.stack(seen)) if seen else [],
        "versions by name": _versions(names),
    }
    leader, kinds = list(range(len(names))), {}
    for kind, pairs in found.items():
        kinds[kind] = sum(_join(leader, *pair) for pair in pairs)
    groups = defaultdict(list)
    for place, name in enumerate(names):
        groups[_first(leader, place)].append(name)
    return Copies([group for group in groups.values() if len(group) > 1], kinds)


def _small(path: Path) -> np.ndarray:
    """The picture at 8 x 8 pixels, (192,) floats from 0 to 255."""
    image = open_photo(path, longest=256).image  # a large JPEG is decoded small
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()


def _alike(pictures: np.ndarray, block: int = 256) -> list[tuple[int, int]]:
    """Pairs of places, the smaller first, whose pictures (N, 192) look the same."""
    centred = pictures.reshape(len(pictures), -1, 3)
    contrast = (centred - centred.mean(1, keepdims=True)).reshape(pictures.shape).std(1)
    power = (pictures**2).mean(1)
    limit = np.minimum(NEAR, OF_CONTRAST * contrast)
    pairs = []
    for start in range(0, len(pictures), block):  # blocks: all pairs at once would not fit into memory
        rows = slice(start, start + block)
        product = pictures[rows] @ pictures.T / pictures.shape[1]
        gain = product / np.maximum(power[rows, None], 1e-6)  # the least squares fit of the others to this one
        left = power - gain * product
        near = left <= np.minimum(limit[rows, None], limit) ** 2
        near &= (gain <= BRIGHTER) & (gain >= 1 / BRIGHTER)
        near &= np.minimum(contrast[rows, None], contrast) >= LEAST_CONTRAST
        pairs += [(start + int(i), int(j)) for i, j in np.argwhere(near) if start + i < j]
    return pairs


def _equal_files(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Pairs of places whose files have the same content; only files that share their length are read."""
    lengths = [path.stat().st_size for path in paths]
    count = Counter(lengths)
    return _repeated(
        hashlib.sha256(path.read_bytes()).digest() if count[length] > 1 else None
        for path, length in zip(paths, lengths, strict=True)
    )


def _versions(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of places whose names say that one photo was changed in several ways."""
    stems = [PurePosixPath(name).stem for name in names]
    return _repeated(VERSION.sub("", stem) if VERSION.search(stem) else None for stem in stems)


def _repeated(keys: Iterable[str | bytes | None]) -> list[tuple[int, int]]:
    """(first place, place) of every key that came before."""
    first, pairs = {}, []
    for place, key in enumerate(keys):
        if key is not None and first.setdefault(key, place) != place:
            pairs.append((first[key], place))
    return pairs


def _first(leader: list[int], place: int) -> int:
    """The first place that is known to belong to the same photo."""
    while leader[place] != place:
        place = leader[place] = leader[leader[place]]
    return place


def _join(leader: list[int], one: int, other: int) -> bool:
    """Note that two places belong together; whether that is news."""
    one, other = sorted((_first(leader, one), _first(leader, other)))
    leader[other] = one
    return one != other


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
