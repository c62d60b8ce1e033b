"""The best model beyond the paper as weights of the package, with what it needs to leave early well."""

from pathlib import Path

from ..exporting import export, export_paths
from ..study.results import load_models

BUDGET = 0.5  # whose thresholds are stored


def export_early(out: str | Path, runs: str | Path, name: str | Path) -> Path:
    """Write the seed that promises the smallest loss at half of the GMACs, with its thresholds and scales of scores.

    The promise is of the calibration split: a choice by test images would make the card look better than the model.

    Args:
        out: the folder of results.
        runs: the folder of the runs.
        name: the safetensors file; its card is the JSON beside it.

    Raises:
        ValueError: if no model of the whole recipe was measured.
    """
    early = [model for model in load_models(Path(out) / "beyond").values() if model["group"] == "early"]
    if not early:
        raise ValueError(f"{str(out)!r} holds no model of the whole recipe: run `earlyexit beyond` first")
    best = min(early, key=lambda model: _at_budget(model)["loss_at_most"])
    row = _at_budget(best)
    more = {"score_scales": best["score_scales"], "thresholds": row["thresholds"]}
    reached = {name: row[name] for name in ("budget", "share", "kept", "mAP", "loss_at_most", "exits")}
    metrics = {"images": best["data"]["test"]["images"], "forced_exit": {r["exit"]: r for r in best["forced"]}}
    metrics |= {"accuracy": [r["accuracy"] for r in best["forced"]], "thresholds": reached}
    run = Path(runs) / best["name"]
    export(run, Path(name), None, "test", about=more, metrics=metrics)
    return export_paths(run, Path(name))[0]


def _at_budget(model: dict) -> dict:
    return next(row for row in model["budgets"] if row["budget"] == BUDGET)
