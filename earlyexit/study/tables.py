"""The tables of the study, from the models' results: lists of rows, each a line of a CSV file."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ..evaluation.coco import METRICS
from ..evaluation.policies import NUM_SETTINGS
from .estimates import Estimate, at_gmacs, difference, estimate, estimate_of, seed_half
from .findings import ALL_EXITS
from .finished import Models, accuracy_at, at_exit, at_random, at_setting, deciding

MAIN = ("baseline", "proposed")
INDICES = range(1, NUM_SETTINGS + 1)
POINTS = {"mAP": "mAP", "lots": "random", "oracle": "oracle"}  # of a rule, by the names in its table


def sweep_table(models: Models) -> list[dict]:
    """Figure 7: mAP against compute at the 34 settings under both fillers; means over seeds."""
    rows = []
    for group, found in _main(models).items():
        for filler, index in itertools.product(sorted(found[0]["fillers"]), INDICES):
            pick = at_setting(index, filler)
            kept = {"model": group, "filler": filler, "index": index, **_gmacs(found, pick)}
            rows.append({**kept, **_map(estimate_of(found, pick)), "seeds": len(found)})
    return rows


def random_table(models: Models) -> list[dict]:
    """Figure 7: random exits with the shares of each setting; `spread` is the mean range of a model's ten draws."""
    rows = []
    for (group, found), index in itertools.product(_main(models).items(), INDICES):
        pick = at_random(index)
        spread = np.mean([pick(m)["high"] - pick(m)["low"] for m in found])
        kept = {"model": group, "filler": found[0]["filler"], "index": index, **_gmacs(found, pick)}
        rows.append({**kept, **_map(estimate_of(found, pick)), "spread": round(float(spread), 2)})
    return rows


def forced_table(models: Models) -> list[dict]:
    """All images at one exit: COCO's metrics, means over seeds."""
    rows = []
    for name, found in _series(models).items():
        for filler, exit in itertools.product(sorted(found[0]["fillers"]), ALL_EXITS):
            pick = at_exit(exit, filler)
            kept = {"model": name, "filler": filler, "exit": exit, "gmacs": round(pick(found[0])["gmacs"], 6)}
            values = {metric: [pick(m)[metric] for m in found] for metric in METRICS[1:]}
            others = {k: None if None in v else round(float(np.mean(v)), 2) for k, v in values.items()}
            rows.append({**kept, **_map(estimate_of(found, pick)), **others})
    return rows


def accuracy_table(models: Models) -> list[dict]:
    """Table 4, for all four classifiers: percent of the images whose class they say."""
    rows = []
    for (name, found), exit in itertools.product(_series(models).items(), ALL_EXITS):
        row = _map(estimate_of(found, accuracy_at(exit), "accuracy"), "accuracy")
        rows.append({"model": name, "exit": exit, **row, "seeds": len(found)})
    return rows


def shares_table(models: Models) -> list[dict]:
    """Figure 9: the shares of images that should leave and did, in percent; low and high are those of the seeds."""
    rows = []
    for (group, found), index, exit in itertools.product(_main(models).items(), INDICES, ALL_EXITS):
        realised = [100 * at_setting(index)(m)["realised"][exit - 1] for m in found]
        values = {"wanted": 100 * at_setting(index)(found[0])["wanted"][exit - 1], "realised": float(np.mean(realised))}
        values |= {"low": min(realised), "high": max(realised)}
        kept = {"model": group, "index": index, "exit": exit}
        rows.append(kept | {name: round(value, 2) for name, value in values.items()})
    return rows


def theta_table(models: Models) -> list[dict]:
    """Figures 5 and 6, Table 6: the ten pairs of theta and lambda, each trained equally long."""
    rows = []
    for ((theta, lambda_), model), index in itertools.product(models.grid().items(), INDICES):
        pick = at_setting(index)
        kept = {"theta": theta, "lambda": lambda_, "epochs": deciding(model["settings"])["epochs"], "index": index}
        rows.append({**kept, **_gmacs([model], pick), **_map(estimate_of([model], pick))})
    return sorted(rows, key=lambda row: (-row["theta"], -row["lambda"], row["index"]))


