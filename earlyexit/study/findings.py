"""What follows from records: whole curves, easy and hard images, budgets, rules of leaving; and means over seeds.

A mean over training seeds has an interval that knows both: other images and other seeds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ..data.coco import CocoDataset
from ..evaluation import scores
from ..evaluation.coco import METRICS
from ..evaluation.fitting import fit_rule, thresholds_for_budget
from ..evaluation.matching import average_precision, map_of, match_records
from ..evaluation.policies import random_exits, rule_scores, threshold_exits
from ..evaluation.records import ExitRecords
from ..evaluation.scores import Interval, bootstrap
from ..files import plain
from ..model.backbone import EXITS
from ..model.exits import RULES, Worth, make_rule

NORMAL = 1.960  # standard deviations on each side of a 95 % interval
RANDOM_REPEATS = 10  # section 4.4.1
SETTING = 20  # the threshold index of section 5.4, about easy and hard images
CAUSES = ("occlusion", "clutter", "contrast")  # recorded for scenes
EXTREMES = 8
BUDGETS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.62, 0.75, 0.9)  # shares of full depth
SHARES = (0.35, 0.4, 0.5, 0.62, 0.75)  # of them, those at which rules are compared
RULE_REPEATS = 30


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    `seeds` says how many trainings there were; with one, the interval knows of other images alone.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    def sign(self) -> int:
        """1 or -1 if the whole interval lies above or below zero, else 0: within noise."""
        return int(self.low > 0) - int(self.high < 0)

    def rounded(self, digits: int = 2) -> dict:
        """{"mean", "low", "high"} for a table."""
        return rounded(vars(self), digits, ("mean", "low", "high"))


def around(mean: float, half: float, seeds: int) -> Estimate:
    """The estimate whose interval reaches `half` to both sides."""
    return Estimate(mean, mean - half, mean + half, seeds)


def estimate(values: Sequence[float], samples: Sequence[Sequence[float]] = ()) -> Estimate:
    """Join trainings of several seeds, all judged on the same images.

    Two half-widths are added in quadrature: that of other images (1.96 standard deviations of the bootstrap samples of
    the mean) and that of other seeds (Student's t times the standard error of the seeds' values).

    Args:
        values: one for each seed; of times, one for each round.
        samples: (seeds, repeats), bootstrap samples that drew the same images for all; None and NaN are left out.
    """
    drawn = np.array(samples, dtype=float).reshape(len(values), -1).mean(0)
    images = NORMAL * float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else 0.0
    return around(float(np.mean(values)), math.hypot(images, seed_half(values)), len(values))


def seed_half(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean over seeds, images fixed; 0 for a single seed."""
    if len(values) < 2:
        return 0.0
    factor = round(float(stats.t.ppf(0.975, len(values) - 1)), 3)  # as printed: with three seeds 4.303, not 1.96
    return factor * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def estimate_of(rows: Sequence[dict], key: str = "mAP") -> Estimate:
    """The estimate of a number of several seeds' rows, with its "samples"."""
    return estimate([row[key] for row in rows], [row["samples"] for row in rows])


def difference(first: Sequence[dict], second: Sequence[dict], key: str = "mAP") -> Estimate:
    """`first` minus `second`, seed by seed and on the same drawn images, which cancels what both share."""
    return estimate(*gaps(first, second, key))


def gaps(first: Sequence[dict], second: Sequence[dict], key: str = "mAP") -> tuple[list[float], np.ndarray]:
    """What rows of the same seeds in the same order differ by: the values, and the samples (seeds, repeats)."""
    drawn = [np.array([row["samples"] for row in rows], dtype=float) for rows in (first, second)]  # NaN for None
    return [a[key] - b[key] for a, b in zip(first, second, strict=True)], drawn[0] - drawn[1]


