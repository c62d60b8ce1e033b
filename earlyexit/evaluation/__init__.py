"""What a detector reaches: records of every image at every exit, and everything that is computed from them.

`collect_records` makes the records, policies turn them into an exit for each image, and `evaluate_exits` says what
that reaches, exactly as if the images had been run again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coco": ["METRICS", "evaluate", "exit_accuracy", "exit_confidences", "exit_logits"],
        "collect": ["collect_records"],
        "cost": ["count_macs", "measure_latency"],
        "fitting": ["Budget", "calibrate_rule", "fit_router", "fit_rule", "fit_worth", "thresholds_for_budget"],
        "matching": ["Matches", "average_precision", "marginal_precision", "match_records"],
        "pictures": [
            "EXIT_COLOURS",
            "TRUTH_COLOUR",
            "draw_boxes",
            "draw_detection",
            "image_grid",
            "paint_detection",
            "show_image",
        ],
        "policies": [
            "calibrate_thresholds",
            "exit_proportions",
            "oracle_exits",
            "random_exits",
            "rule_exits",
            "rule_scores",
            "threshold_exits",
        ],
        "records": ["Detections", "ExitRecords", "Truth", "join_records"],
        "scores": [
            "Interval",
            "bootstrap",
            "bootstrap_difference",
            "correct_classes",
            "evaluate_exits",
            "evaluate_records",
            "fit_score_scales",
            "oracle",
            "random_exit",
            "rescale_records",
            "skip_empty",
            "sweep",
            "without_detections",
        ],
    },
)