def fillers_table(models: Models) -> list[dict]:
    """Figure 8: downsampling and zero-filling, the published way (one model) and the fair way (one trained with each).

    "difference" is downsampling minus zero-filling at the mean compute of downsampling at this setting.
    """
    rows = []
    proposed, fair = models.group("proposed"), models.fair()
    ways = {"published": (proposed, proposed)} if proposed else {}
    if len(fair) == 2:
        ways["fair"] = ([fair["downsample"]], [fair["zero"]])
    for way, (first, second) in ways.items():
        for index in INDICES:
            down, zero = at_setting(index, "downsample"), _zero_at(first, index)
            values = {"downsample": estimate_of(first, down).mean, "zero": estimate_of(second, zero).mean}
            values = {name: round(value, 2) for name, value in values.items()}
            gap = _map(difference(first, second, down, zero), "difference")
            rows.append({"way": way, "index": index, **_gmacs(first, down), **values, **gap})
    return rows


def _zero_at(first: Sequence[dict], index: int) -> Callable[[dict], dict]:
    """Finds what zero-filling reaches in a model of the second series, for the compute of downsampling in the first."""
    seeds = {model["settings"]["seed"]: at_setting(index, "downsample")(model)["gmacs"] for model in first}
    return lambda model: at_gmacs(model["fillers"]["zero"]["sweep"], seeds[model["settings"]["seed"]])


def _main(models: Models) -> dict[str, list[dict]]:
    return {group: models.group(group) for group in MAIN if models.group(group)}


def _series(models: Models) -> dict[str, list[dict]]:
    """Groups of seeds as one, all others one by one."""
    return _main(models) | {m["name"]: [m] for group in ("fair", "grid") for m in models.group(group)}


def _gmacs(models: Sequence[dict], pick) -> dict:
    gmacs = float(np.mean([pick(m)["gmacs"] for m in models]))
    full = float(np.mean([at_setting(NUM_SETTINGS)(m)["gmacs_full"] for m in models]))
    return {"gmacs": round(gmacs, 6), "saved": round(100 * (1 - gmacs / full), 3)}


def _map(found: Estimate | None, name: str = "mAP", digits: int = 2) -> dict:
    row = found.rounded(digits) if found else dict.fromkeys(("mean", "low", "high"))
    return {name: row["mean"], "low": row["low"], "high": row["high"]}


def difficulty_table(models: Models) -> list[dict]:
    """Rows of "model", "measure", "of", "with", "value", "low", "high"; means over seeds.

    The measures: "rank correlation" of the exit taken or a confidence with a trait; "mAP" and "accuracy" in a third of
    the images at an exit; "share" of a third that leaves at an exit, in percent; "exit changes": percent of the images
    that another seed's model lets leave at another exit.
    """
    rows = []
    for group, of_group in _main(models).items():
        found = [model["difficulty"] for model in of_group]
        rows += [{"model": group, **row} for row in [*_correlations(found), *_thirds(found), *_changes(found)]]
    return rows


def mean_correlation(found: list[dict], of: str, trait: str) -> Estimate | None:
    """The mean rank correlation over seeds; None where a seed has none or the data do not record the trait.

    The interval joins the widest of the seeds' intervals over images with that over seeds.
    """
    rows = [row for model in found for row in model["correlations"] if (row["of"], row["with"]) == (of, trait)]
    return _joined(rows, "value")


def _correlations(found: list[dict]) -> list[dict]:
    pairs = [(row["of"], row["with"]) for row in found[0]["correlations"]]
    return [
        {"measure": "rank correlation", "of": of, "with": trait, **_map(mean_correlation(found, of, trait), "value", 3)}
        for of, trait in pairs
    ]


def _thirds(found: list[dict]) -> list[dict]:
    rows = []
    for same in zip(*(model["thirds"] for model in found), strict=True):
        first = same[0]
        at = {"of": f"exit {first['exit']}", "with": f"{first['third']} ({first['by']})"}
        rows.append({"measure": "mAP", **at, **_map(_joined(same, "mAP"), "value")})
        rows.append({"measure": "accuracy", **at, **_mean([row["accuracy"] for row in same])})
        for exit in ALL_EXITS if first["exit"] == "taken" else ():
            shares = [row["shares"][exit - 1] for row in same]
            rows.append({"measure": "share", **at, "of": f"exit {exit}", **_mean(shares, 100)})
    return rows


