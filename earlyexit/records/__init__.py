"""Every image at every exit, recorded once, and everything that is computed from it.

`collect_records` makes the records, policies turn them into an exit for each image, and `evaluate_exits` says what
that reaches, exactly as if the images had been run again.
"""

from .best_case import marginal_precision, oracle
from .budgets import Budget, pareto_front, thresholds_for_budget
from .collect import collect_records
from .empty import skip_empty, without_detections
from .evaluate import correct_classes, evaluate_exits, evaluate_records, random_exit, sweep
from .intervals import Interval, bootstrap, bootstrap_difference
from .latency import measure_latency
from .matching import Matches, match_records
from .policies import oracle_exits, random_exits, threshold_exits
from .precision import average_precision
from .record import Detections, ExitRecords, Truth, join_records
from .router import Router, fit_router
from .rules import RULES
from .scales import fit_score_scales, rescale_records

__all__ = [
    "RULES",
    "Budget",
    "Detections",
    "ExitRecords",
    "Interval",
    "Matches",
    "Router",
    "Truth",
    "average_precision",
    "bootstrap",
    "bootstrap_difference",
    "collect_records",
    "correct_classes",
    "evaluate_exits",
    "evaluate_records",
    "fit_router",
    "fit_score_scales",
    "join_records",
    "marginal_precision",
    "match_records",
    "measure_latency",
    "oracle",
    "oracle_exits",
    "pareto_front",
    "random_exit",
    "random_exits",
    "rescale_records",
    "skip_empty",
    "sweep",
    "threshold_exits",
    "thresholds_for_budget",
    "without_detections",
]
