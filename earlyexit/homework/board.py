"""A board for what homework leaves open: earlyexit-board submissions/ --out board.csv

Who fills missing maps best (assignment 3, `own`), whose rule lets the right images leave (assignment 5, `leave`)? Both
are tried on scenes drawn from the lecturer's secret seed. A student's function runs in a process of its own and is
given what an exit knows, never an annotation; the score is computed here.
"""

import functools
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from ..data.scenes import scene_dataset
from ..evaluation.collect import collect_records
from ..evaluation.fitting import all_choices, best_under
from ..evaluation.matching import map_of, match_records
from ..evaluation.policies import threshold_exits
from ..evaluation.records import Detections, ExitRecords
from ..evaluation.scores import bootstrap
from ..files import plain, write_table
from ..model.backbone import EXITS
from ..model.factories import load_detector
from ..study.opponents import upper_hull
from .grade import Seed, submissions
from .student import Student, counted

FEW_SCENES, MANY_SCENES = (
    400,
    1000,
)  # drawn for the test by a student, by the lecturer; 60 % have one object and are used
STEPS = 5  # from exit 1 to exit 4, for which thresholds are chosen
ASSIGNMENTS = {"hw3": "own", "hw5": "leave"}  # assignment and function


@dataclass(frozen=True)
class Score:
    """A line of the board."""

    student: str
    assignment: str
    score: float  # mean mAP, in points, above the static frontier, see `above`
    low: float  # of its 95 % interval over other test images
    high: float
    message: str = ""  # why there is no score