def at_gmacs(rows: Sequence[dict], gmacs: float) -> dict:
    """The mAP and its samples at some mean compute, on straight lines between a sweep's settings; ends stay level."""
    ordered = sorted(rows, key=lambda row: row["gmacs"])
    x = [row["gmacs"] for row in ordered]
    samples = np.array([row["samples"] for row in ordered], dtype=float)  # (settings, repeats)
    moved = [float(np.interp(gmacs, x, column)) for column in samples.T]
    return {"mAP": float(np.interp(gmacs, x, [row["mAP"] for row in ordered])), "samples": moved}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values sharing their mean rank; NaN if one of both is constant."""
    return float("nan") if np.ptp(a) == 0 or np.ptp(b) == 0 else float(stats.spearmanr(a, b).statistic)


def rounded(row: dict, digits: int = 2, names: Iterable[str] | None = None) -> dict:
    """The floats of a row rounded, all else as it is; of `names` alone if they are given."""
    found = {name: row[name] for name in (row if names is None else names)}
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in found.items()}


def sweep_rows(records: ExitRecords, confidence: Tensor, repeats: int) -> list[dict]:
    """The 34 settings of Tables 6 and 7, with an interval of the mAP over images.

    Thresholds are set on `confidence`, (4, images), of the calibration images; `repeats` are bootstrap samples. Rows of
    "index", "thresholds" (None for never), "wanted" and "realised" shares of exits 1-4, "gmacs", "gmacs_full",
    "accuracy", COCO's metrics, and of the mAP "low", "high" and "samples".
    """
    rows = []
    for row in scores.sweep(records, confidence):
        interval = _map_interval(records, threshold_exits(records.confidence, row["thresholds"]), repeats)
        kept = {"index": row["index"], "thresholds": plain(row["thresholds"])}
        kept |= {name: [round(share, 5) for share in row[name]] for name in ("wanted", "realised")}
        rows.append({**kept, **_kept(row, interval)})
    return rows


def random_rows(records: ExitRecords, swept: list[dict], repeats: int) -> list[dict]:
    """Random exits with the realised shares of each setting: the mean of ten draws, the lowest and highest of them.

    The "samples" are the first draw's, moved to the mean of all: how far other images would move it, on the images
    that the samples of the sweep have, too.
    """
    rows = []
    for row in swept:
        shares = np.array(row["realised"]) / sum(row["realised"])
        result = scores.random_exit(records, shares, RANDOM_REPEATS, seed=row["index"])
        mean, values = result["mean"], [draw["mAP"] for draw in result["draws"]]
        first = random_exits(len(records), shares, torch.Generator().manual_seed(row["index"]))
        samples = _map_interval(records, first, repeats).samples - values[0] + mean["mAP"]
        kept = {"index": row["index"], "mAP": round(mean["mAP"], 3), "gmacs": mean["gmacs"]}
        rows.append({**kept, **_rounded(Interval(mean["mAP"], min(values), max(values), samples))})
    return rows


def forced_rows(records: ExitRecords, repeats: int) -> list[dict]:
    """All images at one exit, for each exit: COCO's metrics, GMACs, and the interval of the mAP over images."""
    intervals = [_map_interval(records, records.all_at(exit), repeats) for exit in EXITS]
    return [{"exit": row["exit"], **_kept(row, i)} for row, i in zip(forced(records), intervals, strict=True)]


def forced(records: ExitRecords) -> list[dict]:
    """COCO's metrics and GMACs with all images at one exit, for each exit."""
    return [{"exit": exit, **scores.evaluate_exits(records, records.all_at(exit))} for exit in EXITS]


def accuracy_rows(records: ExitRecords, repeats: int) -> list[dict]:
    """Percent of the images whose class each exit's classifier says (Table 4 has the last), with intervals."""
    rows = []
    for exit, right in zip(EXITS, scores.correct_classes(records).double().numpy(), strict=True):
        found = bootstrap(lambda counts, right=right: 100 * right @ counts / len(right), len(right), repeats=repeats)
        rows.append({"exit": exit, "accuracy": round(found.value, 3), **_rounded(found)})
    return rows


def _map_interval(records: ExitRecords, chosen: Tensor, repeats: int, inside: np.ndarray | int = 1) -> Interval:
    """The mAP of a choice of exits with an interval; `inside`, (N,) of 0 and 1, leaves images out."""
    matches = match_records(records)

    def mean(counts: np.ndarray) -> float | None:
        return average_precision(matches, chosen, counts * inside, metrics=("mAP",))["mAP"]

    return bootstrap(mean, len(records), repeats=repeats)


def _kept(row: dict, interval: Interval) -> dict:
    """What is kept of an evaluation, with the interval of its mAP."""
    metrics = rounded(row, 3, ("accuracy", *METRICS))
    return {"gmacs": row["gmacs"], "gmacs_full": row["gmacs_full"], **metrics, **_rounded(interval)}


def _rounded(found: Interval) -> dict:
    """Two digits are far below what samples differ by."""
    samples = [round(float(value), 2) for value in found.samples]
    return {"low": round(found.low, 3), "high": round(found.high, 3), "samples": samples}


def difficulty_numbers(records: ExitRecords, dataset: CocoDataset, chosen: Tensor, repeats: int) -> dict:
    """Everything about easy and hard images that is kept of a model, from images with one object each.

    `dataset` has the same images, `chosen`, (N,), are the exits taken at `SETTING`. Gives "setting"; "exits_taken", a
    digit for each image; "correlations", "thirds", "easiest" and "hardest", see `correlations`, `thirds`, `extremes`.
    """
    traits = traits_of(dataset, records.image_ids.tolist())
    found = {"setting": SETTING, "exits_taken": "".join(map(str, chosen.tolist()))}
    found["correlations"] = correlations(records, chosen, traits, repeats)
    found["thirds"] = thirds(records, chosen, traits, repeats)
    return {**found, **extremes(records, chosen)}


