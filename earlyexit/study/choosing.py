"""Does choosing who leaves pay, against the best that does not choose? One comparison of policies on the same images.

Of each detector: its exits for everybody, lots between them, the paper's rule, `Worth` without and with detections, and
the oracle. Beside it static detectors, each trained for the exit that it is cut off at, on images of several sizes, and
two passes: the static detectors of a small and of a large compute, one after the other. Whatever is fitted, scales of
scores, thresholds and prices, is fitted to the calibration split; numbers are of the test split.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.coco import coco_split
from ..evaluation.collect import collect_records
from ..evaluation.cost import count_macs
from ..evaluation.fitting import all_choices, best_under, fit_worth
from ..evaluation.matching import map_of, match_records
from ..evaluation.policies import limit_for, random_exits, rule_scores, threshold_exits
from ..evaluation.records import Detections, ExitRecords, offsets_of
from ..evaluation.scores import bootstrap, fit_score_scales, oracle, rescale_records
from ..files import write_json, write_table
from ..model.backbone import EXITS, NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import DetectionScore
from ..model.factories import load_detector, make_model, read_config
from ..processes import Job, Say, run_jobs
from ..weights import ModelConfig
from .findings import difference, estimate, estimate_of, rounded
from .plan import Training, is_trained, train_arguments

OWN = (0.42, 0.5, 0.6, 0.7)  # budgets as shares of the detector's own full depth
PAPER = (0.4, 0.5, 0.6, 0.7, 0.8)  # and of the paper's
KEPT = (0.7, 0.6, 0.5)  # those at which the share of the mAP that is kept is told
GOING_ON = (0.25, 0.5, 0.75)  # shares of the images that go on from exit 1 to exit 4
DRAWS = 3  # of lots
RULES = {"worth": False, "worth of detections": True}  # and whether it looks at them
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


def train_all(trainings: Sequence[Training], jobs: int, say: Say) -> list[Path]:
    """The runs of some trainings, which are trained as far as they are not yet; their logs lie beside them.

    Raises:
        ValueError: for missing splits or photos, before anything is trained, and if a training failed.
    """
    for split in ("train", "calibration", "test"):
        coco_split(trainings[0].settings.data, split).check_photos()

    def steps(training: Training | None) -> list[tuple[str, list[str]]]:
        if training is None or is_trained(training.settings):
            return []
        return [*steps(training.first), (f"training {training.name}", train_arguments(training.settings))]

    runs = [Path(training.settings.out) for training in trainings]
    todo = [(training, tuple(steps(training))) for training in trainings]
    work = [Job(t.name, left, runs[0].parent / "logs" / f"{t.name}.log") for t, left in todo if left]
    failed = run_jobs(work, jobs, say) if work else []
    if failed:
        raise ValueError(f"not trained: {', '.join(failed)}; their logs are in {str(runs[0].parent / 'logs')!r}")
    return runs


def with_size(run: str | Path) -> tuple[Path, int | None]:
    """The folder of a run, and of "runs/static-3@96" the shorter side of the images in pixels, else None."""
    folder, at, size = str(run).rpartition("@")
    return (Path(folder), int(size)) if at and size.isdigit() else (Path(run), None)


def use_size(model: EarlyExitRetinaNet, size: int | None) -> None:
    """Let a detector resize images to another shorter side, and to a longer one in proportion; None changes nothing."""
    if size:
        sides = model.transform
        sides.min_size, sides.max_size = (size,), round(sides.max_size * size / sides.min_size[-1])


def static_exit(run: str | Path) -> int:
    """The last exit that a run was trained at."""
    return max(_settings(with_size(run)[0])["exits"])


def _settings(run: Path) -> dict:
    return json.loads((run / "settings.json").read_text())["settings"]


def open_run(run: str | Path, data: str | Path, records: str | Path, fresh: str | Path | None = None) -> Choosing:
    """A trained detector on the splits of `data`; its records are kept in the folder `records`.

    After its folder may stand the size of the images, see `with_size`, if that is not the one of its training. With
    `fresh`, another folder of data, that has the test images.
    """
    name, (run, size) = Path(run).name, with_size(run)
    model, classes = load_detector(run)
    use_size(model.eval(), size)
    found = {}
    for split, folder in (("calibration", data), ("test", fresh or data)):
        Path(records).mkdir(parents=True, exist_ok=True)
        path = Path(records) / f"{name}-{split if folder == data else Path(folder).name}.safetensors"
        found[split] = collect_records(model, coco_split(folder, split), path=path)
    scales = fit_score_scales(found["calibration"])
    found = {split: rescale_records(records, scales) for split, records in found.items()}
    config = read_config(run)
    sizes = {size: getattr(config, size) for size in ("min_size", "max_size")}
    paper = make_model(ModelConfig("detect", config.model, classes, trunk=config.trunk, **sizes))
    side = paper.transform.min_size[-1]
    seed = _settings(run)["seed"] if (run / "settings.json").exists() else 0  # a weight file alone does not say it
    return Choosing(name, **found, unit=count_macs(paper, (side, side))[NUM_EXITS]["total"], seed=seed)


def side_by_side(columns: Sequence[tuple[ExitRecords, int]]) -> ExitRecords:
    """Records whose exit k is the k-th of `columns`: an exit of some records, all of the same images.

    The last of fewer than four stands for those that are missing.
    """
    columns = [*columns, *[columns[-1]] * (NUM_EXITS - len(columns))]
    rows = [[records.detection(i, exit) for records, exit in columns] for i in range(len(columns[0][0]))]
    flat = [found for of_image in rows for found in of_image]
    parts = {name: torch.cat([found[name] for found in flat]) for name in ("boxes", "scores", "labels")}
    found = Detections(**parts, offsets=offsets_of(torch.tensor([len(f["scores"]) for f in flat])))
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
    return {
        **found,
        **dict(zip(map("exit {}".format, EXITS), shares.tolist(), strict=True)),
        "samples": reached.samples,
    }


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


def policies(run: Choosing) -> dict[str, Callable[[float], tuple[Tensor, float]]]:
    """By name: the exits (N,) of the test images and their mean GMACs, for a budget in GMACs."""
    test, calibration = run.test, run.calibration
    choices, matches = all_choices(calibration, calibration.confidence), match_records(calibration)
    least = float(calibration.gmacs[0].mean())

    def paper(budget: float) -> tuple[Tensor, float]:
        thresholds = choices.thresholds[best_under(matches, choices, max(budget, least))]
        exits = threshold_exits(test.confidence, thresholds)
        return exits, test.mean_gmacs(exits)

    def worth(budget: float, looks: bool) -> tuple[Tensor, float]:
        share = max(budget, least * 1.001) / float(calibration.gmacs[-1].mean())
        rule, thresholds = fit_worth(calibration, budget=share, looks=looks)
        exits = threshold_exits(rule_scores(test, rule), thresholds)
        return exits, float(test.spent(exits, looks=looks).mean())

    def best(budget: float) -> tuple[Tensor, float]:
        (found,) = oracle(test, [max(budget, float(test.gmacs[0].mean()))], metrics=("mAP",))
        return found["chosen"], found["gmacs"]

    rules = {name: lambda budget, looks=looks: worth(budget, looks) for name, looks in RULES.items()}
    return {**rules, "max softmax": paper, "oracle": best}


def curve(run: Choosing, repeats: int) -> list[dict]:
    """Rows of `row_of` with "run", "seed" and "policy" and, unless forced, the "share" "of" the "own" or "paper" depth.

    At each budget lots take the compute that a policy took on these images: "lots for worth".
    """
    test, points, start = run.test, frontier(run.calibration), {"run": run.name, "seed": run.seed}
    rows = [{**start, "policy": f"exit {k}", **row_of(test, [test.all_at(k)], repeats)} for k in EXITS]
    budgets = [("own", share, share * run.full) for share in OWN] + [("paper", s, s * run.unit) for s in PAPER]
    for name, choose in policies(run).items():
        known: dict[float, list[dict]] = {}  # where both full depths are the same, so are some budgets
        for of, share, budget in budgets:
            if round(budget, 9) not in known:
                exits, gmacs = choose(min(budget, run.full))
                made = {name: row_of(test, [exits], repeats, gmacs)}
                made |= {} if name == "oracle" else {f"lots for {name}": lots(test, gmacs, repeats, points)}
                known[round(budget, 9)] = [{"policy": policy, **row} for policy, row in made.items()]
            rows += [{**start, "of": of, "share": share, **row} for row in known[round(budget, 9)]]
    return rows


def way_to_oracle(run: Choosing, repeats: int, others: Mapping[str, Tensor] | None = None) -> dict[str, dict]:
    """How far each rule goes from lots to the oracle, if shares of the images go on from exit 1 to exit 4.

    Args:
        run: the detector.
        repeats: bootstrap samples.
        others: by the name of a rule its scores (N,) of the test images at exit 1; the lowest go on.

    Returns:
        By rule "mAP", which is that way as a fraction, and its "samples".
    """
    two, reached = side_by_side([(run.test, 1), (run.test, 4)]), run.test.exit(1, found=True)
    matches, orders = match_records(two), {"max softmax": run.test.confidence[0], **(others or {})}
    for name, looks in RULES.items():
        rule, _ = fit_worth(run.calibration, budget=1.0, looks=looks)
        orders[name] = -rule.gains(reached)[:, -1]
    chosen: dict[str, list[Tensor]] = {name: [] for name in (*orders, "lots", "oracle")}
    for number, share in enumerate(GOING_ON):
        for name, score in orders.items():
            on = score.argsort(stable=True)[: round(share * len(two))]
            chosen[name].append(torch.ones(len(two), dtype=torch.int64).index_fill(0, on, 2))
        draw = torch.Generator().manual_seed(number)
        chosen["lots"] += [random_exits(len(two), (1 - share, share, 0, 0), draw) for _ in range(DRAWS)]
        (best,) = oracle(two, [two.mean_gmacs(chosen["worth"][-1])], metrics=("mAP",))
        chosen["oracle"].append(best["chosen"])

    def area(name: str) -> Callable[[np.ndarray], float]:
        return lambda counts: float(np.mean([map_of(matches, exits, counts) for exits in chosen[name]]))

    drawn = {name: bootstrap(area(name), len(two), repeats=repeats) for name in chosen}
    base, most = drawn["lots"], drawn["oracle"]
    return {
        name: {
            "mAP": (drawn[name].value - base.value) / (most.value - base.value),
            "samples": (drawn[name].samples - base.samples) / (most.samples - base.samples),
        }
        for name in orders
    }


def static_rows(runs: Sequence[Choosing], exits: Sequence[int], repeats: int) -> list[dict]:
    """Rows of detectors of one seed whose images all leave at their own exit, and of lots between them at `PAPER`."""
    own = [(run.test, exit) for run, exit in zip(runs, exits, strict=True)]
    points = [frontier(run.calibration)[exit - 1] for run, exit in zip(runs, exits, strict=True)]
    rows = [
        {"run": run.name, "seed": run.seed, "policy": "static", **row_of(test, [test.all_at(exit)], repeats)}
        for run, (test, exit) in zip(runs, own, strict=True)
    ]
    for share in PAPER:
        reached = lots_between(own, points, share * runs[0].unit, repeats)
        start = {"run": "statics", "seed": runs[0].seed, "policy": "static lots"}
        rows.append({**start, "of": "paper", "share": share, **reached})
    return rows + two_passes(runs, exits, repeats)


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
    hull = upper_hull([frontier(run.calibration)[exit - 1] for run, exit in own])
    pairs = [_Pair(own[a], own[b]) for a, b in itertools.combinations(hull, 2)]
    rows = []
    for policy, share in itertools.product(PASSES if pairs else (), PAPER):
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


def summarise(rows: Sequence[dict], ways: Sequence[dict], rule: str, unit: float) -> dict:
    """What the comparison comes to, each number as {"mean", "low", "high"}; what needs static detectors if there are.

    Args:
        rows: of `curve` and `static_rows`, of all runs.
        ways: of `way_to_oracle`, one for each run.
        rule: of `RULES`.
        unit: GMACs of the paper's full depth.

    Returns:
        "rule_score", "paper_rule_score": the way from lots to the oracle; "gain_over_fixed": mAP of `rule` above lots
        between the detector's own exits, by the share of its full depth; "gain_over_static": above the lots between
        static detectors of the same seed or, if there is one seed of them, of that, the mean over `PAPER`, and
        "gain_over_static_at" each of them; "gain_over_two_passes": above each of `PASSES`, the mean; "kept": the share
        of the mAP of the static detector at full depth, by the share of its compute.
    """
    summary = {"rule_score": [way[rule] for way in ways], "paper_rule_score": [way["max softmax"] for way in ways]}
    summary = {name: estimate_of(of_runs).rounded(3) for name, of_runs in summary.items()}
    fixed = {share: [_reached(rows, name, "own", share) for name in (rule, f"lots for {rule}")] for share in OWN}
    pairs = {share: difference(*_of_same_seed(*fixed[share])).rounded() for share in reversed(OWN)}
    summary["gain_over_fixed"] = {f"{share:.2f}": gain for share, gain in pairs.items()}

    def above(opponent: str, *shares: float) -> dict | None:
        found = [_reached(rows, policy, "paper", *shares) for policy in (rule, opponent)]
        return difference(*_of_same_seed(*found)).rounded() if found[1] else None

    static = above("static lots", *PAPER)
    if static:
        summary["gain_over_static"] = static
        summary["gain_over_static_at"] = {f"{share:.2f}": above("static lots", share) for share in PAPER}
    passes = {policy: gain for policy in PASSES if (gain := above(policy, *PAPER))}
    summary |= {"gain_over_two_passes": passes} if passes else {}
    full = _full_depth(rows, unit)
    if full:
        pairs = {share: _of_same_seed(_reached(rows, rule, "paper", share), full) for share in KEPT}
        kept = {share: [_ratio(*pair) for pair in zip(*of_seeds, strict=True)] for share, of_seeds in pairs.items()}
        summary["kept"] = {f"{share:.2f}": estimate_of(ratios).rounded(4) for share, ratios in kept.items()}
    return summary


def _reached(rows: Sequence[dict], policy: str, of: str, *shares: float) -> dict[int, dict]:
    """By seed the mean over some budgets of what a policy reaches."""
    found: dict[int, list[dict]] = {}
    for row in rows:
        if row["policy"] == policy and row.get("of") == of and row["share"] in shares:
            found.setdefault(row["seed"], []).append(row)
    return {seed: _mean(of_seed) for seed, of_seed in found.items()}


def _full_depth(rows: Sequence[dict], unit: float) -> dict[int, dict]:
    """By seed the static detector at the paper's full depth, whatever its first read costs."""
    near = [row for row in rows if row["policy"] == "static" and 0.9 * unit < row["gmacs"] < 1.01 * unit]
    return {row["seed"]: _mean([row]) for row in sorted(near, key=lambda row: row["gmacs"])}


