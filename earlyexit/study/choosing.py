"""Does choosing who leaves pay, against the best that does not choose? One comparison of policies on the same images.

Of each detector: its exits for everybody, lots between them, the paper's rule, `Worth` without and with detections, and
the oracle; beside it what does not choose, see `opponents`. Whatever is fitted, scales of scores, thresholds and
prices, is fitted to the calibration split; numbers are of the test split.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.coco import coco_split
from ..evaluation.fitting import all_choices, best_under, fit_worth
from ..evaluation.matching import map_of, match_records
from ..evaluation.policies import random_exits, rule_exits, threshold_exits
from ..evaluation.records import ExitRecords
from ..evaluation.scores import bootstrap, oracle
from ..files import plain, write_json, write_table
from ..model.backbone import EXITS
from ..model.exits import Worth
from ..processes import Job, Say, run_jobs
from .findings import difference, estimate, estimate_of, rounded
from .opponents import (
    DRAWS,
    PAPER,
    PASSES,
    Choosing,
    frontier,
    lots,
    open_run,
    row_of,
    side_by_side,
    static_exit,
    static_rows,
)
from .plan import Training, steps_to_train

OWN = (0.42, 0.5, 0.6, 0.7)  # budgets as shares of the detector's own full depth
KEPT_AT = (0.7, 0.6, 0.5)  # those of `PAPER` at which the share of the mAP that is kept is told
GOING_ON = (0.25, 0.5, 0.75)  # shares of the images that go on from exit 1 to exit 4
MAIN = "scenes_many"  # the data that the summary is about in the first place
WORTHS = {"worth": False, "worth of detections": True}  # and whether it looks at them
AT_ANY_SIZE = "the rule at any size"
_NOTHING = {"mAP": 0.0, "samples": 0.0}


def train_all(trainings: Sequence[Training], jobs: int, say: Say) -> list[Path]:
    """The runs of some trainings, which are trained as far as they are not yet; their logs lie beside them.

    Raises:
        ValueError: for missing splits or photos, before anything is trained, and if a training failed.
    """
    for split in ("train", "calibration", "test"):
        coco_split(trainings[0].settings.data, split).check_photos()
    runs = [Path(training.settings.out) for training in trainings]
    todo = [(training, steps_to_train(training)) for training in trainings]
    work = [Job(t.name, tuple(left), runs[0].parent / "logs" / f"{t.name}.log") for t, left in todo if left]
    failed = run_jobs(work, jobs, say) if work else []
    if failed:
        raise ValueError(f"not trained: {', '.join(failed)}; their logs are in {str(runs[0].parent / 'logs')!r}")
    return runs


def worth_for(calibration: ExitRecords, rule: str, budget: float) -> tuple[Worth, tuple[float, float, float]]:
    """The one of `WORTHS` fitted for a budget in GMACs an image, at least those of exit 1, and its thresholds."""
    least, full = (float(calibration.gmacs[k].mean()) for k in (0, -1))
    return fit_worth(calibration, budget=max(budget, least * 1.001) / full, looks=WORTHS[rule])


def by_worth(calibration: ExitRecords, test: ExitRecords, rule: str, budget: float) -> tuple[Tensor, float]:
    """Exits (N,) of the test images and their mean GMACs, by the one of `WORTHS` fitted for a budget in GMACs."""
    fitted, thresholds = worth_for(calibration, rule, budget)
    exits = rule_exits(test, fitted, thresholds)
    return exits, float(test.spent(exits, fitted, thresholds).mean())


def policies(run: Choosing) -> dict[str, Callable[[float], tuple[Tensor, float]]]:
    """By name: the exits (N,) of the test images and their mean GMACs, for a budget in GMACs."""
    test, calibration = run.test, run.calibration
    choices, matches = all_choices(calibration, calibration.confidence), match_records(calibration)
    least = float(calibration.gmacs[0].mean())

    def paper(budget: float) -> tuple[Tensor, float]:
        thresholds = choices.thresholds[best_under(matches, choices, max(budget, least))]
        exits = threshold_exits(test.confidence, thresholds)
        return exits, test.mean_gmacs(exits)

    def best(budget: float) -> tuple[Tensor, float]:
        (found,) = oracle(test, [max(budget, float(test.gmacs[0].mean()))], metrics=("mAP",))
        return found["chosen"], found["gmacs"]

    rules = {name: lambda budget, name=name: by_worth(calibration, test, name, budget) for name in WORTHS}
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


def of_any_size(runs: Sequence[Choosing], rule: str, budget: float) -> tuple[Choosing, float]:
    """Of detectors for images of several sizes the best on the calibration split, and what it can spend of a budget.

    Those whose exit 1 costs more GMACs than the budget are not asked, but for the first.
    """
    tried = []
    for run in runs:
        records = run.calibration
        if float(records.gmacs[0].mean()) <= budget or run is runs[0]:
            most = min(budget, float(records.gmacs[-1].mean()))
            tried.append((map_of(match_records(records), by_worth(records, records, rule, most)[0]), run, most))
    return max(tried, key=lambda found: found[0])[1:]


def at_any_size(runs: Sequence[Choosing], rule: str, repeats: int) -> list[dict]:
    """Rows of a rule at each of `PAPER`, in the first run's unit, by `of_any_size`; and of the others' forced exits."""
    rows = []
    for run in runs[1:]:
        forced = {f"exit {k} of another size": [run.test.all_at(k)] for k in EXITS}
        start = {"run": run.name, "seed": run.seed}
        rows += [{**start, "policy": name, **row_of(run.test, exits, repeats)} for name, exits in forced.items()]
    for share in PAPER:
        run, most = of_any_size(runs, rule, share * runs[0].unit)
        exits, gmacs = by_worth(run.calibration, run.test, rule, most)
        row = row_of(run.test, [exits], repeats, gmacs)
        rows.append({"run": run.name, "seed": run.seed, "policy": AT_ANY_SIZE, "of": "paper", "share": share, **row})
    return rows


def way_to_oracle(run: Choosing, repeats: int, others: Mapping[str, Tensor] | None = None) -> dict[str, dict]:
    """How far each rule goes from lots to the oracle, if shares of the images go on from exit 1 to exit 4.

    Args:
        run: the detector.
        repeats: bootstrap samples.
        others: by the name of a rule its scores (N,) of the test images at exit 1; the lowest go on.

    Returns:
        By rule "mAP", which is that way as a fraction, and its "samples"; NaN where the oracle is not above lots.
    """
    two, reached = side_by_side([(run.test, 1), (run.test, 4)]), run.test.exit(1, found=True)
    matches, orders = match_records(two), {"max softmax": run.test.confidence[0], **(others or {})}
    for name, looks in WORTHS.items():
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
    rows = {name: {"mAP": found.value, "samples": found.samples} for name, found in drawn.items()}
    return {name: _way(rows[name], rows["lots"], rows["oracle"]) for name in orders}


def _way(row: dict, base: dict, most: dict) -> dict:
    """How far a row is from a base to the most that can be reached, as a fraction: "mAP" and "samples"."""
    return {name: _share(row[name] - base[name], most[name] - base[name]) for name in ("mAP", "samples")}


def _share(part: float | np.ndarray, whole: float | np.ndarray) -> np.ndarray:
    """The quotient, NaN where the whole is none: of detectors that find nothing yet there is nothing to share."""
    whole = np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def summarise_choices(rows: Sequence[dict], ways: Sequence[dict], rule: str, unit: float) -> dict:
    """What the comparison comes to, each number as {"mean", "low", "high"}; what needs static detectors if there are.

    Args:
        rows: of `curve` and `static_rows`, of all runs.
        ways: of `way_to_oracle`, one for each run.
        rule: of `WORTHS`.
        unit: GMACs of the paper's full depth.

    Returns:
        "rule_score", "paper_rule_score": the way from lots to the oracle if images go on from exit 1 to exit 4, and
        with "_of_all_exits" that of the means over `OWN`, if they may leave anywhere; "gain_over_fixed": mAP of `rule`
        above lots between the detector's own exits, by the share of its full depth; "gain_over_static": above the lots
        between static detectors of the same seed or, if there is one seed of them, of that, the mean over those of
        `PAPER` that they keep, and "gain_over_static_at" each; "kept": the share of the mAP of the static detector at
        full depth, by the share of the paper's full depth; these with "_at_any_size", too, if there are rows of
        `at_any_size`; "gain_over_two_passes": above each of `PASSES`, the mean.
    """
    summary = {"rule_score": [way[rule] for way in ways], "paper_rule_score": [way["max softmax"] for way in ways]}
    for name, policy in (("rule_score", rule), ("paper_rule_score", "max softmax")):
        means = [_reached(rows, row, "own", *OWN).values() for row in (policy, f"lots for {policy}", "oracle")]
        summary[f"{name}_of_all_exits"] = [_way(*of_seed) for of_seed in zip(*means, strict=True)]
    summary = {name: estimate_of(of_runs).rounded(3) for name, of_runs in summary.items()}
    fixed = {share: [_reached(rows, name, "own", share) for name in (rule, f"lots for {rule}")] for share in OWN}
    pairs = {share: difference(*_of_same_seed(*fixed[share])).rounded() for share in reversed(OWN)}
    summary["gain_over_fixed"] = {f"{share:.2f}": gain for share, gain in pairs.items()}

    def above(opponent: str, *shares: float, ours: str = rule) -> dict | None:
        there = [share for share in shares if all(_reached(rows, name, "paper", share) for name in (ours, opponent))]
        found = [_reached(rows, policy, "paper", *there) for policy in (ours, opponent)]
        return difference(*_of_same_seed(*found)).rounded() if there else None

    passes = {policy: gain for policy in PASSES if (gain := above(policy, *PAPER))}
    summary |= {"gain_over_two_passes": passes} if passes else {}
    full = _full_depth(rows, unit)
    for ours, end in ((rule, ""), (AT_ANY_SIZE, "_at_any_size")):
        static = {f"{share:.2f}": gain for share in PAPER if (gain := above("static lots", share, ours=ours))}
        if static:
            summary[f"gain_over_static{end}"] = above("static lots", *PAPER, ours=ours)
            summary[f"gain_over_static{end}_at"] = static
        if full and _reached(rows, ours, "paper", *KEPT_AT):
            pairs = {share: _of_same_seed(_reached(rows, ours, "paper", share), full) for share in KEPT_AT}
            kept = {
                s: [_way(mine, _NOTHING, whole) for mine, whole in zip(*two, strict=True)] for s, two in pairs.items()
            }
            summary[f"kept{end}"] = {f"{s:.2f}": estimate_of(ratios).rounded(4) for s, ratios in kept.items()}
    return summary


def _reached(rows: Sequence[dict], policy: str, of: str, *shares: float) -> dict[int, dict]:
    """By seed the mean over some budgets of what a policy reaches."""
    there = [row for row in rows if (row["policy"], row.get("of")) == (policy, of) and row["share"] in shares]
    seeds = dict.fromkeys(row["seed"] for row in there)
    return {seed: _mean([row for row in there if row["seed"] == seed]) for seed in seeds}


def _full_depth(rows: Sequence[dict], unit: float) -> dict[int, dict]:
    """By seed the static detector at the paper's full depth, whatever its first read costs."""
    static = [row for row in rows if row["policy"] == "static" and row["exit 4"] == 1]
    near = [row for row in static if 0.9 * unit < row["gmacs"] < 1.01 * unit]  # on images of the same size
    return {row["seed"]: _mean([row]) for row in sorted(near, key=lambda row: row["gmacs"])}


