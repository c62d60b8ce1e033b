"""The tables of the study, from the models' results: lists of rows, each a line of a CSV file."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.coco import METRICS
from ..evaluation.cost import count_macs
from ..evaluation.policies import NUM_SETTINGS
from ..model.backbone import EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.heads import FILLERS
from .findings import Estimate, around, at_gmacs, difference, estimate_of, rounded, seed_half
from .measure import deciding

BOTH = ("downsample", "zero")  # fillers, the second compared at the compute of the first
INDICES = range(1, NUM_SETTINGS + 1)
CURVES = {"mAP": "mAP", "lots": "random", "oracle": "oracle"}  # of a rule, by the names in its table


@dataclass(frozen=True)
class Models:
    """The results of all models of a study by name, as `load_models` gives them; and by what they are compared for."""

    by_name: dict[str, dict]

    def group(self, group: str) -> list[dict]:
        """The models of a group; those of baseline and proposed in the order of their seeds."""
        found = [model for model in self.by_name.values() if model["group"] == group]
        return sorted(found, key=lambda model: (model["settings"]["seed"], model["name"]))

    def pairs(self, first: str, second: str) -> tuple[list[dict], list[dict]]:
        """The models of two groups with the seeds that both have."""
        groups = [{m["settings"]["seed"]: m for m in self.group(group)} for group in (first, second)]
        seeds = [seed for seed in groups[0] if seed in groups[1]]
        return tuple([group[seed] for seed in seeds] for group in groups)

    def grid(self) -> dict[tuple[float, float], dict]:
        """The models of the grid by (theta, lambda)."""
        return {(m["settings"]["theta"], m["settings"]["lambda_"]): m for m in self.group("grid")}

    def fair(self) -> dict[str, dict]:
        """The models that were each trained with its own way to fill missing levels, "downsample" or "zero", by it."""
        return {m["name"].removeprefix("fair-"): m for m in self.group("fair")}

    def main(self) -> dict[str, list[dict]]:
        """The groups that have seeds, as far as they are there."""
        return {group: self.group(group) for group in ("baseline", "proposed") if self.group(group)}

    def series(self) -> dict[str, list[dict]]:
        """Groups of seeds as one, all others one by one."""
        return self.main() | {m["name"]: [m] for group in ("fair", "grid") for m in self.group(group)}


def rows_of(model: dict, kind: str, filler: str | None = None) -> list[dict]:
    """A model's "sweep", "random" and "forced" exits, or "accuracy"; under its own filler unless told."""
    return (model if kind == "accuracy" else model["fillers"][filler or model["filler"]])[kind]


def rows_at(models: Sequence[dict], kind: str, number: int, filler: str | None = None) -> list[dict]:
    """The row of each model at a threshold index or, of "forced" and "accuracy", at an exit; see `rows_of`."""
    return [rows_of(model, kind, filler)[number - 1] for model in models]


def at_same_compute(
    first: Sequence[dict], second: Sequence[dict], index: int, fillers: Sequence[str | None] = (None, None)
) -> tuple[list[dict], list[dict]]:
    """Rows of models at a setting, and what others of the same seeds reach for the same mean compute, see `at_gmacs`.

    `fillers` are those under which the first and the second are looked at.
    """
    rows = rows_at(first, "sweep", index, fillers[0])
    pairs = zip(second, rows, strict=True)
    return rows, [at_gmacs(rows_of(model, "sweep", fillers[1]), row["gmacs"]) for model, row in pairs]


def sweep_table(models: Models) -> list[dict]:
    """Figure 7: mAP against compute at the 34 settings under both fillers; means over seeds."""
    return [
        {"model": group, "filler": filler, "index": index, **_reached(of, "sweep", index, filler), "seeds": len(of)}
        for group, of in models.main().items()
        for filler, index in itertools.product(sorted(of[0]["fillers"]), INDICES)
    ]


