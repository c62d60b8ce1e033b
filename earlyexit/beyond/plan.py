"""What is trained to go beyond the paper: the whole recipe with several seeds, and each of its parts left out once.

All start from the backbone and the data of the study (`earlyexit.study.plan`), whose proposed models are what these
are compared with.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..settings import TrainSettings
from ..study.plan import THETA, Training, plan

EXITS = (1, 2, 3, 4)
RECIPE = {
    "filler": "learned",
    "opinions": (1, 2, 3),
    "exits": EXITS,
    "exit_weights": (0.3, 0.25, 0.25, 0.2),
    "theta": 0.1,
}
# What each ablation changes of the recipe. The first is the recipe itself, trained as briefly as the others, the second
# the paper's way. Those that fill missing levels the paper's way have one head for all exits, which hears an opinion at
# all of them: with opinions at some exits alone it would have to mean two things by one score.
_SHARED = {"opinions": (1, 2, 3, 4)}
ABLATIONS = {
    "recipe": {},
    "full-depth-only": {"filler": "downsample", "opinions": (), "exits": (4,), "exit_weights": None, "theta": THETA},
    "equal-weights": {"exit_weights": None},
    "early-weights": {"exit_weights": (0.4, 0.25, 0.2, 0.15)},
    "no-opinions": {"opinions": ()},
    "neck-downsample": {"filler": "downsample", **_SHARED},
    "neck-zero": {"filler": "zero", **_SHARED},
    "warm-start": {"init": None, "keep_classifiers": True, "warm_start": "scenes"},
    "theta-paper": {"theta": THETA},
    "whole-backbone": {"freeze": 0},
}
# After all exits were trained jointly, the parts of the early exits alone go on, on a backbone that stands still. Full
# depth stays as it is.
ALONE = 2 / 3  # of the epochs
ONLY_EARLY = {"only_early": True, "exits": (1, 2, 3), "exit_weights": None, "theta": 0.0, "freeze": 0}
SHORT = 1 / 3  # of the epochs, for ablations
# On images with any number of objects, also none, the exits say which classes are there.
MANY = {"exit_target": "present", "allow_empty": True}
MANY_EPOCHS = 1 / 3


def plan_beyond(
    data: str,
    folder: str | Path,
    many: str | Path,
    runs: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    model: str | None = None,
    epochs_factor: float = 1.0,
) -> list[Training]:
    """All trainings beyond the paper, in the order in which they run.

    Args:
        data, runs, seeds, model, epochs_factor: as for `earlyexit.study.plan.plan`.
        folder: images with exactly one object, the study's.
        many: images with any number of objects.
    """
    study = plan(data, folder, runs, seeds=seeds, model=model, epochs_factor=epochs_factor)
    proposed = [training for training in study if training.group == "proposed"]
    first, epochs = proposed[0].settings, proposed[0].settings.epochs

    def training(name: str, group: str, base: TrainSettings = first, **changes) -> Training:
        return Training(name, group, replace(base, out=(Path(runs) / name).as_posix(), **{**RECIPE, **changes}))

    joint = [training(f"joint-{t.settings.seed}", "joint", t.settings) for t in proposed]
    whole = [_alone(t, runs, max(1, round(epochs * ALONE))) for t in joint]
    short = max(1, round(epochs * SHORT))
    parts = [training(f"ablation-{n}", "ablation", epochs=short, **changes) for n, changes in ABLATIONS.items()]
    any_number = {**MANY, "data": Path(many).as_posix(), "epochs": max(1, round(epochs * MANY_EPOCHS))}
    return [*whole, training("many", "many", **any_number), *parts]


def _alone(joint: Training, runs: str | Path, epochs: int) -> Training:
    name = f"early-{joint.settings.seed}"
    start = {"warm_start": f"{joint.settings.out}/model.safetensors", "init": None, "keep_classifiers": True}
    changes = {**ONLY_EARLY, **start, "epochs": epochs, "out": (Path(runs) / name).as_posix()}
    return Training(name, "early", replace(joint.settings, **changes), first=joint)
