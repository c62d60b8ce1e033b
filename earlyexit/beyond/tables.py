"""Results beyond the paper as tables: rows of plain values, from the models' results."""

from collections.abc import Sequence

from ..evaluation import METRICS
from ..study.estimates import estimate

POINTS = {"mAP": "mAP", "lots": "random", "oracle": "oracle"}  # of a rule, by the names in its table


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
        mine = [rules[name] for rules in with_rules]
        papers = [rules["max softmax"] for rules in with_rules]
        score = estimate([m["score"] for m in mine], [m["samples"] for m in mine]).rounded(3)
        gaps = [m["score"] - p["score"] for m, p in zip(mine, papers, strict=True)]
        drawn = [
            [a - b for a, b in zip(m["samples"], p["samples"], strict=True)] for m, p in zip(mine, papers, strict=True)
        ]
        gap = estimate(gaps, drawn).rounded(3)
        row = {"rule": name, "score": score["mean"], "low": score["low"], "high": score["high"]}
        row |= {"difference": gap["mean"], "difference low": gap["low"], "difference high": gap["high"]}
        points = [point for m in mine for point in m["points"]]
        means = {name: sum(point[key] for point in points) / len(points) for name, key in POINTS.items()}
        rows.append({**row, **{name: _round(value) for name, value in means.items()}})
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