def _changes(found: list[dict]) -> list[dict]:
    pairs = itertools.combinations([np.array(list(model["exits_taken"])) for model in found], 2)
    changed = [100 * float(np.mean(a != b)) for a, b in pairs]
    if not changed:
        return []
    known = Estimate(float(np.mean(changed)), min(changed), max(changed), len(found))
    return [{"measure": "exit changes", "of": "exit taken", "with": "another seed", **_map(known, "value")}]


def _joined(rows, key: str) -> Estimate | None:
    values = [row[key] for row in rows]
    if not values or None in values or any(row["low"] is None for row in rows):
        return None
    images = max(row["high"] - row["low"] for row in rows) / 2
    half = float(np.hypot(images, seed_half(values)))
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def _mean(values: Sequence[float], scale: int = 1) -> dict:
    return {"value": round(scale * float(np.mean(values)), 2), "low": None, "high": None}


def exits_table(models: Sequence[dict]) -> list[dict]:
    """Every model at every exit: COCO's metrics, GMACs, share of full depth, and the mAP kept of its full depth."""
    rows = []
    for model in models:
        full = model["forced"][-1]
        for row in model["forced"]:
            about = {name: model[key] for name, key in (("model", "name"), ("group", "group"), ("split", "split"))}
            about |= {"epochs": model["settings"]["epochs"], "exit": row["exit"]}
            shares = {"share": _round(row["gmacs"] / row["gmacs_full"], 4), "kept": _round(row["mAP"] / full["mAP"], 4)}
            rows.append({**about, **{name: _round(row[name]) for name in METRICS}, "gmacs": row["gmacs"], **shares})
    return rows


def budgets_table(models: Sequence[dict]) -> list[dict]:
    """What the thresholds for each budget reach on the test split, with the scores as they are and made comparable."""
    rows = []
    for model in models:
        for scores, key in (("as they are", "budgets_unscaled"), ("comparable", "budgets")):
            for row in model.get(key, ()):
                about = {"model": model["name"], "group": model["group"], "scores": scores, "budget": row["budget"]}
                numbers = {name: _round(row[name], 4) for name in ("share", "kept", "loss_at_most")}
                exits = {f"exit {k}": count for k, count in row["exits"].items()}
                rows.append({**about, **numbers, **{name: _round(row[name]) for name in METRICS}, **exits})
    return rows


def rules_table(models: Sequence[dict]) -> list[dict]:
    """The score of each rule of leaving over the seeds, and its difference from the paper's rule, with intervals.

    Rows of "rule", "score", "low", "high", "difference", "difference low" and "difference high", and of "mAP", "lots"
    and "oracle", means over budgets and seeds.
    """
    with_rules = [model["rules"] for model in models if "rules" in model]
    if not with_rules:
        return []
    rows = []
    for name in with_rules[0]:
        mine, papers = ([rules[which] for rules in with_rules] for which in (name, "max softmax"))
        score = estimate([m["score"] for m in mine], [m["samples"] for m in mine])
        gap = difference(mine, papers, lambda rule: rule, key="score").rounded(3)
        row = {"rule": name, **_map(score, "score", 3)}
        row |= {"difference": gap["mean"], "difference low": gap["low"], "difference high": gap["high"]}
        points = [point for m in mine for point in m["points"]]
        means = {point: float(np.mean([p[key] for p in points])) for point, key in POINTS.items()}
        rows.append({**row, **{point: _round(value) for point, value in means.items()}})
    return rows


def empty_table(models: Sequence[dict]) -> list[dict]:
    """What skipping images that look empty saves and costs."""
    rows = [{"model": model["name"], **row} for model in models for row in model.get("empty", ())]
    return [{name: _round(value, 5) for name, value in row.items()} for row in rows]


def times_table(rows: Sequence[dict]) -> list[dict]:
    """Measured times of `times_of_budgets`, a row for each budget, way of running and batch size."""
    return [
        {**{name: _round(row[name], 4) for name in ("budget", "share", "kept")}, "runs": runs, **ratio}
        for row in rows
        for runs, ratio in row["times"].items()
    ]


def clock_table(rows: Sequence[dict]) -> list[dict]:
    """Each exit's time beside its compute, rows of `times_of_exits` with the name of their detector."""
    return [{name: _round(value, 4) for name, value in row.items()} for row in rows]


def _round(value, digits: int = 2):
    return round(value, digits) if isinstance(value, float) else value


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