def random_table(models: Models) -> list[dict]:
    """Figure 7: random exits with the shares of each setting; `spread` is the mean range of a model's ten draws."""
    rows = []
    for (group, of), index in itertools.product(models.main().items(), INDICES):
        spread = _mean([row["high"] - row["low"] for row in rows_at(of, "random", index)])
        about = {"model": group, "filler": of[0]["filler"], "index": index}
        rows.append({**about, **_reached(of, "random", index), "spread": spread})
    return rows


def forced_table(models: Models) -> list[dict]:
    """All images at one exit: COCO's metrics, means over seeds."""
    rows = []
    for name, of in models.series().items():
        for filler, exit in itertools.product(sorted(of[0]["fillers"]), EXITS):
            found = rows_at(of, "forced", exit, filler)
            about = {"model": name, "filler": filler, "exit": exit, "gmacs": round(found[0]["gmacs"], 6)}
            others = {metric: _mean([row[metric] for row in found]) for metric in METRICS[1:]}
            rows.append({**about, **_interval(estimate_of(found)), **others})
    return rows


def accuracy_table(models: Models) -> list[dict]:
    """Table 4, for all four classifiers: percent of the images whose class they say."""
    rows = []
    for (name, of), exit in itertools.product(models.series().items(), EXITS):
        found = estimate_of(rows_at(of, "accuracy", exit), "accuracy")
        rows.append({"model": name, "exit": exit, **_interval(found, "accuracy"), "seeds": len(of)})
    return rows


def shares_table(models: Models) -> list[dict]:
    """Figure 9: the shares of images that should leave and did, in percent; low and high are those of the seeds."""
    rows = []
    for (group, of), index, exit in itertools.product(models.main().items(), INDICES, EXITS):
        found = rows_at(of, "sweep", index)
        realised = [100 * row["realised"][exit - 1] for row in found]
        shares = {"wanted": 100 * found[0]["wanted"][exit - 1], "realised": float(np.mean(realised))}
        shares |= {"low": min(realised), "high": max(realised)}
        rows.append({"model": group, "index": index, "exit": exit, **rounded(shares)})
    return rows


def theta_table(models: Models) -> list[dict]:
    """Figures 5 and 6, Table 6: the ten pairs of theta and lambda, each trained equally long."""
    rows = []
    for (theta, lambda_), model in sorted(models.grid().items(), reverse=True):
        about = {"theta": theta, "lambda": lambda_, "epochs": deciding(model["settings"])["epochs"]}
        rows += [{**about, "index": index, **_reached([model], "sweep", index)} for index in INDICES]
    return rows


def fillers_table(models: Models) -> list[dict]:
    """Figure 8: downsampling and zero-filling, the published way (one model) and the fair way (one trained with each).

    "difference" is downsampling minus zero-filling at the mean compute of downsampling at this setting.
    """
    proposed, fair = models.group("proposed"), models.fair()
    ways = {"published": (proposed, proposed)} if proposed else {}
    if len(fair) == 2:
        ways["fair"] = ([fair["downsample"]], [fair["zero"]])
    rows = []
    for (way, (first, second)), index in itertools.product(ways.items(), INDICES):
        both = at_same_compute(first, second, index, BOTH)
        means = {filler: _mean([row["mAP"] for row in of]) for filler, of in zip(BOTH, both, strict=True)}
        gap = _interval(difference(*both), "difference")
        rows.append({"way": way, "index": index, **_gmacs(first, both[0]), **means, **gap})
    return rows


def _reached(models: Sequence[dict], kind: str, index: int, filler: str | None = None) -> dict:
    rows = rows_at(models, kind, index, filler)
    return {**_gmacs(models, rows), **_interval(estimate_of(rows))}


