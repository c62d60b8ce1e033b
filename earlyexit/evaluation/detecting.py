"""What a detector finds on photos and films from anywhere: said, drawn, and written into tables."""

import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from ..files import check_file, plain, write_json, write_table, write_whole
from ..model.exits import exit_limits
from ..model.factories import load_detector
from ..model.inputs import network_size
from .coco import count_exits
from .cost import count_macs, gmacs_of, spent_at
from .pictures import (
    Shot,
    Source,
    draw_detection,
    film_writer,
    find_sources,
    image_grid,
    paint_detection,
    save_figure,
    shots,
    small_copy,
)

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
ON_SHEET = 60  # photos on a sheet at most
LISTED = 10  # bad photos that are named at most


@dataclass(frozen=True)
class Places:
    """Where results go; None is nowhere."""

    save: Path | None = None  #: a folder for a picture or film of every photo or film; the name of a picture is a sheet
    sheet: Path | None = None  #: a picture of all photos, with their names
    json: Path | None = None  #: a list of what was found on each photo, or each frame of a film
    csv: Path | None = None  #: a row for every box, and one for a photo without any

    @property
    def folder(self) -> Path | None:
        """Of the pictures, if each photo is to have one."""
        return None if self.save is None or _is_picture(self.save) else self.save

    @property
    def sheets(self) -> list[Path]:
        """The pictures of all photos."""
        return [path for path in (self.sheet, self.save) if path is not None and path != self.folder]

    def check(self, words: Sequence[str], sources: Sequence[Source]) -> None:
        """`ValueError` unless results can be written there, beside what is read and not over it."""
        read = {Path(source.name).resolve() for source in sources if source.kind != "camera"}
        for path in filter(None, (*self.sheets, self.json, self.csv)):
            if path.resolve() in read:
                raise ValueError(f"{str(path)!r} is read, and would be written over: give another name")
        for option, path in (("--sheet", self.sheet), ("--json", self.json), ("--csv", self.csv)):
            check_file(option, path)
        if self.sheet and not _is_picture(self.sheet):
            raise ValueError(f"--sheet must end in {', '.join(PICTURES)}, got {str(self.sheet)!r}")
        if not self.folder:
            check_file("--save", self.save)
            return
        if self.folder.suffix and not self.folder.is_dir():
            ends = ", ".join(PICTURES)
            raise ValueError(f"--save must end in {ends} for a sheet, or be a folder, got {str(self.folder)!r}")
        folder = self.folder.resolve()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"--save {self.folder}: {str(there)!r} is a file, so this cannot be a folder")
        if any(Path(word).is_dir() and Path(word).resolve() in (folder, *folder.parents) for word in words):
            raise ValueError(f"--save {self.folder} lies in a folder that is read; give another one")
        for source in sources:
            if source.kind != "camera" and Path(source.name).resolve().parent == folder:
                raise ValueError(f"--save {self.folder} holds {source.name!r}, which is read; give another folder")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.is_dir()


def detect(
    words: Sequence[str],
    weights: str,
    *,
    thresholds: Sequence[float] | None = None,
    exit: int | None = None,
    min_score: float = 0.5,
    places: Places | None = None,
    device: torch.device | str = "cpu",
    bf16: bool = False,
) -> Iterator[str]:
    """Lines that say what was found, photo by photo, of which one is in memory at a time; and what was written.

    Args:
        words: photos, films, folders, patterns and cameras, see `find_sources`.
        weights: see `load_detector`.
        thresholds, exit: see `EarlyExitRetinaNet.forward`.
        min_score: weaker detections are left out.
        places: where results go; only said unless told.
        device, bf16: where and in what kind of numbers the network runs.

    Raises:
        ValueError: before the first line if something is missing, or nothing can be read; after the last one if some
            photos could not be used, which are skipped.
    """
    sources, places = find_sources(words), places or Places()
    places.check(words, sources)
    exit_limits(thresholds, exit)
    kind = torch.bfloat16 if bf16 else torch.float32
    look = _Looking(weights, thresholds, exit, min_score, torch.device(device), kind)
    outputs, bad, photos = _Outputs(places, look.classes, min_score), [], _Totals("photos")
    for source in sources:
        yield from _detect_on(source, look, outputs, bad, photos)
    if photos.rows > 1:
        yield photos.line(f"{photos.rows} photos")
    if outputs.photos:
        yield from outputs.finish()
    if bad:
        more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        every = f"{len(bad)} of {len(sources)} photos: " if len(sources) > 1 else ""
        raise ValueError(f"{every}{'; '.join(bad[:LISTED])}{more}")


