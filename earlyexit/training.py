"""What `earlyexit train` does: from a COCO-layout folder and settings to a run folder that tells its own story."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .data.coco import CocoDataset, coco_split, train_transforms
from .engine import check_precision
from .files import write_whole
from .fitting import fit
from .freezing import freeze_all_but_early, freeze_stages, set_norms
from .loading import StepSampler, check_dataset, shape_groups
from .models import load_init, load_warm_start, make_classifier, make_detector, reset_classifiers
from .processes import process_state
from .provenance import provenance
from .resuming import check_resumable
from .settings import TrainSettings, check_settings, weights_by_exit
from .tracking import Watcher

SMALL_BATCH = 8  # images in a forward pass below which batch statistics are mostly noise


def train(
    settings: TrainSettings,
    command: str = "",
    on_epoch: Callable[[dict], object] = lambda row: None,
    on_start: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Train a detector or a classifier as `settings` say, in one process or, under `torchrun`, in many.

    Args:
        settings: what to train, on what and how.
        command: kept in the run's `settings.json`.
        on_epoch: called in the main process with the row of each epoch once it is saved.
        on_start: called in the main process when nothing was refused.
    """
    check_settings(settings)
    out = Path(settings.out)
    dataset = coco_split(settings.data, settings.split)
    begun = (out / "checkpoint.pt").exists()
    if begun:
        check_resumable(settings, out, len(dataset), dataset.classes)
    elif (out / "model.safetensors").exists() and not settings.resume:  # a first epoch that was killed may leave one
        raise ValueError(f"{str(out)!r} already holds a run, but no checkpoint.pt to go on from: choose another --out")
    _check_steps(settings, dataset)
    watcher = _watcher(settings, out, dataset)
    torch.manual_seed(settings.seed)
    # What a resumed run started from may be gone: the checkpoint holds all that came of it.
    model = _make_model(replace(settings, init=None, warm_start=None) if begun else settings, len(dataset.classes))
    sizes = {"min_size": model.transform.min_size[-1], "max_size": model.transform.max_size}
    about = {"task": settings.task, "model": settings.model, "classes": dataset.classes, **sizes}
    if settings.task == "detect":
        about |= {"filler": settings.filler, "opinions": list(settings.opinions), "exit_target": settings.exit_target}
    state = process_state()
    # A resumed run keeps the story of its beginning.
    if state.is_main_process and not begun:
        run = {"command": command, "images": len(dataset), "processes": state.num_processes}
        story = {**run, "settings": asdict(settings), **about, **provenance()}
        _write_story(out, story)
    if state.is_main_process:
        on_start()
    names = "epochs batch_size accumulate lr optimizer weight_decay schedule warmup clip ema precision seed workers"
    how = {name: getattr(settings, name) for name in f"{names} save_every resume progress".split()}

    def finished(row: dict) -> None:
        watcher.on_epoch(row)
        on_epoch(row)

    return fit(
        model,
        _augmented(settings, dataset, **sizes),
        out,
        groups=shape_groups(dataset) if settings.shape_groups else None,
        about=about,
        after_epoch=watcher.after_epoch,
        on_step=watcher.on_step,
        on_epoch=finished,
        **how,
    )


def _check_steps(s: TrainSettings, dataset: CocoDataset) -> None:
    """Refuse what a step could not use: images, numbers of them, a precision that this machine has not."""
    check_precision(s.precision)
    StepSampler(len(dataset), s.batch_size, process_state().num_processes * s.accumulate)
    alone = s.task == "classify" or (s.theta > 0 and s.exit_target == "single")
    check_dataset(dataset, allow_empty=s.allow_empty and s.task == "detect", single=alone)


def _write_story(out: Path, story: dict) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "settings.json", lambda path: path.write_text(json.dumps(story, indent=1)))
    except OSError as error:
        raise OSError(f"--out must be a folder that can be written to, got {str(out)!r}: {error.strerror}") from error


def advice(settings: TrainSettings) -> str | None:
    """A sentence about frozen parts that nobody trained, or about statistics of few images; None if all is well."""
    if not settings.init and (settings.freeze or settings.norm == "frozen"):
        return "--freeze and --norm frozen keep random weights here: they are for pretrained ones, see --init"
    images = settings.batch_size // max(1, process_state().num_processes * settings.accumulate)
    if settings.norm != "batch" or images >= SMALL_BATCH:
        return None
    return (
        f"batch normalisation sees {images} image(s) at a time here, too few for good statistics: use --norm frozen "
        "with pretrained weights, --norm sync on several GPUs, or a larger --batch-size"
    )


def _make_model(s: TrainSettings, num_classes: int) -> torch.nn.Module:
    sizes = {name: getattr(s, name) for name in ("min_size", "max_size") if getattr(s, name) is not None}
    if s.init == "imagenet" and s.model != "regnet_y_800mf":
        raise ValueError(f"ImageNet weights are for the model 'regnet_y_800mf', not for {s.model!r}")
    trunk = {"trunk_weights": "DEFAULT"} if s.init == "imagenet" else {}
    if s.task == "classify":
        model = make_classifier(s.model, num_classes, **sizes, **trunk)
        model.distillation = s.distillation
    else:
        loss = {"theta": s.theta, "lambda_": s.lambda_, "distillation": s.distillation}
        where = {"exits": s.exits, "exit_target": s.exit_target, "filler": s.filler, "allow_empty": s.allow_empty}
        early = {"exit_weights": weights_by_exit(s), "opinions": s.opinions}
        model = make_detector(s.model, num_classes, **loss, **where, **early, **sizes, **trunk)
    if s.init and s.init != "imagenet":
        fresh = load_init(model.backbone, s.init, classifiers=s.keep_classifiers)
        if fresh:
            # With the seed of the pretraining, fresh classifiers would be those that it started from, and its
            # backbone knows them: they guess well untrained. So they are drawn again, from another stream.
            torch.manual_seed(s.seed + 1_000_000)
            reset_classifiers(model.backbone)
    if s.warm_start:
        load_warm_start(model, s.warm_start)
    freeze_stages(model.backbone, s.freeze)
    if s.only_early:
        freeze_all_but_early(model)
    model.transform._skip_resize = s.jitter > 0  # torchvision's switch: the augmentation has resized the image already
    return set_norms(model, s.norm).to(memory_format=torch.channels_last)


def _augmented(s: TrainSettings, dataset: CocoDataset, min_size: int, max_size: int) -> CocoDataset:
    """The data set again, with the transforms of the training; the first stays as it is for pictures."""
    return dataset.with_transforms(train_transforms(min_size=min_size, max_size=max_size, jitter=s.jitter))


def _watcher(s: TrainSettings, out: Path, dataset: CocoDataset) -> Watcher:
    validation = coco_split(s.data, s.val_split) if s.val_split else None
    if s.task != "detect" and (s.val_split or s.pictures):
        raise ValueError(f"--val-split and --pictures are for --task detect, got {s.task!r}")
    if validation and validation.classes != dataset.classes:
        raise ValueError(f"the split {s.val_split!r} has the classes {validation.classes}, not {dataset.classes}")
    shown = (validation or dataset) if s.pictures else None
    return Watcher(out, shown=shown, validation=validation, tensorboard=s.tensorboard)
