"""What is trained for the study: every model by name, with the settings that decide it.

With the paper's training, `exits=(4,)`, the detection losses are taken at full depth alone. Every feature map is then
there, the filler never runs, and "trained with zero-filling" and "trained with downsampling" are the same model bit
for bit: the paper's comparison of fillers (section 5.3) evaluates one model in two ways. A comparison of two trained
models needs losses at early exits, `exits=(1, 2, 4)`, which is what the group "fair" has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..neck import FILLERS
from ..presets import preset
from ..settings import TrainSettings
from .paper import paper_pairs

GROUPS = ("baseline", "proposed", "grid", "fair")
THETA, LAMBDA = 0.0115, 1.0
FAIR_EXITS = (1, 2, 4)
# Shares of the epochs of a whole training. What is compared inside a group is trained equally long.
SHORTER = {"grid": 1 / 3, "fair": 1 / 2}
# As the weights "scenes" were made (earlyexit/weights/scenes.json), but with the stem and stage 1 frozen as in the
# published code, which also takes a fifth off the time. All else is the command's default.
_SCENES = {"init": "scenes-pretrained", "keep_classifiers": False, "distillation": 0.0, "freeze": 1}


@dataclass(frozen=True)
class Training:
    """One model of the study.

    Attributes:
        name: of its run's folder and of its results.
        group: one of `GROUPS`.
        settings: everything that decides how it ends.
        first: the training whose result it goes on from, if there is one.
    """

    name: str
    group: str
    settings: TrainSettings
    first: "Training | None" = None

    @property
    def fillers(self) -> tuple[str, ...]:
        """The fillers that it is measured with, its own first; the grid is compared under its own alone."""
        own = self.settings.filler
        return (own,) if self.group == "grid" else (own, *(f for f in FILLERS if f != own))


def plan(
    data: str,
    folder: str | Path,
    runs: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    model: str | None = None,
    epochs_factor: float = 1.0,
) -> list[Training]:
    """All trainings of the study in the order in which they run.

    Args:
        data: "scenes", "coco_single" or "ilsvrc_single".
        folder: of the data, in COCO layout with the splits train, calibration and test.
        runs: the folder of the runs' folders.
        seeds: of baseline and proposed; all others have the first of them.
        model: "nano" instead of the data's own detector, to try things out.
        epochs_factor: for trying out, too; every training has one epoch at least.

    Raises:
        ValueError: for unknown data, no or repeated seeds, or a factor that is not positive.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds must be different whole numbers from 0 on, at least one, got {list(seeds)}")
    if not 0 < epochs_factor < math.inf:
        raise ValueError(f"the factor of the epochs must be a finite number above 0, got {epochs_factor}")
    whole = replace(recipe(data, model), data=Path(folder).as_posix(), seed=seeds[0])

    def training(name: str, group: str, **changes) -> Training:
        epochs = max(1, round(whole.epochs * SHORTER.get(group, 1) * epochs_factor))
        run = (Path(runs) / name).as_posix()
        return Training(name, group, replace(whole, out=run, epochs=epochs, **changes))

    thetas = {"baseline": 0.0, "proposed": THETA}
    main = [training(f"{g}-{s}", g, theta=t, lambda_=LAMBDA, seed=s) for s in seeds for g, t in thetas.items()]
    fair = [training(f"fair-{f}", "fair", filler=f, exits=FAIR_EXITS) for f in FILLERS]
    grid = [training(f"grid-theta{t:g}-lambda{x:g}", "grid", theta=t, lambda_=x) for t, x in paper_pairs()]
    return [*main, *fair, *grid]


def recipe(data: str, model: str | None = None) -> TrainSettings:
    """How a proposed model is trained whole on one kind of data."""
    presets = {"coco_single": "paper-coco", "ilsvrc_single": "paper-ilsvrc", "scenes": "nano"}
    if data not in presets:
        raise ValueError(f"data must be one of {', '.join(presets)}, got {data!r}")
    own = preset(presets[data])
    if model not in (None, "nano", own["model"]):
        raise ValueError(f"on {data} the study trains {own['model']} or, to try things out, nano; got {model!r}")
    values = preset("nano") if model == "nano" else own
    changes = _SCENES if data == "scenes" else {}
    return TrainSettings(data="", out="", **{**values, **changes})
