"""What choosing who leaves has to beat: exits for everybody and lots between them, and detectors that do not choose.

Each of those was trained for the exit that it is cut off at, and for the size of images that it runs on. Two of them,
of a small and of a large compute, make two passes, one after the other.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.coco import coco_split
from ..evaluation.collect import collect_records
from ..evaluation.cost import count_macs
from ..evaluation.fitting import fit_worth
from ..evaluation.matching import map_of, match_records
from ..evaluation.policies import limit_for, random_exits
from ..evaluation.records import Detections, ExitRecords
from ..evaluation.scores import bootstrap, fit_score_scales, rescale_records
from ..model.backbone import EXITS, NUM_EXITS
from ..model.exits import DetectionScore
from ..model.factories import load_detector, make_model, read_config
from ..processes import pick_device
from ..weights import ModelConfig

PAPER = (0.4, 0.5, 0.6, 0.7, 0.8)  # budgets as shares of the paper's full depth
DRAWS = 3  # of lots
PASSES = ("two passes", "two passes by worth")  # who has a second one: by the highest score of the first, or by `Worth`


@dataclass(frozen=True)
class Choosing:
    """A detector's records of both splits, with scores that can be compared, and the seed of its training.

    Attributes:
        name: of its run.
        calibration, test: the records.
        unit: GMACs of the paper's full depth, which shares of it are shares of.
        seed: of the training.
    """

    name: str
    calibration: ExitRecords
    test: ExitRecords
    unit: float
    seed: int = 0

    @property
    def full(self) -> float:
        """GMACs of its own full depth."""
        return float(self.test.gmacs[-1].mean())


def static_exit(run: str | Path) -> int:
    """The last exit that a run was trained at."""
    return max(_settings(Path(run))["exits"])


def _settings(run: Path) -> dict:
    return json.loads((run / "settings.json").read_text())["settings"]


def open_run(run: str | Path, data: str | Path, records: str | Path, fresh: str | Path | None = None) -> Choosing:
    """A trained detector on the splits of `data`; its records are kept in the folder `records`.

    With `fresh`, another folder of data, that has the test images.
    """
    run, found = Path(run), {}
    model, classes = load_detector(run)
    model.to(pick_device("auto")).eval()
    for split, folder in (("calibration", data), ("test", fresh or data)):
        Path(records).mkdir(parents=True, exist_ok=True)
        path = Path(records) / f"{run.name}-{split if folder == data else Path(folder).name}.safetensors"
        found[split] = collect_records(model, coco_split(folder, split), path=path)
    scales = fit_score_scales(found["calibration"])
    found = {split: rescale_records(records, scales) for split, records in found.items()}
    config = read_config(run)
    sizes = {size: getattr(config, size) for size in ("min_size", "max_size")}
    paper = make_model(ModelConfig("detect", config.model, classes, trunk=config.trunk, **sizes))
    side = paper.transform.min_size[-1]
    seed = _settings(run)["seed"] if (run / "settings.json").exists() else 0  # a weight file alone does not say it
    return Choosing(run.name, **found, unit=count_macs(paper, (side, side))[NUM_EXITS]["total"], seed=seed)


def side_by_side(columns: Sequence[tuple[ExitRecords, int]]) -> ExitRecords:
    """Records whose exit k is the k-th of `columns`: an exit of some records, all of the same images.

    The last of fewer than four stands for those that are missing.
    """
    columns = [*columns, *[columns[-1]] * (NUM_EXITS - len(columns))]
    images = range(len(columns[0][0]))
    found = Detections.of([records.detection(image, exit) for image in images for records, exit in columns])
    gmacs, logits = (torch.stack([getattr(r, n)[exit - 1] for r, exit in columns]) for n in ("gmacs", "logits"))
    return replace(columns[0][0], logits=logits, gmacs=gmacs, found=found, looks=None, latents_1=None, latents_2=None)


def row_of(records: ExitRecords, choices: Sequence[Tensor], repeats: int, gmacs: float | None = None) -> dict:
    """What exits (N,), or the mean of several draws of them, reach: "mAP", "samples", "gmacs" and shares of exits."""
    matches = match_records(records)

    def mean(counts: np.ndarray) -> float:
        return float(np.mean([map_of(matches, exits, counts) for exits in choices]))

    reached = bootstrap(mean, len(records), repeats=repeats)
    shares = np.mean([torch.bincount(exits, minlength=5)[1:].numpy() / len(exits) for exits in choices], 0)
    gmacs = float(np.mean([records.mean_gmacs(exits) for exits in choices])) if gmacs is None else gmacs
    found = {"mAP": reached.value, "low": reached.low, "high": reached.high, "gmacs": gmacs}
    found |= {f"exit {exit}": share for exit, share in zip(EXITS, shares.tolist(), strict=True)}
    return {**found, "samples": reached.samples}


def lots(records: ExitRecords, gmacs: float, repeats: int, points: Sequence[tuple[float, float]]) -> dict:
    """The row of a lottery at some mean GMACs, between two exits that are neighbours on the frontier.

    Args:
        records: the images.
        gmacs: wanted; outside of what the exits take, the nearest exit is for all.
        repeats: bootstrap samples.
        points: GMACs and mAP of the exits on the images by which the frontier is chosen.
    """
    hull = upper_hull(points)
    x = [points[k][0] for k in hull]
    place = float(np.interp(gmacs, x, range(len(hull))))
    low = min(int(place), len(hull) - 1)
    high = min(low + 1, len(hull) - 1)
    chances = [0.0] * NUM_EXITS
    chances[hull[low]] += 1 - (place - low)
    chances[hull[high]] += place - low
    draw = torch.Generator().manual_seed(0)
    return row_of(records, [random_exits(len(records), chances, draw) for _ in range(DRAWS)], repeats)


def upper_hull(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of the points (GMACs, mAP) no lottery between others beats, from the cheapest on."""
    hull: list[int] = []
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if hull and points[k][1] <= points[hull[-1]][1]:
            continue
        while len(hull) > 1 and _slope(points, hull[-2], hull[-1]) <= _slope(points, hull[-1], k):
            hull.pop()
        hull.append(k)
    return hull


