"""What was reached beyond the paper, in one file: means over seeds with their intervals."""

from collections.abc import Iterable, Sequence

from ..study.estimates import Estimate, estimate
from ..study.models import at_setting
from ..thresholds import NUM_SETTINGS

KEPT = ("0.62", "0.50", "0.35")  # budgets, as shares of full depth
# To be reached: at least, or at most for times and the loss.
AIMS = {
    "map_kept": {"0.62": 0.99, "0.50": 0.97, "0.35": 0.90},
    "forced_exit1_kept": 0.85,
    "full_depth_loss": 0.5,
    "time_ratio": 0.68,
}


def summarise_beyond(early: Sequence[dict], proposed: Sequence[dict], times: dict[str, dict]) -> dict:
    """The rows of the project's aims.

    Args:
        early: results of `measure_beyond` of the whole recipe, one for each seed.
        proposed: results of the study's proposed models.
        times: by "batch1" and "batch16", see `time_ratio`.

    Returns:
        "map_kept" {"0.62": ..., "0.50": ..., "0.35": ...}, shares of the mAP at full depth, each with "gmacs_share",
        the share of the GMACs that was realised, and "of_proposed", the mean mAP as a share of the proposed models' at
        full depth; "forced_exit1_kept", likewise; "full_depth_map" and "proposed_full_depth_map" in percent;
        "time_ratio". Each has "mean", "low" and "high", over seeds, of times over rounds. "aims" are what was
        to be reached, "reached" whether the mean does.
    """
    papers = _over([at_setting(NUM_SETTINGS)(model)["mAP"] for model in proposed]).rounded()
    kept = {}
    for name in KEPT:
        rows = [_budget(model, float(name)) for model in early]
        kept[name] = _over([row["kept"] for row in rows]).rounded(4)
        kept[name]["gmacs_share"] = round(sum(row["share"] for row in rows) / len(rows), 4)
        kept[name]["of_proposed"] = round(_mean(row["mAP"] for row in rows) / papers["mean"], 4)
    first = _over([model["forced"][0]["mAP"] / model["forced"][3]["mAP"] for model in early]).rounded(4)
    own = _over([model["forced"][3]["mAP"] for model in early]).rounded()
    first["of_proposed"] = round(_mean(model["forced"][0]["mAP"] for model in early) / papers["mean"], 4)
    reached = {f"map_kept {name}": kept[name]["mean"] >= AIMS["map_kept"][name] for name in KEPT}
    reached["forced_exit1_kept"] = first["mean"] >= AIMS["forced_exit1_kept"]
    reached["full_depth_map"] = papers["mean"] - own["mean"] <= AIMS["full_depth_loss"]
    reached |= {f"time_ratio {name}": row["mean"] <= AIMS["time_ratio"] for name, row in times.items()}
    return {
        "seeds": len(early),
        "map_kept": kept,
        "forced_exit1_kept": first,
        "full_depth_map": own,
        "proposed_full_depth_map": papers,
        "time_ratio": times,
        "aims": AIMS,
        "reached": reached,
    }


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _over(values: Sequence[float]) -> Estimate:
    return estimate(values, [[value] for value in values])


def _budget(model: dict, budget: float) -> dict:
    for row in model["budgets"]:
        if abs(row["budget"] - budget) < 1e-6:
            return row
    raise ValueError(f"{model['name']} has no thresholds for a budget of {budget}: its cheapest exit costs more")
