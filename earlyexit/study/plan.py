"""What is trained: every model by name, with the settings that decide it, and the command that trains it.

With the paper's training, `exits=(4,)`, the detection losses are taken at full depth alone. Every feature map is then
there, the filler never runs, and "trained with zero-filling" and "trained with downsampling" are the same model bit
for bit: the paper's comparison of fillers (section 5.3) evaluates one model in two ways. A comparison of two trained
models needs losses at early exits, `exits=(1, 2, 4)`, which is what the group "fair" has.

Beyond the paper the whole recipe is trained with several seeds, and each of its parts is left out once. All start from
the backbone and the data of the study, whose proposed models are what these are compared with.

The numbers of the paper itself, as published, stand here, too: Tables 3, 4, 6 and 7, and the exits taken.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..data.coco import coco_split
from ..files import read_table
from ..model.backbone import NUM_EXITS
from ..model.heads import FILLERS
from ..training.settings import TrainSettings, as_options, check_resumable, preset
from ..weights import refuse_removed

PAPER_DATA = Path(__file__).parent / "paper_data"
DATASETS = ("coco_single", "ilsvrc_single")


def paper_sweep(dataset: str = "coco_single", theta: float = 0.0115, lambda_: float = 1.0) -> list[dict]:
    """The 34 settings of one model of Tables 6 (COCO-Single) and 7 (ILSVRC-Single); `ValueError` if it is in neither.

    Rows of "index" (1-34), "gmacs" (mean of an image) and "mAP" in percent; those of ILSVRC-Single are VOC's AP at an
    IoU of 0.5, as its published code computes it.
    """
    if dataset not in DATASETS:
        raise ValueError(f"the paper's data sets are {', '.join(DATASETS)}, got {dataset!r}")
    rows = [row for row in _read("sweep.csv") if row["dataset"] == dataset]
    found = [row for row in rows if (row["theta"], row["lambda"]) == (theta, lambda_)]
    if not found:
        raise ValueError(f"Tables 6 and 7 have the pairs (theta, lambda) {paper_pairs()}, got {(theta, lambda_)}")
    return [{"index": r["threshold_index"], "gmacs": float(r["gmacs"]), "mAP": float(r["map"])} for r in found]


def paper_pairs() -> list[tuple[float, float]]:
    """The ten pairs (theta, lambda) of Tables 6 and 7, in their order."""
    return list(dict.fromkeys((float(row["theta"]), float(row["lambda"])) for row in _read("sweep.csv")))


def paper_exit_counts() -> list[dict]:
    """Images of COCO-Single's 593 that left at each exit: rows {"index": 1-34, "exits": [n1, n2, n3, n4]}."""
    rows = _read("exit_counts_coco_single.csv")
    return [{"index": row["threshold_index"], "exits": [row[f"exit{k}"] for k in (1, 2, 3, 4)]} for row in rows]


def paper_baseline(dataset: str = "coco_single") -> dict:
    """The baseline of Table 3: {"map": percent, "gmacs": mean of an image}."""
    return paper_figures()["table 3"]["baseline"][dataset]


def paper_ceiling() -> float:
    """Percent of compute that is saved on COCO-Single if every image leaves at exit 1."""
    gmacs = paper_figures()["gmacs by exit"]["gmacs"]
    return 100 * (1 - gmacs[0] / gmacs[3])


def paper_figures() -> dict:
    """The figures that are in no table of their own, each with where it comes from."""
    return json.loads((PAPER_DATA / "figures.json").read_text(encoding="utf-8"))


@functools.cache
def _read(name: str) -> list[dict]:
    return read_table(PAPER_DATA / name)