def traits_of(dataset: CocoDataset, ids: list[int]) -> dict[str, np.ndarray]:
    """What may make the images hard: "size" of the object, and for scenes the causes and the "difficulty".

    The size is the square root of the share of the image's area that the object's box covers. Contrast is how much
    the object stands out; clutter counts distractors; occlusion is the hidden share of the object.
    """
    objects, images = [dataset.objects(i)[0] for i in ids], [dataset.coco.imgs[i] for i in ids]
    areas = [(o["bbox"][2] * o["bbox"][3], i["width"] * i["height"]) for o, i in zip(objects, images, strict=True)]
    traits = {"size": np.array([math.sqrt(box / image) for box, image in areas])}
    if all("causes" in o for o in objects):
        traits |= {name: np.array([o["causes"][name] for o in objects]) for name in CAUSES}
        traits["difficulty"] = np.array([o["difficulty"] for o in objects])
    return traits


def correlations(records: ExitRecords, chosen: Tensor, traits: dict, repeats: int) -> list[dict]:
    """Spearman's rank correlation of each trait with the confidences and with the exit taken, with intervals.

    Rows of "of" ("exit taken", "confidence 1" to "confidence 4"), "with" (the trait), "value", "low", "high"; None
    where one of both is the same for all images.
    """
    signals = {f"confidence {exit}": values.numpy() for exit, values in zip(EXITS, records.confidence, strict=True)}
    rows = []
    for of, signal in {"exit taken": chosen.numpy(), **signals}.items():
        for name, trait in traits.items():
            row = {"of": of, "with": name, "value": None, "low": None, "high": None}
            if not math.isnan(spearman(signal, trait)):
                drawn = lambda n, a=signal, b=trait: spearman(np.repeat(a, n), np.repeat(b, n))  # noqa: E731
                row |= rounded(vars(bootstrap(drawn, len(signal), repeats=repeats)), 4, ("value", "low", "high"))
            rows.append(row)
    return rows


def thirds(records: ExitRecords, chosen: Tensor, traits: dict, repeats: int) -> list[dict]:
    """The easiest third of the images, the middle, the hardest: mAP and accuracy at each exit, and who leaves where.

    Thirds are those of the recorded difficulty or, where there is none, of the size: the largest objects are easy. Rows
    of "third", "by", "images", "exit" (1-4, or "taken": where the images leave at `SETTING`), "mAP", "low", "high",
    "accuracy" and, of "taken", "shares" of exits 1-4.
    """
    by = "difficulty" if "difficulty" in traits else "size"
    order = np.argsort(traits[by] if by == "difficulty" else -traits[by], kind="stable")
    right, rows = scores.correct_classes(records), []
    for third, members in zip(("easy", "middle", "hard"), np.array_split(order, 3), strict=True):
        inside = np.isin(np.arange(len(order)), members).astype(np.int64)
        for exit in (*EXITS, "taken"):
            exits = chosen if exit == "taken" else records.all_at(exit)
            interval = _map_interval(records, exits, repeats, inside)
            correct = right.gather(0, exits[None] - 1)[0][torch.from_numpy(members)].double().mean()
            row = {"third": third, "by": by, "images": len(members), "exit": exit, "mAP": interval.value}
            row = rounded({**row, "low": interval.low, "high": interval.high, "accuracy": 100 * float(correct)}, 3)
            if exit == "taken":
                row["shares"] = [round(float((exits[members] == k).double().mean()), 5) for k in EXITS]
            rows.append(row)
    return rows


def extremes(records: ExitRecords, chosen: Tensor) -> dict[str, list[int]]:
    """Ids of the images that left at exit 1 with most confidence, and of those at exit 4 with least at exit 3."""
    found = {}
    for name, exit, confidence in (("easiest", 1, -records.confidence[0]), ("hardest", 4, records.confidence[2])):
        there = torch.nonzero(chosen == exit).flatten()
        found[name] = records.image_ids[there[confidence[there].argsort(stable=True)[:EXTREMES]]].tolist()
    return found


