"""The paper's study and what goes beyond it: what is trained, what is measured, and which claims hold.

`earlyexit study` and `earlyexit beyond` run it; the chapters and the page of claims read its results, which come with
the package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "findings": ["SETTING", "extremes", "spearman", "traits_of"],
        "finished": [
            "Study",
            "draw_examples",
            "gpu_times",
            "interval_text",
            "open_study",
            "plot_correlations",
            "plot_evaluation",
            "plot_exits",
            "plot_fillers",
            "plot_hyperparameters",
            "plot_rules",
            "plot_saving",
            "plot_shares",
            "plot_thirds",
            "select",
        ],
        "plan": ["RECIPE", "SHORTER", "THETA", "paper_baseline", "paper_figures", "paper_pairs", "paper_sweep"],
        "run": ["check_numbers"],
    },
)