def _slope(points: Sequence[tuple[float, float]], a: int, b: int) -> float:
    return (points[b][1] - points[a][1]) / (points[b][0] - points[a][0])


def frontier(records: ExitRecords) -> list[tuple[float, float]]:
    """GMACs and mAP of each exit for everybody."""
    matches = match_records(records)
    return [(float(records.gmacs[k - 1].mean()), map_of(matches, records.all_at(k))) for k in EXITS]


def static_rows(runs: Sequence[Choosing], exits: Sequence[int], repeats: int) -> list[dict]:
    """Rows of detectors of one seed whose images all leave at their own exit, and of lots between them at `PAPER`."""
    own = [(run.test, exit) for run, exit in zip(runs, exits, strict=True)]
    points = [frontier(run.calibration)[exit - 1] for run, exit in zip(runs, exits, strict=True)]
    rows = [
        {"run": run.name, "seed": run.seed, "policy": "static", **row_of(test, [test.all_at(exit)], repeats)}
        for run, (test, exit) in zip(runs, own, strict=True)
    ]
    for share in _payable(points, runs[0].unit):
        reached = lots_between(own, points, share * runs[0].unit, repeats)
        start = {"run": "statics", "seed": runs[0].seed, "policy": "static lots"}
        rows.append({**start, "of": "paper", "share": share, **reached})
    return rows + two_passes(runs, exits, repeats)


def _payable(points: Sequence[tuple[float, float]], unit: float) -> list[float]:
    """Those of `PAPER` that the cheapest of some detectors does not exceed: with less, nothing would be compared."""
    return [share for share in PAPER if share * unit >= min(points)[0]]


