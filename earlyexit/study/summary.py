"""All verdicts in one file: per claim what the paper says, what we measured, whether it holds."""

import json
from collections.abc import Sequence
from pathlib import Path

from . import claims, claims_curves, claims_exits, claims_theta
from .models import Models
from .plan import GROUPS

# Each claim about models, with the groups that it needs.
_CLAIMS = (
    (claims.full_depth, ("baseline", "proposed")),
    (claims.same_or_less_compute, ("baseline", "proposed")),
    (claims.rises_by_3_8, ("baseline", "proposed")),
    (claims_curves.along_the_sweep, ("baseline", "proposed")),
    (claims.last_accuracy, ("baseline", "proposed")),
    (claims_curves.beats_random, ("proposed",)),
    (claims_curves.downsampling_published, ("proposed",)),
    (claims_curves.downsampling_fair, ("fair",)),
    (claims_theta.best_theta, ("proposed", "grid")),
    (claims_theta.small_changes, ("proposed", "grid")),
    (claims_theta.smaller_lambda, ("proposed", "grid")),
    (claims_theta.accuracy_and_map, ("grid",)),
    (claims_exits.calibrated_shares, ("proposed",)),
    (claims_exits.easy_and_hard, ("proposed",)),
)
_SIZES = {"fair": 2, "grid": 10}


def summarise(models: Models, compute: Sequence[dict], latency: Sequence[dict], benchmark: Path | None = None) -> dict:
    """The verdicts on all claims whose models are there.

    Args:
        models: those measured.
        compute: rows of `compute_table`.
        latency: rows of `latency_table`.
        benchmark: the JSON that benchmarks/evaluation.py writes.

    Returns:
        "claims": rows of "name", "claim", "where" in the paper, "paper" (its figures), "ours" ("mean", "low", "high"),
        "unit", "seeds", "holds" ("yes", "no", "within noise") and "detail"; "left_out": claims whose models are
        missing; "passes_ratio" and "time_ratio" of the published protocol against this one, None where not measured.
    """
    complete = {group for group in GROUPS if len(models.group(group)) >= _SIZES.get(group, 1)}
    rows, left_out = [], []
    for claim, needed in _CLAIMS:
        if complete.issuperset(needed):
            found = claim(models)
            rows += found if isinstance(found, list) else [found]
        else:
            left_out.append(claim.__name__)
    rows += [claims_exits.ceiling(compute), claims_exits.cheaper_in_time(latency)]
    return {"claims": rows, "left_out": left_out, **_ratios(benchmark)}


def _ratios(benchmark: Path | None) -> dict:
    found = json.loads(benchmark.read_text()) if benchmark and benchmark.is_file() else {}
    ratios = {name: found.get(name) for name in ("passes_ratio", "time_ratio")}
    return {name: None if value is None else round(value, 1) for name, value in ratios.items()}
