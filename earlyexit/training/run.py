"""What `earlyexit train` does: from a COCO-layout folder and settings to a run folder that tells its own story.

And `earlyexit export`: from a run to a half-precision file with its card.
"""

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data.coco import CocoDataset, coco_split, train_transforms
from ..evaluation.coco import checked, coco_metrics, detect_all, exit_accuracy, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.pictures import TRUTH_COLOUR, draw_boxes, draw_detection, image_grid, save_figure
from ..evaluation.records import hash_data
from ..evaluation.scores import evaluate_exits
from ..files import provenance, write_json
from ..model.backbone import EXITS, DynPerceiver
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import ONE_CLASS
from ..model.factories import (
    ExitClassifier,
    count_parameters,
    describe_fresh,
    load_init,
    load_model,
    load_warm_start,
    make_model,
    read_config,
    reset_classifiers,
    trunk_weights_of,
)
from ..model.trunks import sync_norms
from ..processes import pick_device, process_state
from ..weights import ModelConfig, parse_card, save_weights
from .loop import StepSampler, check_dataset, check_precision, fit, shape_groups
from .settings import NORMS, TrainSettings, check_resumable, check_settings

PICTURED = 8  # images in the picture of an epoch
SMALL_BATCH = 8  # images in a forward pass below which batch statistics are mostly noise


def freeze_stages(backbone: DynPerceiver, stages: int) -> None:
    """Freeze the stem and the first `stages` stages of both branches; 0 freezes nothing.

    The published code freezes the stem, stage 1 and its attention, which is `stages=1`.
    """
    if stages not in range(5):
        raise ValueError(f"freeze must be the number of frozen stages, 0 to 4, got {stages!r}")
    if stages:
        for module in (backbone.stem, *backbone.stages[:stages], *backbone.reads[:stages]):
            module.requires_grad_(False)


def freeze_all_but_early(model: EarlyExitRetinaNet) -> None:
    """Freeze everything except the necks, heads and opinions of early exits: full depth stays as it is, bit for bit.

    Raises:
        ValueError: if the detector has no such parts.
    """
    if not model.early_necks:
        raise ValueError('there is nothing to train but early exits\' own necks and heads: use filler="learned"')
    model.requires_grad_(False)
    opinions = (opinion for exit, opinion in model.opinions.items() if exit in model.early_heads)
    for part in (model.early_necks, model.early_heads, *opinions):
        part.requires_grad_(True)


def set_norms(model: nn.Module, norm: str) -> nn.Module:
    """Choose what the batch normalisations of a model use in training; "sync" replaces them, so go on with the result.

    Args:
        norm: "batch": the statistics of the batch in one process; noise if that holds few images. "frozen": the
            statistics and weights that were loaded, for good; right for small batches from pretrained weights.
            "sync": the statistics over all processes, on several GPUs.

    Raises:
        ValueError: for another word, or "sync" without a GPU.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
    if norm == "sync" and not torch.cuda.is_available():
        raise ValueError("norm 'sync' needs GPUs, there is none here: use 'batch', or 'frozen' with pretrained weights")
    if norm == "sync" and process_state().num_processes > 1:  # one process has nothing to synchronise
        return sync_norms(model)
    if norm == "frozen":
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False)
    return model


class Watcher:
    """The callbacks of one training; see `fit`.

    Args:
        out: the run's folder; pictures go to `pictures/`, TensorBoard's files to `tensorboard/`.
        shown: images to draw; None: no pictures.
        validation: measured after each epoch at full depth, over all processes; None: not measured.
        workers: processes that load it.
    """

    def __init__(
        self,
        out: Path,
        *,
        shown: CocoDataset | None = None,
        validation: CocoDataset | None = None,
        workers: int = 0,
        tensorboard: bool = False,
    ):
        self.out, self.shown, self.validation, self.workers = out, shown, validation, workers
        self.board, self.steps = None, 0
        self._writer = _tensorboard() if tensorboard else None

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Metrics of the epoch for its row in the log; draws the picture on the way."""
        if self.shown is not None and process_state().is_main_process:
            path = self.out / "pictures" / f"epoch-{epoch:03}.png"
            path.parent.mkdir(exist_ok=True)
            draw_first(model, self.shown, path)
            if self.board:
                self.board.add_image("detections", plt.imread(path)[..., :3], self.steps, dataformats="HWC")
        if self.validation is None:
            return {}
        rows = detect_all(model, self.validation, None, None, batch_size=8, workers=self.workers)
        metrics = coco_metrics(self.validation, [d for row in rows for d in row.found])
        return {name: value for name, value in metrics.items() if value is not None}

    def on_step(self, step: int, losses: dict[str, float]) -> None:
        """Losses of a step; TensorBoard has all it gets at the number of steps that are done."""
        if self._writer is None:
            return
        self.steps = step + 1
        if self.board is None:  # purge_step: a resumed run takes the place of what came after its checkpoint
            self.board = self._writer(str(self.out / "tensorboard"), purge_step=self.steps)
        for name, value in losses.items():
            self.board.add_scalar(f"step/{name}", value, self.steps)

    def on_epoch(self, row: dict[str, float]) -> None:
        """Means of an epoch."""
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(f"epoch/{name}", value, self.steps)
            self.board.flush()