def lots_between(
    own: Sequence[tuple[ExitRecords, int]], points: Sequence[tuple[float, float]], wanted: float, repeats: int
) -> dict:
    """The row of `lots` of detectors, each its records and its exit; `points` are cost and mAP, `wanted` is a cost."""
    hull = upper_hull(points)
    above = min(max(sum(points[k][0] < wanted for k in hull), 1), max(len(hull) - 1, 1))
    pair = hull[above - 1 : above + 1]
    return lots(side_by_side([own[k] for k in pair]), wanted, repeats, [points[k] for k in pair])


def two_passes(runs: Sequence[Choosing], exits: Sequence[int], repeats: int) -> list[dict]:
    """Rows of two detectors that do not choose: a cheap one for all images, a second pass where it is not sure enough.

    Not sure is an image whose highest score is low or, "by worth", whose gain `Worth` predicts from the first pass.
    Which of the detectors on the frontier are the two is chosen, at each of `PAPER`, on the calibration split.
    """
    own = list(zip(runs, exits, strict=True))
    points = [frontier(run.calibration)[exit - 1] for run, exit in own]
    hull = upper_hull(points)
    pairs = [_Pair(own[a], own[b]) for a, b in itertools.combinations(hull, 2)]
    rows = []
    for policy, share in itertools.product(PASSES if pairs else (), _payable(points, runs[0].unit)):
        budget = share * runs[0].unit
        payable = [pair for pair in pairs if pair.calibration.gmacs[0].mean() <= budget] or pairs[:1]
        best = max(payable, key=lambda pair: pair.reached(policy, budget))
        row = row_of(best.test, [best.leave(policy, budget)[1]], repeats)
        start = {"run": "statics", "seed": runs[0].seed, "policy": policy}
        rows.append({**start, "of": "paper", "share": share, **row, "pair": best.name})
    return rows


class _Pair:
    """Records of two passes: at exit 1 the first detector alone, at all others the second after it."""

    def __init__(self, first: tuple[Choosing, int], second: tuple[Choosing, int]):
        self.name = f"{first[0].name}, {second[0].name}"
        splits = ([(getattr(run, split), exit) for run, exit in (first, second)] for split in ("calibration", "test"))
        self.calibration, self.test = (_one_after_the_other(*columns) for columns in splits)
        rule, _ = fit_worth(self.calibration, budget=1.0, looks=True)
        scores = dict(zip(PASSES, (DetectionScore(), lambda reached: -rule.gains(reached)[:, -1]), strict=True))
        both = [records.exit(1, found=True) for records in (self.calibration, self.test)]
        self.scores = {policy: [score(reached) for reached in both] for policy, score in scores.items()}

    def leave(self, policy: str, budget: float) -> list[Tensor]:
        """Exits of both splits; second passes take what a budget in GMACs leaves on the calibration split."""
        first, both = self.calibration.gmacs[:2].mean(1).tolist()
        stay = 1 - min(max((budget - first) / (both - first), 0.0), 1.0)
        limit = limit_for(self.scores[policy][0], math.ceil(stay * len(self.calibration) - 1e-9))
        return [torch.where(scores >= limit, 1, 2) for scores in self.scores[policy]]

    def reached(self, policy: str, budget: float) -> float:
        """The mAP on the calibration split."""
        return map_of(match_records(self.calibration), self.leave(policy, budget)[0])


def _one_after_the_other(first: tuple[ExitRecords, int], second: tuple[ExitRecords, int]) -> ExitRecords:
    both, latents = side_by_side([first, second]), first[0].exit(first[1]).latents
    gmacs = both.gmacs.clone()
    gmacs[1:] += gmacs[0]
    latents = None if latents is None else latents[:, 0]
    return replace(both, gmacs=gmacs, looks=torch.zeros_like(gmacs), latents_1=latents, latents_2=latents)