def static_frontier(gmacs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What needs no choice: the corners of the upper hull of fixed exits, (n,) GMACs and (n,) mAP.

    Between two corners lie lots between two exits. Who may spend more than the best exit takes need not.
    """
    corners = upper_hull(list(zip(gmacs.tolist(), values.tolist(), strict=True)))
    return np.append(gmacs[corners], gmacs.max()), np.append(values[corners], values.max())


def above(gmacs: np.ndarray, values: np.ndarray, static: tuple[np.ndarray, np.ndarray]) -> float:
    """Area of a curve above the static frontier, divided by the frontier's width: a mean gain in mAP.

    The curve of (n,) points goes straight from one to the next, and stays at its last one. Where it has not begun yet,
    it gains nothing; below the frontier, it loses. `static` is what `static_frontier` gives.
    """
    order = np.argsort(gmacs, kind="stable")
    gmacs, values = np.asarray(gmacs)[order], np.asarray(values)[order]
    inside = gmacs[(gmacs > static[0][0]) & (gmacs < static[0][-1])]
    at = np.union1d(static[0], inside)
    gain = np.interp(at, gmacs, values) - np.interp(at, *static)
    gain[at < gmacs[0]] = 0.0
    return float(((gain[1:] + gain[:-1]) / 2 * np.diff(at)).sum() / (at[-1] - at[0]))


@dataclass(frozen=True)
class Trial:
    """What answers of an assignment are tried on: records, and for `own` exit 1 of each batch with its C3."""

    model: nn.Module
    records: ExitRecords
    calibration: ExitRecords | None
    batches: list[tuple]


@functools.cache
def trial_of(assignment: str, seed: int, scenes: int = FEW_SCENES) -> Trial:
    """Draw an assignment's hidden test set, and run the detector on it; `ValueError` if it has no board.

    Its images and annotations are on the disk only until this returns.
    """
    if assignment not in ASSIGNMENTS:
        raise ValueError(f"{assignment!r} has no board, {', '.join(ASSIGNMENTS)} have")
    model = load_detector("scenes" if assignment == "hw3" else "scenes-early")[0].eval()
    with tempfile.TemporaryDirectory() as folder:
        test = scene_dataset("test", scenes, seed=seed, cache=folder)
        records = collect_records(model, test)
        if assignment == "hw5":
            calibration = scene_dataset("calibration", scenes, seed=seed, cache=folder)
            return Trial(model, records, collect_records(model, calibration), [])
        batches = []
        with torch.inference_mode():
            for start in range(0, len(test), 32):
                images = [test[i][0] for i in range(start, min(start + 32, len(test)))]
                batch = model.transform(images)[0]
                sizes = [tuple(image.shape[-2:]) for image in images]
                batches.append((next(model.backbone.exits(batch.tensors)), batch, sizes))
    return Trial(model, records, None, batches)


def score(
    assignment: str, answer: Callable, *, seed: int = 0, scenes: int = FEW_SCENES, student: str = "", repeats: int = 100
) -> Score:
    """Try a function on scenes of a seed: "hw3" with `own(c3)`, "hw5" with `leave(exit, logits, latents)`.

    The lecturer's seed is another one than yours. `ValueError` if what the function gives has another shape, or is not
    finite.
    """
    trial = trial_of(assignment, seed, scenes)
    curve = (_filled if assignment == "hw3" else _left)(trial, answer)
    fixed = [(trial.records, trial.records.all_at(k)) for k in EXITS]
    gmacs = [np.array([records.mean_gmacs(exits) for records, exits in points]) for points in (fixed, curve)]

    def gained(counts: np.ndarray) -> float:
        reached = [[map_of(match_records(records), exits, counts) for records, exits in of] for of in (fixed, curve)]
        static, ours = (np.array(values) for values in reached)
        curved = static_frontier(gmacs[1], ours) if assignment == "hw3" else (gmacs[1], ours)
        return above(*curved, static_frontier(gmacs[0], static))

    found = bootstrap(gained, len(trial.records), repeats=repeats)
    return Score(student, assignment, found.value, found.low, found.high)


def _checked(value: object, shape: tuple[int, ...], name: str) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != shape or not value.isfinite().all():
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must give a finite tensor of shape {tuple(shape)}, got {what}")
    return value.detach().float()


def _left(trial: Trial, leave: Callable) -> list[tuple[ExitRecords, Tensor]]:
    """Exits of the test images for each budget, with thresholds chosen on the calibration images; and all at exit 1."""

    def scores(records: ExitRecords) -> Tensor:
        given = []
        for k in EXITS[:-1]:
            latents = records.latents_1 if k == 1 else records.latents_2
            given.append(_checked(leave(k, records.logits[:k], latents), (len(records),), "leave"))
        # Any numbers will do, in their order; thresholds lie between 0 and 1.
        return 0.5 + torch.atan(torch.stack([*given, torch.zeros(len(records))]).double()) / math.pi

    calibration, test = trial.calibration, trial.records
    choices, matches, ours = all_choices(calibration, scores(calibration)), match_records(calibration), scores(test)
    least, most = (calibration.mean_gmacs(calibration.all_at(k)) for k in (1, 4))
    points = [(test, test.all_at(1))]
    for budget in np.linspace(least, most, STEPS + 1)[1:]:
        thresholds = choices.thresholds[best_under(matches, choices, float(budget))]
        points.append((test, threshold_exits(ours, thresholds)))
    return points


class _Handed(nn.Module):
    """A neck for exit 1 whose P4 was handed in, and coarser levels made of it; P3 is that of the detector's own."""

    def __init__(self, neck: nn.Module):
        super().__init__()
        self.neck, self.names, self.p4 = neck, neck.names, None

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        p5 = self.p4[..., ::2, ::2]
        (_, p6, p7), _ = self.neck.fpn.extra_blocks([p5], [p5], ["c5"])
        return {"p3": self.neck(features)["p3"], "p4": self.p4, "p5": p5, "p6": p6, "p7": p7}


def _filled(trial: Trial, own: Callable) -> list[tuple[ExitRecords, Tensor]]:
    """The four fixed exits, with what the detector finds at exit 1 if P4 is handed in."""
    model, found, gmacs = trial.model, [], 0.0
    neck = model.neck
    count = getattr(own, "counted", None) or functools.partial(counted, own)
    try:
        model.neck = _Handed(neck)
        for reached, batch, sizes in trial.batches:
            c3 = reached.features["c3"].clone()
            height, width = (-(-n // 2) for n in c3.shape[-2:])
            value, spent = count(c3)
            model.neck.p4 = _checked(value, (len(c3), c3.shape[1], height, width), "own")
            gmacs += spent / len(trial.records)
            with torch.inference_mode():
                found += model.detect_from(reached, range(len(sizes)), batch, sizes)
    finally:
        model.neck = neck
    records = with_exit_1(trial.records, found, gmacs)
    return [(records, records.all_at(k)) for k in EXITS]


def with_exit_1(records: ExitRecords, found: list[dict], gmacs: float) -> ExitRecords:
    """Records with other detections at exit 1, N dicts, which cost an image that many GMACs more."""
    later = [[records.detection(image, k) for k in EXITS[1:]] for image in range(len(found))]
    joined = Detections.of([one for first, rest in zip(found, later, strict=True) for one in (first, *rest)])
    return replace(records, found=joined, gmacs=records.gmacs + torch.tensor([gmacs, 0, 0, 0])[:, None])


def main(
    folder: Annotated[Path, typer.Argument(help="A folder for each student: STUDENT/hw3.ipynb, with its weights.")],
    out: Annotated[Path, typer.Option(help="The table; the same is written as a page, OUT.md.")],
    seed: Seed,
    scenes: Annotated[int, typer.Option(help="Scenes that are drawn.", min=20)] = MANY_SCENES,
) -> None:
    """Rank the fillers of assignment 3 and the rules of assignment 5."""
    given = [one for one in submissions(folder) if one[1] in ASSIGNMENTS and one[2].is_file()]
    for assignment in {one[1] for one in given}:  # annotations are gone from the disk before a student's code runs
        trial_of(assignment, seed, scenes)
    lines = sorted((_line(*one, seed, scenes) for one in given), key=lambda one: (one.assignment, -one.score))
    write(out, lines)
    typer.echo(f"{len(lines)} lines in {out} and {out.with_suffix('.md')}")


def _line(student: str, assignment: str, notebook: Path, seed: int, scenes: int) -> Score:
    try:
        with Student(notebook) as answers:
            if ASSIGNMENTS[assignment] not in answers.defined:
                raise ValueError(f"the notebook defines no {ASSIGNMENTS[assignment]}")
            answer = answers.answer(ASSIGNMENTS[assignment])
            return score(assignment, answer, seed=seed, scenes=scenes, student=student)
    except NotImplementedError:
        why = f"{ASSIGNMENTS[assignment]} gives nothing"
    except Exception as error:  # noqa: BLE001 - the others of the class are ranked all the same
        why = str(error)
    return Score(student, assignment, -math.inf, -math.inf, -math.inf, why)


def write(out: Path, lines: list[Score]) -> None:
    """The board as CSV and, beside it, as a page in Markdown."""
    write_table(out, [plain(asdict(line)) for line in lines])
    page = [
        "# The board",
        "",
        "Points of mAP above the static frontier, with the 95 % interval over other images.",
        "",
    ]
    page += ["| assignment | student | score | interval |", "|---|---|---|---|"]
    for line in lines:
        value = line.message.replace("|", "/").replace("\n", " ") or f"{line.score:+.2f}"
        interval = "" if line.message else f"{line.low:+.2f} to {line.high:+.2f}"
        page.append(f"| {line.assignment} | {line.student} | {value} | {interval} |")
    out.with_suffix(".md").write_text("\n".join([*page, ""]), encoding="utf-8")


run = functools.partial(typer.run, main)  # the command `earlyexit-board`
