"""What is trained: every model by name, with the settings that decide it, and the command that trains it.

With the paper's training, `exits=(4,)`, the detection losses are taken at full depth alone. Every feature map is then
there, the filler never runs, and "trained with zero-filling" and "trained with downsampling" are the same model bit
for bit: the paper's comparison of fillers (section 5.3) evaluates one model in two ways. A comparison of two trained
models needs losses at early exits, `exits=(1, 2, 4)`, which is what the group "fair" has.

Beyond the paper, `plan_beyond`, the whole recipe is trained with several seeds, and each of its parts is left out once.
All start from the backbone and the data of the study, whose proposed models are what these are compared with.
"""

import csv
import functools
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..data.coco import annotation_file, coco_split, read_coco
from ..data.finder import PhotoFiles, stays_inside
from ..data.single import take_images
from ..files import write_whole
from ..model.necks import FILLERS
from ..training.settings import TrainSettings, as_options, check_resumable, preset
from ..weights import refuse_removed
from .paper import paper_pairs

SPLITS = ("train", "calibration", "test")
GROUPS = ("baseline", "proposed", "grid", "fair")
BEYOND = ("joint", "early", "many", "ablation")
THETA, LAMBDA = 0.0115, 1.0
FAIR_EXITS = (1, 2, 4)
# Shares of the epochs of a whole training. What is compared inside a group is trained equally long.
SHORTER = {"grid": 1 / 3, "fair": 1 / 2, "early": 2 / 3, "many": 1 / 3, "ablation": 1 / 3}
# As the weights "scenes" were made (earlyexit/weights/scenes.json), but with the stem and stage 1 frozen as in the
# published code, which also takes a fifth off the time. All else is the command's default.
_SCENES = {"init": "scenes-pretrained", "keep_classifiers": False, "distillation": 0.0, "freeze": 1}
RECIPE = {
    "filler": "learned",
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
# On images with any number of objects, also none, the exits say which classes are there.
MANY = {"exit_target": "present", "allow_empty": True}
_NO_OPTION = {"data", "resume", "progress"}


@dataclass(frozen=True)
class Training:
    """One model of the study.

    Attributes:
        name: of its run's folder and of its results.
        group: one of `GROUPS` or `BEYOND`.
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
        epochs = _epochs(whole.epochs * epochs_factor, group)
        return Training(name, group, replace(whole, out=_run(runs, name), epochs=epochs, **changes))

    thetas = {"baseline": 0.0, "proposed": THETA}
    main = [training(f"{g}-{s}", g, theta=t, lambda_=LAMBDA, seed=s) for s in seeds for g, t in thetas.items()]
    fair = [training(f"fair-{f}", "fair", filler=f, exits=FAIR_EXITS) for f in FILLERS]
    grid = [training(f"grid-theta{t:g}-lambda{x:g}", "grid", theta=t, lambda_=x) for t, x in paper_pairs()]
    return [*main, *fair, *grid]


def plan_beyond(data: str, folder: str | Path, many: str | Path, runs: str | Path, **options) -> list[Training]:
    """All trainings beyond the paper, in the order in which they run.

    Args:
        data, runs, options: as for `plan`.
        folder: images with exactly one object, the study's.
        many: images with any number of objects.
    """
    proposed = [t.settings for t in plan(data, folder, runs, **options) if t.group == "proposed"]
    epochs = proposed[0].epochs

    def training(name: str, group: str, base: TrainSettings = proposed[0], **changes) -> Training:
        changes = {**RECIPE, "epochs": _epochs(epochs, group), "out": _run(runs, name), **changes}
        return Training(name, group, replace(base, **changes))

    def alone(joint: Training) -> Training:
        start = {"warm_start": f"{joint.settings.out}/model.safetensors", "init": None, "keep_classifiers": True}
        made = training(f"early-{joint.settings.seed}", "early", joint.settings, **ONLY_EARLY, **start)
        return replace(made, first=joint)

    whole = [alone(training(f"joint-{base.seed}", "joint", base)) for base in proposed]
    parts = [training(f"ablation-{name}", "ablation", **changes) for name, changes in ABLATIONS.items()]
    return [*whole, training("many", "many", **MANY, data=Path(many).as_posix()), *parts]


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


def _epochs(whole: float, group: str) -> int:
    return max(1, round(whole * SHORTER.get(group, 1)))


def _run(runs: str | Path, name: str) -> str:
    return (Path(runs) / name).as_posix()


def train_arguments(settings: TrainSettings) -> list[str]:
    """The command, as arguments of Python, that trains with these settings, or goes on with the run that is there."""
    given = {name: value for name, value in settings.changed().items() if name not in _NO_OPTION}
    return ["-m", "earlyexit", "train", settings.data, "--resume", *as_options(given)]


def training_of(run: str | Path, group: str) -> Training:
    """The training whose run lies in a folder, from its own story."""
    story = json.loads((Path(run) / "settings.json").read_text())["settings"]
    refuse_removed(story, run)
    known = {f.name for f in fields(TrainSettings)}
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in story.items() if name in known}
    return Training(Path(run).name, group, TrainSettings(**{**settings, "out": str(run)}))


def is_trained(settings: TrainSettings) -> bool:
    """Whether the run is there with all of its epochs, made with these settings on as many images."""
    run = Path(settings.out)
    if not all((run / name).exists() for name in ("checkpoint.pt", "log.csv", "model.safetensors", "settings.json")):
        return False
    with open(run / "log.csv", newline="") as file:
        if len(list(csv.DictReader(file))) < settings.epochs:
            return False
    try:
        check_resumable(replace(settings, resume=True), run, len(coco_split(settings.data, "train")))
    except ValueError:
        return False  # which the training then says itself
    return True


def first_images(folder: str | Path, out: str | Path, limit: int) -> Path:
    """Copy the first `limit` images of each split into a COCO layout of their own, to try things out; returns `out`."""
    if limit < 1:
        raise ValueError(f"at least one image is needed, got the limit {limit}")
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{str(out)!r} is the data set that is read; give another folder")
    for split in SPLITS:
        content = read_coco(annotation_file(folder, split), outlines=False)
        content = take_images(content, set(sorted(image["id"] for image in content["images"])[:limit]))
        names = [image["file_name"] for image in content["images"]]
        files = PhotoFiles(folder / split, names)
        for name in names:
            if not stays_inside(name):
                raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
            (out / split / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / split / name, functools.partial(shutil.copyfile, files.path(name)))
        path, text = annotation_file(out, split), json.dumps(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary, text=text: temporary.write_text(text))
    return out