def draw_first(model: nn.Module, dataset: CocoDataset, path: Path, *, min_score: float = 0.3) -> None:
    """Draw the first images of `dataset` with what the model finds (solid) and what is there (dashed)."""
    device = next(model.parameters()).device
    samples = [dataset[i] for i in range(min(PICTURED, len(dataset)))]
    model.eval()
    figure, axes = image_grid(len(samples), columns=4, size=3)
    for ax, (image, target) in zip(axes, samples, strict=True):
        with torch.inference_mode():
            detection = model([image.to(device)])[0]
        draw_detection(ax, image, detection, dataset.classes, min_score=min_score)
        draw_boxes(ax, target["boxes"], [""] * len(target["boxes"]), colour=TRUTH_COLOUR, dashed=True)
    try:
        save_figure(figure, path, format="png", dpi=80)
    finally:
        plt.close(figure)


def _tensorboard():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter


def train(
    settings: TrainSettings,
    command: str = "",
    on_epoch: Callable[[dict], object] = lambda row: None,
    on_start: Callable[[list[str]], object] = lambda notes: None,
) -> list[dict[str, float]]:
    """Train a detector or a classifier as `settings` say, in one process or, under `torchrun`, in many.

    Args:
        command: kept in the run's `settings.json`.
        on_epoch: called in the main process with the row of each epoch once it is saved.
        on_start: called in the main process when nothing was refused, with what is to be said of the data.
    """
    check_settings(settings)
    dataset = coco_split(settings.data, settings.split)
    begun = _has_begun(settings, Path(settings.out), dataset)
    _check_steps(settings, dataset)
    watcher = _watcher(settings, Path(settings.out), dataset)
    if process_state().is_main_process:
        for split in (dataset, *filter(None, [watcher.validation])):  # the last validation photo, too
            split.check_photos()
    torch.manual_seed(settings.seed)
    # What a resumed run started from may be gone: the checkpoint holds all that came of it.
    start = replace(settings, init=None, warm_start=None) if begun else settings
    model, fresh = _make_model(start, dataset.classes)
    sizes = {"min_size": model.transform.min_size[-1], "max_size": model.transform.max_size}
    card = replace(_config(settings, dataset.classes), **sizes).card()
    if process_state().is_main_process:
        if not begun:  # a resumed run keeps the story of its beginning
            _write_story(settings, command, dataset, card)
        more = [note for note in getattr(watcher.validation, "notes", ()) if note not in dataset.notes]
        more = [f"{settings.val_split}: {note}" for note in more]
        if start.warm_start and fresh:
            more.append(f"of {start.warm_start!r} all carries over; fresh are {describe_fresh(fresh)}")
        on_start(dataset.notes + _about_one_class(settings, dataset) + more)

    def finished(row: dict) -> None:
        watcher.on_epoch(row)
        on_epoch(row)

    return fit(
        model,
        dataset.with_transforms(train_transforms(jitter=settings.jitter, **sizes)),  # the first is for pictures
        settings,
        groups=shape_groups(dataset) if settings.shape_groups else None,
        about=card,
        after_epoch=None if watcher.shown is watcher.validation is None else watcher.after_epoch,
        on_step=watcher.on_step,
        on_epoch=finished,
    )