def _detect_on(
    source: Source, look: "_Looking", outputs: "_Outputs", bad: list[str], photos: "_Totals"
) -> Iterator[str]:
    """Lines on a photo, which is added to `photos`, or on a film as a whole; what cannot be used is added to `bad`."""
    frames = _Totals("frames")
    with contextlib.ExitStack() as film:
        try:
            for shot in shots(source):
                try:
                    found = look(shot)
                except ValueError as error:
                    bad.append(f"{shot.name!r} {error}")
                    break  # of a film all frames are alike
                if not outputs.photos:
                    yield f"this model knows {len(look.classes)} classes: {', '.join(look.classes)}"
                outputs.add(shot, found, film)
                if shot.note:
                    yield f"note: {shot.name}: {shot.note}"
                (frames if shot.frame else photos).add(found)
                if not shot.frame:
                    yield _line(found.row, found.note, outputs.min_score)
        except KeyboardInterrupt:  # which is how a camera is stopped
            if source.kind != "camera":
                raise
    if frames.rows:
        rate = (frames.rows - 1) / max(frames.ended - frames.started, 1e-9)
        yield frames.line(f"{frames.last}: {frames.rows} frames, {rate:.1f} frames per second")


class _Found(NamedTuple):
    """What a detector said of a photo: as it is, as a row for tables, what full depth would cost, what was saved."""

    detection: dict
    row: dict
    full: float
    note: str


class _Looking:
    """A detector that takes shots, and gives what it found."""

    def __init__(self, weights: str, thresholds, exit, min_score: float, device: torch.device, kind: torch.dtype):
        self.model, self.classes = load_detector(weights)
        self.model.to(device, kind).eval()
        self.run = functools.partial(self.model, thresholds=thresholds, exit=exit)
        self.min_score, self.device, self.kind = min_score, device, kind
        self.limits = exit_limits(thresholds, exit)
        self.costs = functools.cache(lambda size: gmacs_of(count_macs(self.model, size)))

    def __call__(self, shot: Shot) -> _Found:
        """`ValueError` if there is no image, or none that the network takes."""
        if shot.image is None:
            raise ValueError(shot.note)
        photo = pil_to_tensor(shot.image).to(self.device).float().div_(255)
        try:
            with torch.inference_mode():
                detection = self.run([photo.to(self.kind)])[0]
        except ValueError as error:
            raise ValueError(str(error).removeprefix("image 0 ")) from None
        costs = self.costs(network_size(self.model, photo))
        good = detection["scores"] >= self.min_score
        row = {
            "file": shot.name,
            **({"frame": shot.frame} if shot.frame else {}),
            "boxes": detection["boxes"][good].tolist(),
            "scores": detection["scores"][good].tolist(),
            "classes": [self.classes[label] for label in detection["labels"][good].tolist()],
            "exit": detection["exit"],
            "confidence": float(detection["confidence"]),
            "gmacs": float(spent_at(*costs, self.model.rule, self.limits)[detection["exit"]]),
        }
        full = float(costs[0, -1])
        return _Found(detection, row, full, f"{1 - row['gmacs'] / full:.0%} of the compute saved")


def _line(row: dict, note: str, min_score: float) -> str:
    found = zip(row["boxes"], row["scores"], row["classes"], strict=True)
    objects = [f"{name} {score:.2f} at [{', '.join(f'{v:.0f}' for v in box)}]" for box, score, name in found]
    what = "; ".join(objects) or f"nothing with a score of {min_score:g} or more"
    return f"{row['file']}: exit {row['exit']} (confidence {row['confidence']:.2f}), {note}: {what}"


