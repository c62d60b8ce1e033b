"""The table of easy and hard images (paper, section 5.4)."""

import itertools

import numpy as np

from .estimates import Estimate, seed_half
from .models import Models
from .tables import EXITS, MAIN


def difficulty_table(models: Models) -> list[dict]:
    """Rows of "model", "measure", "of", "with", "value", "low", "high"; means over seeds.

    The measures: "rank correlation" of the exit taken or a confidence with a trait; "mAP" and "accuracy" in a third of
    the images at an exit; "share" of a third that leaves at an exit, in percent; "exit changes": percent of the images
    that another seed's model lets leave at another exit.
    """
    rows = []
    for group in MAIN:
        found = [model["difficulty"] for model in models.group(group)]
        if found:
            rows += [{"model": group, **row} for row in [*_correlations(found), *_thirds(found), *_changes(found)]]
    return rows


def mean_correlation(found: list[dict], of: str, trait: str) -> Estimate | None:
    """The mean rank correlation over seeds; None where a seed has none or the data do not record the trait.

    The interval joins the widest of the seeds' intervals over images with that over seeds.
    """
    rows = [row for model in found for row in model["correlations"] if (row["of"], row["with"]) == (of, trait)]
    return _joined(rows, "value")


def _correlations(found: list[dict]) -> list[dict]:
    rows = []
    for of, trait in [(row["of"], row["with"]) for row in found[0]["correlations"]]:
        known = mean_correlation(found, of, trait)
        rows.append({"measure": "rank correlation", "of": of, "with": trait, **_value(known, 3)})
    return rows


def _thirds(found: list[dict]) -> list[dict]:
    rows = []
    for same in zip(*(model["thirds"] for model in found), strict=True):
        first = same[0]
        at = {"of": f"exit {first['exit']}", "with": f"{first['third']} ({first['by']})"}
        rows.append({"measure": "mAP", **at, **_value(_joined(same, "mAP"))})
        accuracy = float(np.mean([row["accuracy"] for row in same]))
        rows.append({"measure": "accuracy", **at, "value": round(accuracy, 2), "low": None, "high": None})
        for exit in EXITS if first["exit"] == "taken" else ():
            share = 100 * float(np.mean([row["shares"][exit - 1] for row in same]))
            kept = {"measure": "share", **at, "of": f"exit {exit}"}
            rows.append({**kept, "value": round(share, 2), "low": None, "high": None})
    return rows


def _changes(found: list[dict]) -> list[dict]:
    pairs = itertools.combinations([np.array(list(model["exits_taken"])) for model in found], 2)
    changed = [100 * float(np.mean(a != b)) for a, b in pairs]
    if not changed:
        return []
    values = {"value": float(np.mean(changed)), "low": min(changed), "high": max(changed)}
    rounded = {name: round(value, 2) for name, value in values.items()}
    return [{"measure": "exit changes", "of": "exit taken", "with": "another seed", **rounded}]


def _joined(rows, key: str) -> Estimate | None:
    values = [row[key] for row in rows]
    if not values or None in values or any(row["low"] is None for row in rows):
        return None
    images = max(row["high"] - row["low"] for row in rows) / 2
    half = float(np.hypot(images, seed_half(values)))
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def _value(found: Estimate | None, digits: int = 2) -> dict:
    if found is None:
        return {"value": None, "low": None, "high": None}
    row = found.rounded(digits)
    return {"value": row.pop("mean"), **row}