def _of_same_seed(ours: dict[int, dict], others: dict[int, dict]) -> tuple[list[dict], list[dict]]:
    """Rows of both, seed by seed; others of a single seed are compared with all of ours."""
    if len(others) == 1:
        others = dict.fromkeys(ours, next(iter(others.values())))
    both = [seed for seed in ours if seed in others]
    return [ours[seed] for seed in both], [others[seed] for seed in both]


def _mean(rows: Sequence[dict]) -> dict:
    return {name: np.mean([row[name] for row in rows], axis=0) for name in ("mAP", "samples")}


def compare(
    runs: Sequence[Path],
    data: Path,
    out: Path,
    *,
    static: Sequence[Path] = (),
    fresh: Path | None = None,
    name: str = MAIN,
    rule: str = "worth",
    repeats: int = 100,
) -> Path:
    """Compare detectors that choose with those that do not; writes `choosing_summary.json` and a CSV in `out`.

    Args:
        runs: folders of trainings that differ in their seed alone, or in the size of their images, too. Of each seed
            the first is compared in full, the others as `at_any_size` says.
        data: images in COCO layout, with the splits calibration and test.
        out: the folder, in which records are kept, too. What the summary says of other data stays.
        static: runs whose images all leave at the last exit that they were trained at, of one seed, or of several
            seeds of ours.
        fresh: another folder of data, whose test images are judged in the place of those of `data`.
        name: of the data, in the summary.
        rule: the one of `WORTHS` that the summary is about.
        repeats: bootstrap samples over images.
    """
    if rule not in WORTHS:
        raise ValueError(f"the rule must be one of {list(WORTHS)}, got {rule!r}")
    opened, others = ([open_run(run, data, out / "records", fresh) for run in group] for group in (runs, static))
    _refuse_same_seeds(opened, others)
    others = [replace(run, unit=opened[0].unit) for run in others]  # some are trained on images of another size
    by_seed = [[run for run in opened if run.seed == seed] for seed in dict.fromkeys(run.seed for run in opened)]
    opened = [first for first, *_ in by_seed]
    rows = [row for run in opened for row in curve(run, repeats)]
    rows += [row for group in by_seed if len(group) > 1 for row in at_any_size(group, rule, repeats)]
    exits = [static_exit(run) for run in static]
    for seed in dict.fromkeys(run.seed for run in others):
        group = [pair for pair in zip(others, exits, strict=True) if pair[0].seed == seed]
        rows += static_rows(*zip(*group, strict=True), repeats)
    ways = [way_to_oracle(run, repeats) for run in opened]
    path = out / "choosing_summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    summary[name] = summarise_choices(rows, ways, rule, opened[0].unit)
    if name == MAIN:
        summary["exit1_mmacs"] = estimate([1000 * float(run.test.gmacs[0].mean()) for run in opened]).rounded()
    told = [{"data": name, **{key: value for key, value in row.items() if key != "samples"}} for row in rows]
    write_table(out / f"choosing_{name}.csv", [rounded(row, 5) for row in told])
    return write_json(path, plain(summary))


def _refuse_same_seeds(runs: Sequence[Choosing], static: Sequence[Choosing]) -> None:
    """Rows are told apart by their seed; and static detectors of another seed would be left out in silence."""
    kinds, seeds = [(run.seed, run.unit) for run in runs], [run.seed for run in runs]
    firsts, others = {run.seed: run.unit for run in reversed(runs)}, {run.seed for run in static}
    if len(set(firsts.values())) > 1:
        raise ValueError(f"the first run of each seed must be for images of the same size, got units {firsts} (GMACs)")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"runs that choose must differ in their seed or image size, got the seeds {seeds}")
    if len(others) > 1 and not others <= set(seeds):
        found = f"static runs of the seeds {sorted(others)} for runs of {sorted(set(seeds))}"
        raise ValueError(f"{found}: use one seed, or these")