class _Totals:
    """Of the frames of a film, or of all photos: `what` they are."""

    def __init__(self, what: str):
        self.what, self.started, self.ended = what, 0.0, 0.0
        self.rows, self.gmacs, self.full = 0, 0.0, 0.0
        self.exits, self.classes, self.last = [], Counter(), ""

    def add(self, found: _Found) -> None:
        row, self.last, self.ended = found.row, found.row["file"], time.perf_counter()
        self.started = self.started or self.ended  # the first frame waits for what is done once
        self.rows, self.gmacs, self.full = self.rows + 1, self.gmacs + row["gmacs"], self.full + found.full
        self.exits.append(row["exit"])
        self.classes.update(row["classes"])

    def line(self, begin: str) -> str:
        """Mean compute, how many left where, and what was found in all."""
        exits = ", ".join(f"{k}: {count}" for k, count in count_exits(self.exits).items())
        objects = ", ".join(f"{name} {count}" for name, count in self.classes.most_common()) or "nothing"
        return (
            f"{begin}, {self.gmacs / self.rows:.4f} GMACs each on average ({self.gmacs / self.full:.1%} of full "
            f"depth), {self.what} per exit {exits}; found {objects}"
        )


class _Outputs:
    """What is written: pictures and films at once, a sheet and tables at the end."""

    def __init__(self, places: Places, classes: Sequence[str], min_score: float):
        self.places, self.classes, self.min_score = places, classes, min_score
        self.rows: list[dict] = []
        self.sheet: list[tuple[np.ndarray, dict, str]] = []
        self.names: set[str] = set()
        self.photos = 0
        self.write = None  # a frame into the film that is being written

    def add(self, shot: Shot, found: _Found, film: contextlib.ExitStack) -> None:
        """Take over what was found; a film is closed with the stack."""
        if self.places.json or self.places.csv:
            self.rows.append(found.row)
        self.photos += shot.frame <= 1
        if self.places.sheets and shot.frame <= 1 and len(self.sheet) < ON_SHEET:
            self.sheet.append((*small_copy(shot.image, found.detection), f"{found.note}\n{Path(shot.name).name}"))
        if not self.places.folder:
            return
        how = {"min_score": self.min_score, "note": found.note}
        painted = paint_detection(shot.image, found.detection, self.classes, **how)
        self.places.folder.mkdir(parents=True, exist_ok=True)
        if shot.frame == 1:
            path = self._place(shot, ".mp4")
            self.write = film.enter_context(film_writer(path, painted.size, shot.rate))
        if shot.frame:
            self.write(painted)
        else:
            path = self._place(shot, ".jpg")
            write_whole(path, lambda temporary: painted.save(temporary, format="JPEG", quality=90))

    def _place(self, shot: Shot, ending: str) -> Path:
        """A name in the folder that no other photo of this command has."""
        stem = Path(shot.name).stem.replace("camera ", "camera-")
        more = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        name = next(name for m in more if (name := f"{stem}{m}{ending}").lower() not in self.names)
        self.names.add(name.lower())
        return self.places.folder / name

    def finish(self) -> Iterator[str]:
        """Write what is made of all photos, and say what was written."""
        if self.names:
            yield f"wrote {len(self.names)} to {self.places.folder}, such as {min(self.names)}"
        for path in self.places.sheets if self.sheet else ():
            figure, axes = image_grid(len(self.sheet), columns=3, size=4)
            for ax, (photo, detection, note) in zip(axes, self.sheet, strict=True):
                draw_detection(ax, photo, detection, self.classes, min_score=self.min_score, note=note)
            save_figure(figure, path, format=path.suffix[1:].lower(), dpi=120)
            plt.close(figure)
            left = self.photos - len(self.sheet)
            yield f"wrote {path}" + (f", the first {len(self.sheet)} of {self.photos}" if left else "")
        if self.places.json:
            yield f"wrote {write_json(self.places.json, plain(self.rows))}"
        if self.places.csv:
            write_table(self.places.csv, [box for row in self.rows for box in _boxes(row)])
            yield f"wrote {self.places.csv}"


def _boxes(row: dict) -> list[dict]:
    """A row of a photo as one for each box, or one without a box."""
    before = {key: row[key] for key in ("file", "frame") if key in row}
    after = {key: row[key] for key in ("exit", "confidence", "gmacs")}
    found = [*zip(row["boxes"], row["classes"], row["scores"], strict=True)] or [([None] * 4, None, None)]
    return [
        {**before, **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)), "class": name, "score": score, **after}
        for box, name, score in found
    ]