def _of_same_seed(ours: dict[int, dict], others: dict[int, dict]) -> tuple[list[dict], list[dict]]:
    """Rows of both, seed by seed; others of a single seed are compared with all of ours."""
    if len(others) == 1:
        others = dict.fromkeys(ours, next(iter(others.values())))
    both = [seed for seed in ours if seed in others]
    return [ours[seed] for seed in both], [others[seed] for seed in both]


def _mean(rows: Sequence[dict]) -> dict:
    return {name: np.mean([row[name] for row in rows], axis=0) for name in ("mAP", "samples")}


def _ratio(first: dict, second: dict) -> dict:
    return {name: first[name] / second[name] for name in ("mAP", "samples")}


def compare(
    runs: Sequence[Path],
    data: Path,
    out: Path,
    *,
    static: Sequence[Path] = (),
    fresh: Path | None = None,
    name: str = "scenes_many",
    rule: str = "worth",
    repeats: int = 100,
) -> Path:
    """Compare detectors that choose with those that do not; writes `choosing_summary.json` and a CSV in `out`.

    Args:
        runs: folders of trainings that differ in their seed alone.
        data: images in COCO layout, with the splits calibration and test.
        out: the folder, in which records are kept, too. What the summary says of other data stays.
        static: runs whose images all leave at the last exit that they were trained at; see `with_size` for their size.
            Of one seed, or of several seeds of ours.
        fresh: another folder of data, whose test images are judged in the place of those of `data`.
        name: of the data, in the summary.
        rule: the one of `RULES` that the summary is about.
        repeats: bootstrap samples over images.
    """
    if rule not in RULES:
        raise ValueError(f"the rule must be one of {list(RULES)}, got {rule!r}")
    opened, others = ([open_run(run, data, out / "records", fresh) for run in group] for group in (runs, static))
    _refuse_same_seeds(opened, others)
    rows = [row for run in opened for row in curve(run, repeats)]
    exits = [static_exit(run) for run in static]
    for seed in dict.fromkeys(run.seed for run in others):
        group = [pair for pair in zip(others, exits, strict=True) if pair[0].seed == seed]
        rows += static_rows(*zip(*group, strict=True), repeats)
    ways = [way_to_oracle(run, repeats) for run in opened]
    path = out / "choosing_summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    summary[name] = summarise(rows, ways, rule, opened[0].unit)
    summary["exit1_mmacs"] = estimate([1000 * float(run.test.gmacs[0].mean()) for run in opened]).rounded()
    plain = [{"data": name, **{key: value for key, value in row.items() if key != "samples"}} for row in rows]
    write_table(out / f"choosing_{name}.csv", [rounded(row, 5) for row in plain])
    return write_json(path, summary)


def _refuse_same_seeds(runs: Sequence[Choosing], static: Sequence[Choosing]) -> None:
    """Rows are told apart by their seed; and static detectors of another seed would be left out in silence."""
    seeds, others = [run.seed for run in runs], {run.seed for run in static}
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"runs that choose must differ in their seed, got the seeds {seeds}")
    if len(others) > 1 and not others <= set(seeds):
        raise ValueError(f"static runs of the seeds {sorted(others)} for runs of {seeds}: use one seed, or these")
