"""What is trained to go beyond the paper: the whole recipe with several seeds, and each of its parts left out once.

All start from the backbone and the data of the study (`earlyexit.study.plan`), whose proposed models are what these
are compared with.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..study.plan import Training, plan

EXITS = (1, 2, 4)
RECIPE = {
    "filler": "learned",
    "opinions": (1, 2),
    "exits": EXITS,
    "exit_weights": (0.3, 0.3, 0.4),
    "head_distillation": 1.0,
    "freeze": 0,
}
# What each ablation changes of the recipe. The first is the recipe itself, trained as briefly as the others. Those that
# fill missing levels the paper's way have one head for all exits.
ABLATIONS = {
    "recipe": {},
    "no-opinions": {"opinions": ()},
    "frozen-stem": {"freeze": 1},
    "neck-downsample": {"filler": "downsample"},
    "no-head-distillation": {"head_distillation": 0.0},
    "gradient-stopped": {"early_gradient": 0.0},
    "warm-start": {"init": None, "keep_classifiers": True, "warm_start": "scenes"},
    "neck-topdown": {"filler": "topdown"},
    "gradient-half": {"early_gradient": 0.5},
    "sandwich": {"exits": (1, 2, 3, 4), "exit_weights": None, "sandwich": True},
    "neck-zero": {"filler": "zero"},
}
SHORT = 1 / 3  # of the epochs, for ablations


def plan_beyond(
    data: str,
    folder: str | Path,
    runs: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    model: str | None = None,
    epochs_factor: float = 1.0,
) -> list[Training]:
    """All trainings beyond the paper, in the order in which they run; arguments as for `study.plan.plan`."""
    proposed = [
        t for t in plan(data, folder, runs, seeds=seeds, model=model, epochs_factor=epochs_factor) if _is_proposed(t)
    ]
    whole = [_changed(t, f"early-{t.settings.seed}", "early", runs, RECIPE) for t in proposed]
    epochs = max(1, round(proposed[0].settings.epochs * SHORT))
    parts = [
        _changed(proposed[0], f"without-{name}", "ablation", runs, {**RECIPE, **changes, "epochs": epochs})
        for name, changes in ABLATIONS.items()
    ]
    return [*whole, *parts]


def _is_proposed(training: Training) -> bool:
    return training.group == "proposed"


def _changed(training: Training, name: str, group: str, runs: str | Path, changes: dict) -> Training:
    return Training(name, group, replace(training.settings, out=(Path(runs) / name).as_posix(), **changes))