def _has_begun(s: TrainSettings, out: Path, dataset: CocoDataset) -> bool:
    """Whether `out` holds a run to go on with; `ValueError` if it holds another, or one that cannot be gone on with."""
    if (out / "checkpoint.pt").exists():
        check_resumable(s, out, len(dataset), dataset.classes, hash_data(dataset))
        return True
    if (out / "model.safetensors").exists() and not s.resume:  # a first epoch that was killed may leave one
        raise ValueError(f"{str(out)!r} already holds a run, but no checkpoint.pt to go on from: choose another --out")
    return False


def _check_steps(s: TrainSettings, dataset: CocoDataset) -> None:
    """Refuse what a step could not use: images, numbers of them, a precision that this machine has not."""
    check_precision(s.precision)
    StepSampler(len(dataset), s.batch_size, process_state().num_processes * s.accumulate)
    if s.task == "classify" and len(dataset.classes) == 1:
        raise ValueError(f"one class, {dataset.classes[0]!r}, leaves --task classify nothing to tell apart")
    alone = s.task == "classify" or (s.theta > 0 and s.exit_target == "single")
    check_dataset(dataset, allow_empty=s.allow_empty and s.task == "detect", single=alone)


def _about_one_class(s: TrainSettings, dataset: CocoDataset) -> list[str]:
    """How exits decide where there is one class, and what they lack if all images show it; [] with several classes."""
    if len(dataset.classes) > 1:
        return []
    if s.theta and all(dataset.objects(image_id) for image_id in dataset.ids):
        return [f"{ONE_CLASS}; all images show it, so they learn little: add images without it, with --allow-empty"]
    return [ONE_CLASS]


def _write_story(s: TrainSettings, command: str, dataset: CocoDataset, card: dict) -> None:
    run = {"command": command, "images": len(dataset), "digest": hash_data(dataset)}
    story = {**run, "processes": process_state().num_processes, "settings": asdict(s), **card, **provenance()}
    try:
        Path(s.out).mkdir(parents=True, exist_ok=True)
        write_json(Path(s.out, "settings.json"), story)
    except OSError as error:
        raise OSError(f"--out must be a folder that can be written to, got {str(s.out)!r}: {error.strerror}") from error


def advice(settings: TrainSettings) -> str | None:
    """A sentence about frozen parts that nobody trained, or about statistics of few images; None if all is well."""
    if not (settings.init or settings.warm_start) and (settings.freeze or settings.norm == "frozen"):
        return "--freeze and --norm frozen keep random weights here: they are for pretrained ones, see --init"
    images = settings.batch_size // max(1, process_state().num_processes * settings.accumulate)
    if settings.norm != "batch" or images >= SMALL_BATCH:
        return None
    return (
        f"batch normalisation sees {images} image(s) at a time here, too few for good statistics: use --norm frozen "
        "with pretrained weights, --norm sync on several GPUs, or a larger --batch-size"
    )


def _config(s: TrainSettings, classes: list[str]) -> ModelConfig:
    """The model that the settings mean: every entry of a config that is a setting."""
    return ModelConfig(
        classes=classes, **{f.name: getattr(s, f.name) for f in fields(ModelConfig) if hasattr(s, f.name)}
    )


def _make_model(s: TrainSettings, classes: list[str]) -> tuple[nn.Module, list[str]]:
    """The model, and the names of the weights that a beginning left fresh."""
    of_trunk = trunk_weights_of(s.init, s.trunk)
    model = make_model(_config(s, classes), loss=s.loss(), allow_empty=s.allow_empty, trunk_weights=of_trunk)
    fresh = []
    if s.init and of_trunk is None:
        fresh = [f"backbone.{x}" for x in load_init(model.backbone, s.init, classifiers=s.keep_classifiers)]
    if s.warm_start:
        fresh = load_warm_start(model, s.warm_start, classes)
    if any(name.startswith("backbone.") for name in fresh):
        if s.only_early:
            what = f"{s.warm_start!r} is of other classes, so {describe_fresh(fresh)} would stay untrained"
            raise ValueError(f"only_early trains the early exits of a detector of the same classes: {what}")
        # With the seed of the pretraining, fresh classifiers would be those that it started from, and its
        # backbone knows them: they guess well untrained. So they are drawn again, from another stream.
        torch.manual_seed(s.seed + 1_000_000)
        reset_classifiers(model.backbone)
    freeze_stages(model.backbone, s.freeze)
    if s.only_early:
        freeze_all_but_early(model)
    model.transform._skip_resize = s.jitter > 0  # torchvision's switch: the augmentation has resized the image already
    return set_norms(model, s.norm).to(memory_format=torch.channels_last), fresh