def _gmacs(models: Sequence[dict], rows: Sequence[dict]) -> dict:
    """Mean compute of models' rows, and what it saves against full depth."""
    gmacs = float(np.mean([row["gmacs"] for row in rows]))
    full = float(np.mean([row["gmacs_full"] for row in rows_at(models, "sweep", NUM_SETTINGS)]))
    return {"gmacs": round(gmacs, 6), "saved": round(100 * (1 - gmacs / full), 3)}


def _interval(found: Estimate | None, name: str = "mAP", digits: int = 2) -> dict:
    row = found.rounded(digits) if found else dict.fromkeys(("mean", "low", "high"))
    return {name: row["mean"], "low": row["low"], "high": row["high"]}


def _mean(values: Sequence[float | None], digits: int = 2) -> float | None:
    return None if None in values else round(float(np.mean(values)), digits)


def difficulty_table(models: Models) -> list[dict]:
    """Rows of "model", "measure", "of", "with", "value", "low", "high"; means over seeds.

    The measures: "rank correlation" of the exit taken or a confidence with a trait; "mAP" and "accuracy" in a third of
    the images at an exit; "share" of a third that leaves at an exit, in percent; "exit changes": percent of the images
    that another seed's model lets leave at another exit.
    """
    rows = []
    for group, of in models.main().items():
        found = [model["difficulty"] for model in of]
        rows += [{"model": group, **row} for row in [*_correlations(found), *_thirds(found), *_changes(found)]]
    return rows


def mean_correlation(found: list[dict], of: str, trait: str) -> Estimate | None:
    """The mean rank correlation over seeds; None where a seed has none or the data do not record the trait."""
    rows = [row for model in found for row in model["correlations"] if (row["of"], row["with"]) == (of, trait)]
    return _joined(rows, "value")


def _correlations(found: list[dict]) -> list[dict]:
    pairs = [(row["of"], row["with"]) for row in found[0]["correlations"]]
    values = {pair: _interval(mean_correlation(found, *pair), "value", 3) for pair in pairs}
    return [{"measure": "rank correlation", "of": of, "with": to, **value} for (of, to), value in values.items()]


def _thirds(found: list[dict]) -> list[dict]:
    rows = []
    for same in zip(*(model["thirds"] for model in found), strict=True):
        first = same[0]
        at = {"of": f"exit {first['exit']}", "with": f"{first['third']} ({first['by']})"}
        rows.append({"measure": "mAP", **at, **_interval(_joined(same, "mAP"), "value")})
        numbers = [("accuracy", at["of"], [row["accuracy"] for row in same])]
        for exit in EXITS if first["exit"] == "taken" else ():
            numbers.append(("share", f"exit {exit}", [100 * row["shares"][exit - 1] for row in same]))
        for measure, of, values in numbers:
            rows.append({"measure": measure, **at, "of": of, "value": _mean(values), "low": None, "high": None})
    return rows


def _changes(found: list[dict]) -> list[dict]:
    taken = [np.array(list(model["exits_taken"])) for model in found]
    changed = [100 * float(np.mean(a != b)) for a, b in itertools.combinations(taken, 2)]
    at = {"measure": "exit changes", "of": "exit taken", "with": "another seed", "value": _mean(changed or [0.0])}
    return [{**at, "low": round(min(changed), 2), "high": round(max(changed), 2)}] if changed else []


def _joined(rows: Sequence[dict], key: str) -> Estimate | None:
    """A mean whose interval joins the widest of the seeds' intervals over images with that over seeds."""
    values = [row[key] for row in rows]
    if not values or None in values or any(row["low"] is None for row in rows):
        return None
    images = max(row["high"] - row["low"] for row in rows) / 2
    return around(float(np.mean(values)), float(np.hypot(images, seed_half(values))), len(values))