GROUPS = ("baseline", "proposed", "grid", "fair")
BEYOND = ("joint", "early", "many", "ablation")
THETA, LAMBDA = 0.0115, 1.0
FAIR_EXITS = (1, 2, 4)
# Shares of the epochs of a whole training. What is compared inside a group is trained equally long.
SHORTER = {"grid": 1 / 3, "fair": 1 / 2, "early": 2 / 3, "many": 1 / 3, "ablation": 1 / 3}
# As the weights "scenes" were made (earlyexit/weights/scenes.json), but with the stem and stage 1 frozen as in the
# published code, which also takes a fifth off the time. All else is the command's default.
_SCENES = {"init": "scenes-pretrained", "keep_classifiers": False, "distillation": 0.0, "freeze": 1}
NECK = {"filler": "learned"}
RECIPE = {
    **NECK,
    "opinions": (1, 2, 3),
    "exits": (1, 2, 3, 4),
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
ONLY_EARLY = {"only_early": True, "exits": (1, 2, 3), "exit_weights": None, "theta": 0.0, "freeze": 0}
ONLY_EARLY |= {"init": None, "keep_classifiers": True}  # all comes from the first training
# On images with any number of objects, also none, the exits say which classes are there.
MANY = {"exit_target": "present", "allow_empty": True}
# Who chooses is trained in two steps: the exits that run the whole backbone, 3 and 4, and then the parts of the early
# ones on that backbone, which stands still, so that depth loses nothing. Early heads are narrow, the first read cheap.
CHOOSING = {**RECIPE, **MANY, "widths": (32, 24, 40, 0), "first_read": "merged"}
DEEP = {**CHOOSING, "exits": (3, 4), "opinions": (3,), "exit_weights": None}
# Exits that a detector of its own is cut off at, trained in the same two steps, or the whole one trained; and exits and
# sizes of images as shares of `_SIDE`, with which they lie near the best, the best of them first.
_NOT_CHOOSING = (1, 3, 4)
_SIZES, _SIDE = ((3, 5 / 4), (1, 5 / 4), (3, 3 / 4), (4, 3 / 4)), 128
_NO_OPTION = {"data", "resume", "progress"}


@dataclass(frozen=True)
class Training:
    """One model of the study: its name, its group, all that decides how it ends, and the training it goes on from."""

    name: str
    group: str  # one of `GROUPS` or `BEYOND`
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
    many: str | Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    model: str | None = None,
    epochs_factor: float = 1.0,
) -> list[Training]:
    """All trainings of the paper's study or, with `many`, those beyond it, in the order in which they run.

    Args:
        data: "scenes", "coco_single" or "ilsvrc_single", in COCO layout in `folder`: splits train, calibration, test.
        runs: the folder of the runs' folders.
        many: images with any number of objects; for what goes beyond the paper.
        seeds: of baseline and proposed or, beyond, of the whole recipe; all others have the first of them.
        model, epochs_factor: to try things out, "nano" instead of the data's detector, and a share of the epochs.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds must be different whole numbers from 0 on, at least one, got {list(seeds)}")
    if not 0 < epochs_factor < math.inf:
        raise ValueError(f"the factor of the epochs must be a finite number above 0, got {epochs_factor}")
    whole = replace(recipe(data, model), data=Path(folder).as_posix(), seed=seeds[0], theta=THETA, lambda_=LAMBDA)

    def training(name: str, group: str, **changes) -> Training:
        epochs = max(1, round(whole.epochs * epochs_factor * SHORTER.get(group, 1)))
        return Training(name, group, replace(whole, out=(Path(runs) / name).as_posix(), epochs=epochs, **changes))

    return _paper(training, seeds) if many is None else _beyond(training, seeds, Path(many).as_posix())


def _paper(training: Callable[..., Training], seeds: Sequence[int]) -> list[Training]:
    thetas = {"baseline": 0.0, "proposed": THETA}
    main = [training(f"{group}-{s}", group, theta=theta, seed=s) for s in seeds for group, theta in thetas.items()]
    fair = [training(f"fair-{f}", "fair", filler=f, exits=FAIR_EXITS) for f in FILLERS]
    grid = [training(f"grid-theta{t:g}-lambda{x:g}", "grid", theta=t, lambda_=x) for t, x in paper_pairs()]
    return [*main, *fair, *grid]


def _beyond(training: Callable[..., Training], seeds: Sequence[int], many: str) -> list[Training]:
    found = []
    for seed in seeds:
        joint = training(f"joint-{seed}", "joint", seed=seed, **RECIPE)
        alone = {**RECIPE, **ONLY_EARLY, "warm_start": f"{joint.settings.out}/model.safetensors"}
        found.append(replace(training(f"early-{seed}", "early", seed=seed, **alone), first=joint))
    found.append(training("many", "many", **RECIPE, **MANY, data=many))
    return found + [training(f"ablation-{k}", "ablation", **{**RECIPE, **part}) for k, part in ABLATIONS.items()]


def choosing_plan(
    folder: str | Path, runs: str | Path, *, seeds: Sequence[int] = (0,), epochs: int = 8, **changes
) -> tuple[list[Training], list[Training]]:
    """Detectors that choose, two for each seed, and those that do not.

    One chooses on images of the given size, one on larger ones. Of those that do not there are for each seed three on
    images of the given size, cut off at exits 1 and 3, and whole, and one on larger ones, cut off at exit 3; the first
    seed has the others of `_SIZES`, too, to see what other sizes are worth.

    Args:
        folder: images in COCO layout: the splits train, calibration, test.
        runs: the folder of the runs' folders.
        seeds: of the trainings.
        epochs: of each step: the backbone with what reads all of it, and then the parts of early exits.
        changes: of all settings, such as `min_size` or `trunk`.
    """
    whole = replace(recipe("scenes"), data=Path(folder).as_posix(), epochs=epochs, **changes)

    def training(kind: str, seed: int, share: float, **parts) -> Training:
        size = round(share * (whole.min_size or _SIDE))
        name, at = (f"{kind}-{size}", {"min_size": size, "max_size": 2 * size}) if share != 1 else (kind, {})
        out = (Path(runs) / f"{name}-{seed}").as_posix()
        return Training(f"{name}-{seed}", "many", replace(whole, out=out, seed=seed, **at, **parts))

    def two_steps(kinds: tuple[str, str], seed: int, share: float, whole_parts: dict, parts: dict) -> Training:
        first = training(kinds[0], seed, share, **whole_parts)
        start = f"{first.settings.out}/model.safetensors"
        parts = {**parts, **ONLY_EARLY, "exits": parts["opinions"], "warm_start": start}
        return replace(training(kinds[1], seed, share, **parts), first=first)

    def alone(seed: int, k: int, share: float) -> Training:
        if k == NUM_EXITS:
            parts = {**MANY, "exits": (k,), "theta": THETA, "first_read": "merged"}
            return training(f"static-{k}", seed, share, **parts)
        parts = {**CHOOSING, "exits": (k,), "opinions": (k,), "exit_weights": None}
        return two_steps((f"cut-{k}", f"static-{k}"), seed, share, parts, parts)

    larger, *others = _SIZES
    ours = [two_steps(("deep", "early"), seed, share, DEEP, CHOOSING) for seed in seeds for share in (1, larger[1])]
    of_all = [*((k, 1) for k in _NOT_CHOOSING), larger]
    static = [alone(seed, *way) for seed in seeds for way in (of_all if seed != seeds[0] else [*of_all, *others])]
    return ours, static


def recipe(data: str, model: str | None = None) -> TrainSettings:
    """How a proposed model is trained whole on one kind of data."""
    presets = {"coco_single": "paper-coco", "ilsvrc_single": "paper-ilsvrc", "scenes": "nano"}
    if data not in presets:
        raise ValueError(f"data must be one of {', '.join(presets)}, got {data!r}")
    own = preset(presets[data])
    if model not in (None, "nano", own["model"]):
        raise ValueError(f"on {data} the study trains {own['model']} or, to try things out, nano; got {model!r}")
    values = preset("nano") if model == "nano" else own
    return TrainSettings(**{**values, **(_SCENES if data == "scenes" else {})})


def train_arguments(settings: TrainSettings) -> list[str]:
    """The command, as arguments of Python, that trains with these settings, or goes on with the run that is there."""
    given = {name: value for name, value in settings.changed().items() if name not in _NO_OPTION}
    return ["-m", "earlyexit", "train", settings.data, "--resume", *as_options(given)]


def steps_to_train(training: Training | None) -> list[tuple[str, list[str]]]:
    """What is left to do, each a word and a command: first the training that it goes on from, if that is not there."""
    if training is None or is_trained(training.settings):
        return []
    return [*steps_to_train(training.first), (f"training {training.name}", train_arguments(training.settings))]


def training_of(run: str | Path, group: str) -> Training:
    """The training whose run lies in a folder, from its own story."""
    story = json.loads((Path(run) / "settings.json").read_text())["settings"]
    refuse_removed(story, run)
    known = {f.name: story[f.name] for f in fields(TrainSettings) if f.name in story}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return Training(Path(run).name, group, TrainSettings(**{**settings, "out": str(run)}))


def is_trained(settings: TrainSettings) -> bool:
    """Whether the run is there with all of its epochs, made with these settings on as many images."""
    run = Path(settings.out)
    if not all((run / name).exists() for name in ("checkpoint.pt", "log.csv", "model.safetensors", "settings.json")):
        return False
    try:
        check_resumable(replace(settings, resume=True), run, len(coco_split(settings.data, "train")))
    except ValueError:
        return False  # which the training then says itself
    return len(read_table(run / "log.csv")) >= settings.epochs
