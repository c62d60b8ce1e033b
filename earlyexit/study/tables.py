"""The tables of the study, from the models' results: lists of rows, each a line of a CSV file."""

from collections.abc import Callable, Sequence

import numpy as np

from ..evaluation import METRICS
from ..thresholds import NUM_SETTINGS
from .estimates import at_gmacs, difference, estimate_of
from .models import Models, accuracy_at, at_exit, at_random, at_setting, epochs_of

MAIN = ("baseline", "proposed")
INDICES = range(1, NUM_SETTINGS + 1)
EXITS = (1, 2, 3, 4)


def sweep_table(models: Models) -> list[dict]:
    """Figure 7: mAP against compute at the 34 settings under both fillers; means over seeds."""
    rows = []
    for group in MAIN:
        found = models.group(group)
        for filler in sorted(found[0]["fillers"]) if found else ():
            for index in INDICES:
                pick = at_setting(index, filler)
                kept = {"model": group, "filler": filler, "index": index, **_gmacs(found, pick)}
                rows.append({**kept, **_map(estimate_of(found, pick)), "seeds": len(found)})
    return rows


def random_table(models: Models) -> list[dict]:
    """Figure 7: random exits with the shares of each setting; `spread` is the mean range of a model's ten draws."""
    rows = []
    for group in MAIN:
        found = models.group(group)
        for index in INDICES if found else ():
            pick = at_random(index)
            spread = np.mean([pick(m)["high"] - pick(m)["low"] for m in found])
            kept = {"model": group, "filler": found[0]["filler"], "index": index, **_gmacs(found, pick)}
            rows.append({**kept, **_map(estimate_of(found, pick)), "spread": round(float(spread), 2)})
    return rows


def forced_table(models: Models) -> list[dict]:
    """All images at one exit: COCO's metrics, means over seeds."""
    rows = []
    for name, found in _series(models).items():
        for filler in sorted(found[0]["fillers"]):
            for exit in EXITS:
                pick = at_exit(exit, filler)
                kept = {"model": name, "filler": filler, "exit": exit, "gmacs": round(pick(found[0])["gmacs"], 6)}
                values = {metric: [pick(m)[metric] for m in found] for metric in METRICS[1:]}
                others = {k: None if None in v else round(float(np.mean(v)), 2) for k, v in values.items()}
                rows.append({**kept, **_map(estimate_of(found, pick)), **others})
    return rows


def accuracy_table(models: Models) -> list[dict]:
    """Table 4, for all four classifiers: percent of the images whose class they say."""
    rows = []
    for name, found in _series(models).items():
        for exit in EXITS:
            row = estimate_of(found, accuracy_at(exit), "accuracy").rounded()
            rows.append({"model": name, "exit": exit, "accuracy": row.pop("mean"), **row, "seeds": len(found)})
    return rows


def shares_table(models: Models) -> list[dict]:
    """Figure 9: the shares of images that should leave and did, in percent; low and high are those of the seeds."""
    rows = []
    for group in MAIN:
        found = models.group(group)
        for index in INDICES if found else ():
            for exit in EXITS:
                realised = [100 * at_setting(index)(m)["realised"][exit - 1] for m in found]
                wanted = 100 * at_setting(index)(found[0])["wanted"][exit - 1]
                values = {"wanted": wanted, "realised": float(np.mean(realised))}
                values |= {"low": min(realised), "high": max(realised)}
                kept = {"model": group, "index": index, "exit": exit}
                rows.append(kept | {name: round(value, 2) for name, value in values.items()})
    return rows


def theta_table(models: Models) -> list[dict]:
    """Figures 5 and 6, Table 6: the ten pairs of theta and lambda, each trained equally long."""
    rows = []
    for (theta, lambda_), model in models.grid().items():
        for index in INDICES:
            pick = at_setting(index)
            kept = {"theta": theta, "lambda": lambda_, "epochs": epochs_of(model), "index": index}
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
            found = difference(first, second, down, zero).rounded()
            values = {name: round(value, 2) for name, value in values.items()} | {"difference": found.pop("mean")}
            rows.append({"way": way, "index": index, **_gmacs(first, down), **values, **found})
    return rows


def _zero_at(first: Sequence[dict], index: int) -> Callable[[dict], dict]:
    """Finds what zero-filling reaches in a model of the second series, for the compute of downsampling in the first."""
    seeds = {model["settings"]["seed"]: at_setting(index, "downsample")(model)["gmacs"] for model in first}
    return lambda model: at_gmacs(model["fillers"]["zero"]["sweep"], seeds[model["settings"]["seed"]])


def _series(models: Models) -> dict[str, list[dict]]:
    """Groups of seeds as one, all others one by one."""
    groups = {group: models.group(group) for group in MAIN if models.group(group)}
    return groups | {m["name"]: [m] for group in ("fair", "grid") for m in models.group(group)}


def _gmacs(models: Sequence[dict], pick) -> dict:
    gmacs = float(np.mean([pick(m)["gmacs"] for m in models]))
    full = float(np.mean([at_setting(NUM_SETTINGS)(m)["gmacs_full"] for m in models]))
    return {"gmacs": round(gmacs, 6), "saved": round(100 * (1 - gmacs / full), 3)}


def _map(found) -> dict:
    row = found.rounded()
    return {"mAP": row["mean"], "low": row["low"], "high": row["high"]}