def compute_table(detectors: Mapping[str, tuple[EarlyExitRetinaNet, tuple[int, int]]]) -> list[dict]:
    """GMACs by part ("backbone", "neck", "head p3", ..., "total") and exit under both fillers.

    `detectors` are by name, each with the size (height, width) of its images in the network.
    """
    rows = []
    for (name, (detector, size)), filler in itertools.product(detectors.items(), FILLERS):
        before, detector.neck.filler = detector.neck.filler, filler
        about = {"model": name, "height": size[0], "width": size[1], "filler": filler}
        for exit, parts in count_macs(detector, size).items():
            rows += [{**about, "exit": exit, "part": part, "gmacs": round(gmacs, 6)} for part, gmacs in parts.items()]
        detector.neck.filler = before
    return rows


def exits_table(models: Sequence[dict]) -> list[dict]:
    """Every model at every exit: COCO's metrics, GMACs, share of full depth, and the mAP kept of its full depth."""
    rows = []
    for model in models:
        about = {"model": model["name"], "group": model["group"], "split": model["split"]}
        about["epochs"] = model["settings"]["epochs"]
        for row in model["forced"]:
            shares = {"share": row["gmacs"] / row["gmacs_full"], "kept": row["mAP"] / model["forced"][-1]["mAP"]}
            metrics = {**rounded(row, names=METRICS), "gmacs": row["gmacs"]}
            rows.append({**about, "exit": row["exit"], **metrics, **rounded(shares, 4)})
    return rows


def budgets_table(models: Sequence[dict]) -> list[dict]:
    """What the thresholds for each budget reach on the test split, with the scores as they are and made comparable."""
    rows = []
    for model in models:
        for scores, key in (("as they are", "budgets_unscaled"), ("comparable", "budgets")):
            for row in model.get(key, ()):
                about = {"model": model["name"], "group": model["group"], "scores": scores, "budget": row["budget"]}
                numbers = rounded(row, 4, ("share", "kept", "loss_at_most")) | rounded(row, names=METRICS)
                rows.append({**about, **numbers, **{f"exit {k}": count for k, count in row["exits"].items()}})
    return rows


def rules_table(models: Sequence[dict]) -> list[dict]:
    """The score of each rule of leaving over the seeds, and its difference from the paper's rule, with intervals.

    Rows of "rule", "score", "low", "high", "difference", "difference low" and "difference high", and of "mAP", "lots"
    and "oracle", means over budgets and seeds.
    """
    with_rules = [model["rules"] for model in models if "rules" in model]
    rows = []
    for name in with_rules[0] if with_rules else ():
        mine, papers = ([rules[which] for rules in with_rules] for which in (name, "max softmax"))
        row = {"rule": name, **_interval(estimate_of(mine, "score"), "score", 3)}
        gap = difference(mine, papers, "score").rounded(3)
        row |= {"difference": gap["mean"], "difference low": gap["low"], "difference high": gap["high"]}
        points = [point for m in mine for point in m["points"]]
        rows.append({**row, **{point: _mean([p[key] for p in points]) for point, key in CURVES.items()}})
    return rows


def empty_table(models: Sequence[dict]) -> list[dict]:
    """What skipping images that look empty saves and costs."""
    return [rounded({"model": model["name"], **row}, 5) for model in models for row in model.get("empty", ())]


def times_tables(times: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Measured times: a row for each budget, way of running and batch size; and for each exit, beside its compute."""
    about = ("budget", "share", "kept")
    budgets = [{**rounded(row, 4, about), "runs": k, **t} for row in times["budgets"] for k, t in row["times"].items()]
    return {"beyond_times": budgets, "beyond_clock": [rounded(row, 4) for row in times["exits"]]}


TABLES = {
    "sweep": sweep_table,
    "random": random_table,
    "forced_exits": forced_table,
    "accuracy": accuracy_table,
    "shares": shares_table,
    "theta": theta_table,
    "fillers": fillers_table,
    "difficulty": difficulty_table,
}
BEYOND_TABLES = {
    "beyond_exits": exits_table,
    "beyond_budgets": budgets_table,
    "beyond_rules": rules_table,
    "beyond_empty": empty_table,
}