def budgets(test: ExitRecords, calibration: ExitRecords, repeats: int) -> list[dict]:
    """The best thresholds of the exits' confidence for each budget that can be kept, and what they reach."""
    most = scores.evaluate_exits(test, test.all_at(4), metrics=("mAP",))["mAP"]
    rows = []
    for share, gmacs in affordable(calibration, BUDGETS):
        found = thresholds_for_budget(calibration, gmacs=gmacs, repeats=repeats)
        reached = scores.evaluate_records(test, found.thresholds)
        row = {"budget": share, "thresholds": found.thresholds, "loss_at_most": found.loss_at_most}
        row |= {"share": reached["gmacs"] / reached["gmacs_full"], "kept": reached["mAP"] / most}
        rows.append({**row, **{name: reached[name] for name in (*METRICS, "gmacs", "exits", "accuracy")}})
    return rows


def affordable(calibration: ExitRecords, shares: Sequence[float]) -> list[tuple[float, float]]:
    """The shares of full depth that can be kept at all, with the mean GMACs that they are."""
    full, least = float(calibration.gmacs[-1].mean()), float(calibration.gmacs.amin(0).mean())
    return [(share, share * full) for share in shares if share * full >= least]


def rules(test: ExitRecords, calibration: ExitRecords) -> dict[str, dict]:
    """The score of each rule of leaving and of a router, see `rule_score`."""
    every = {name: make_rule(name) for name in RULES}
    # `Worth` has a study of its own, see `choosing`.
    every = {name: fit_rule(rule, calibration) for name, rule in every.items() if not isinstance(rule, Worth)}
    found = {name: [rule_scores(records, rule) for records in (test, calibration)] for name, rule in every.items()}
    return {name: rule_score(test, here, calibration, there) for name, (here, there) in found.items()}


def rule_score(records: ExitRecords, here: Tensor, calibration: ExitRecords, there: Tensor) -> dict:
    """(area of the rule - random) / (oracle - random) under the curve of mAP over GMACs, with an interval over images.

    For each budget, thresholds are chosen on the calibration images; what a rule looks at on the way is not counted as
    compute, only the exit that is taken. The rule's scores of the records are `here`, those
    of the calibration `there`. Random exits take the shares that the rule realised; the oracle takes its mean compute.
    Gives "points": rows of "budget" (share), "share" (realised), "mAP", "random", "oracle"; "score", "low", "high" and
    the "samples" of the score, which drew the same images for every rule.
    """
    matches = match_records(records)
    chosen, points = [], []
    for number, (share, gmacs) in enumerate(affordable(calibration, SHARES)):
        found = thresholds_for_budget(calibration, gmacs=gmacs, scores=there, repeats=2)
        exits = threshold_exits(here, found.thresholds)
        mean = records.mean_gmacs(exits)
        shares = torch.bincount(exits, minlength=5)[1:].double() / len(exits)
        lot = random_exits(len(exits), shares, torch.Generator().manual_seed(number))
        (best,) = scores.oracle(records, [mean], metrics=("mAP",))
        chosen.append((exits, lot, best["chosen"]))
        maps = dict(zip(("mAP", "random", "oracle"), [map_of(matches, e) for e in chosen[-1]], strict=True))
        points.append({"budget": share, "share": mean / float(records.gmacs[-1].mean()), **maps})

    def score(counts: np.ndarray) -> float:
        areas = [[map_of(matches, exits, counts) for exits in of_budget] for of_budget in chosen]
        rule, lot, best = np.mean(areas, 0)
        return float((rule - lot) / max(best - lot, 1e-9))

    interval = bootstrap(score, len(records), repeats=RULE_REPEATS)
    found = {"score": interval.value, "low": interval.low, "high": interval.high}
    return {"points": points, **found, "samples": [round(float(sample), 4) for sample in interval.samples]}


def limits(thresholds: Sequence[float | None]) -> list[float]:
    """Thresholds as they were before `plain`: None stands for never."""
    return [math.inf if threshold is None else threshold for threshold in thresholds]


def policy_rows(records: ExitRecords, result: dict) -> list[dict]:
    """What the exits and the budgets of a model's results, "exit 1", "budget 0.62", ..., reach on other records.

    Thresholds and scales of scores are those that `measure` found on the calibration split.
    """
    found = {f"exit {row['exit']}": row for row in forced(records)}
    comparable = scores.rescale_records(records, result["score_scales"])
    for row in result["budgets"]:
        name, thresholds = f"budget {row['budget']:.2f}", limits(row["thresholds"])
        found[name] = scores.evaluate_records(comparable, thresholds, metrics=("mAP",))
    full, rows = found["exit 4"], []
    for policy, row in found.items():
        shares = rounded({"kept": row["mAP"] / full["mAP"], "share": row["gmacs"] / full["gmacs"]}, 4)
        rows.append({"policy": policy, "mAP": round(row["mAP"], 2), **shares, "images": row["images"]})
    return rows