def _watcher(s: TrainSettings, out: Path, dataset: CocoDataset) -> Watcher:
    validation = coco_split(s.data, s.val_split) if s.val_split else None
    if s.task != "detect" and (s.val_split or s.pictures):
        raise ValueError(f"--val-split and --pictures are for --task detect, got {s.task!r}")
    if validation and validation.classes != dataset.classes:
        raise ValueError(f"the split {s.val_split!r} has the classes {validation.classes}, not {dataset.classes}")
    shown = (validation or dataset) if s.pictures else None
    return Watcher(out, shown=shown, validation=validation, workers=s.workers, tensorboard=s.tensorboard)


def export(
    run: Path, name: Path, data: Path | None, split: str, *, about: dict | None = None, metrics: dict | None = None
) -> dict:
    """Write `name` (half precision) and its card `name.json`; metrics are those of the file as written on `data`.

    `about` is stored with the weights, too; `metrics` of the run before rounding may stand in for `data`.
    """
    file, card_file = export_paths(run, name)
    story = parse_card((run / "settings.json").read_text(), run / "settings.json")
    if "task" not in story:
        raise ValueError(f"{str(run / 'settings.json')!r} is not of `earlyexit train`: it has {sorted(story)}")
    config, more = read_config(run / "model.safetensors"), about or {}
    dataset = checked(coco_split(data, split), config.classes) if data else None
    model = load_model(run / "model.safetensors")
    save_weights(model, file, half=True, about={**config.card(), **more})
    card = {**story, **config.card(), **more, "parameters": count_parameters(model), "exported": provenance()}
    if metrics:
        card["metrics"] = metrics
    if dataset:
        model = load_model(file).to(pick_device("auto"))
        card["metrics"] = {"data": str(data), "split": split, **_metrics(model, dataset)}
    write_json(card_file, card)
    return card


def export_paths(run: Path, name: Path) -> tuple[Path, Path]:
    """The file of the weights and its card for `name`, with or without .safetensors.

    Raises:
        ValueError: if there is nothing to export, or they would take the place of something that is no export.
    """
    if not (run / "settings.json").exists() or not (run / "model.safetensors").exists():
        raise ValueError(f"{str(run)!r} holds no finished epoch of `earlyexit train`")
    stem = name.name.removesuffix(".safetensors")
    if not stem or stem.endswith(".json"):
        raise ValueError(f"--name must be a name or a .safetensors file, got {str(name)!r}")
    file, card = (name.with_name(stem + suffix) for suffix in (".safetensors", ".json"))
    if run.resolve() in file.resolve().parents:
        raise ValueError(f"--name must lie outside the run {str(run)!r}, whose files are its own, got {str(name)!r}")
    if file.is_dir() or card.is_dir() or (card.exists() and not file.exists()):
        raise ValueError(f"--name {name}: there is {str(file if file.is_dir() else card)!r}, which is no export")
    return file, card


def _metrics(model: EarlyExitRetinaNet | ExitClassifier, dataset: CocoDataset) -> dict:
    metrics = {}
    if isinstance(model, EarlyExitRetinaNet):
        records = collect_records(model, dataset, progress=True)
        by_exit = {k: evaluate_exits(records, records.all_at(k)) for k in EXITS}
        metrics = {"forced_exit": {k: {m: r[m] for m in ("mAP", "AP50", "gmacs")} for k, r in by_exit.items()}}
    if is_single_object(dataset):
        metrics["accuracy"] = exit_accuracy(model, dataset, progress=True)
    return {"images": len(dataset), **metrics}
