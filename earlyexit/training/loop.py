"""Training from the first epoch to the last: in which order images come, what a step is, and what a kill costs.

Batches follow from the seed and the epoch alone, on any number of processes. What each epoch leaves in the run's
folder, the log, the weights and what resuming needs, is whole at any time.
"""

import math
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from ..data.coco import SeededItems, epoch_seed, make_loader, without_traceback
from ..files import write_table, write_whole
from ..model.factories import check_card
from ..processes import gather, only_cpu
from ..weights import save_weights
from .settings import TrainSettings, check_settings

MILESTONES = (8 / 12, 11 / 12)  # shares of the training: MMDetection's 1x schedule


class StepSampler(Sampler[list[int]]):
    """The images of each optimiser step, in equal parts: one part is what one process sees in one forward pass.

    The images of a step are a function of the seed, the epoch and `batch_size`, not of `parts`: one process with a
    batch of 16, two with 8 and four that accumulate two batches of 2 take the same steps. Accelerate deals the parts
    out to the processes in turn.

    A last step that is not full is left out. If the data set is smaller than one step, the step is made of what
    there is; images are repeated where the parts need it.

    Args:
        length: images in the data set.
        batch_size: images of an optimiser step, over all processes and accumulated batches.
        parts: processes times accumulated batches; `batch_size` must be a multiple of it.
        groups: a number for each image; images of one step are of one group as far as possible. With the shape of
            the image as its group, less of a batch is padding.
    """

    def __init__(
        self, length: int, batch_size: int, parts: int = 1, seed: int = 0, groups: Sequence[int] | None = None
    ):
        if length < 1:
            raise ValueError(f"there is nothing to train on: {length} images")
        if batch_size < 1 or parts < 1 or batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of processes x accumulate, got batch_size {batch_size} for {parts}"
            )
        if groups is not None and len(groups) != length:
            raise ValueError(f"groups must hold one number for each of {length} images, got {len(groups)}")
        self.length, self.parts, self.seed, self.epoch, self.groups = length, parts, seed, 0, groups
        self.step = min(batch_size, math.ceil(length / parts) * parts)
        self.batch_size, self.drop_last = self.step // parts, False  # names that Accelerate reads

    def __len__(self) -> int:
        return max(1, self.length // self.step) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        order += [order[i % self.length] for i in range(self.step - self.length)]
        if self.groups is not None:
            order = self._by_group(order, generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]

    def _by_group(self, order: list[int], generator: torch.Generator) -> list[int]:
        """`order` with the steps of one group each, in random order; what is left of the groups comes last."""
        steps, left = [], []
        for group in sorted(set(self.groups)):
            mine = [i for i in order if self.groups[i] == group]
            full = len(mine) - len(mine) % self.step
            steps += [mine[start : start + self.step] for start in range(0, full, self.step)]
            left += mine[full:]
        shuffled = torch.randperm(len(steps), generator=generator).tolist()
        return [i for k in shuffled for i in steps[k]] + left


def check_dataset(dataset, *, allow_empty: bool = False, single: bool = True) -> None:
    """Look at all annotations of a `CocoDataset` before the first step, rather than stop in the middle of an epoch.

    `ValueError` names the first image that cannot be trained on: one without a box unless `allow_empty`, one with
    several if `single`, or one with a box most of which is outside.
    """
    if not dataset.classes:
        raise ValueError(f"there is nothing to learn in {dataset.root!r}: its annotations have no categories")
    for image_id in dataset.ids:
        image, boxes = dataset.coco.imgs[image_id], [found["bbox"] for found in dataset.objects(image_id)]
        name = f"image {image_id!r}, {image['file_name']!r},"
        if not boxes and not allow_empty:
            raise ValueError(f"{name} has no box; leave such images out, or use --allow-empty")
        if len(boxes) > 1 and single:
            many = f"{len(boxes)} objects, but the exits learn one class per image: filter to single-object"
            raise ValueError(f"{name} has {many} images (data_prep/), or use --exit-target largest")
        out = [box for box in boxes if not _mostly_inside(box, image["width"], image["height"])]
        if out:
            size = f"{image['width']} x {image['height']}"
            raise ValueError(f"{name} has the box {out[0]}, most of which is outside its {size} pixels")


def _mostly_inside(box: Sequence[float], width: int, height: int) -> bool:
    x, y, w, h = box
    seen = max(0, min(x + w, width) - max(x, 0)) * max(0, min(y + h, height) - max(y, 0))
    return seen >= 0.5 * w * h


def shape_groups(dataset) -> list[int]:
    """For each image of a `CocoDataset` 1 if it is wider than high, else 0: the groups of a `StepSampler`."""
    images = (dataset.coco.imgs[i] for i in dataset.ids)
    return [int(image["width"] > image["height"]) for image in images]


def fit(
    model: nn.Module,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    groups: Sequence[int] | None = None,
    about: dict | None = None,
    after_epoch: Callable[[nn.Module, int], dict] | None = None,
    on_step: Callable[[int, dict], object] = lambda step, losses: None,
    on_epoch: Callable[[dict], object] = lambda row: None,
) -> list[dict[str, float]]:
    """Train `model` on `dataset` and keep everything in the folder `settings.out`.

    After every `save_every` epochs, and the last, the folder holds `checkpoint.pt` (all that `resume` needs), `log.csv`
    (a row per epoch) and `model.safetensors`. A run that was killed and resumed ends with the weights of one that was
    not: bit for bit on the CPU with the same number of threads and processes. Started by `torchrun` or `accelerate
    launch` in several processes, it takes the steps of a single process: see `StepSampler`.

    Args:
        model: takes (images, targets) and gives a dict of losses in training mode; the caller seeds and freezes it.
        dataset: items are (image, target).
        settings: of the steps and of the run, from `out` and `epochs` to `resume`; what they say of data and model is
            the caller's. With `ema`, `model.safetensors` and `after_epoch` get the average.
        groups: see `StepSampler`.
        about: stored inside `model.safetensors`, see `save_weights`; a `ModelConfig.card()` of this very model lets
            `load_detector` open it.
        after_epoch: called in all processes with the model and the number of the epoch (from 1) once its steps are
            saved, so that a failure in it loses none; what it gives becomes part of the epoch's row.
        on_step: called in the main process with the number of the step (from 0) and its losses.
        on_epoch: called in the main process with the row of each epoch; if it is one to be saved, then once it is.

    Returns:
        The rows of the log: epoch, mean losses, learning rate, seconds, images_per_second, what `after_epoch` gave.

    Raises:
        ValueError: before anything is written, for settings that are none, a card of another model, and an `out` that
            holds a run unless `resume` goes on with it.
    """
    check_settings(settings)
    check_card(model, about or {}, getattr(dataset, "classes", None))
    if not settings.resume and Path(settings.out, "checkpoint.pt").exists():
        raise ValueError(f"{settings.out!r} already holds a run: set resume to go on with it, or choose another out")
    run = _Run(model, dataset, settings, groups, on_step)
    rows, pending = run.rows, run.pending
    for epoch in range(len(rows), settings.epochs):
        due = run.main and ((epoch + 1) % settings.save_every == 0 or epoch + 1 == settings.epochs)
        if pending is None:
            pending = run.steps_of(epoch)
            if due and after_epoch:
                run.save(about, pending)
        rows.append({**pending, **(after_epoch(run.result, epoch + 1) if after_epoch else {})})
        pending = None
        if due:
            run.save(about)
        if run.main:
            on_epoch(rows[-1])
        run.accelerator.wait_for_everyone()
    return rows


class _Run:
    """All of one training that has a state, as it begins or as `resume` finds it; see `fit`."""

    def __init__(self, model, dataset, settings: TrainSettings, groups: Sequence[int] | None, on_step: Callable):
        s, self.out = settings, Path(settings.out)
        self.settings, self.on_step = s, on_step
        self.accelerator = accelerator = make_accelerator(s.precision, s.accumulate)
        self.main = accelerator.is_main_process
        self.out.mkdir(parents=True, exist_ok=True)
        if self.main:
            remove_half_written(self.out)
        self.items = SeededItems(dataset, s.seed)
        self.sampler = StepSampler(len(dataset), s.batch_size, accelerator.num_processes * s.accumulate, s.seed, groups)
        optimizer = make_optimizer(model, s.optimizer, lr=s.lr, weight_decay=s.weight_decay)
        loader = make_loader(self.items, self.sampler, s.workers)
        self.model, self.optimizer, self.loader = accelerator.prepare(model, optimizer, loader)
        self.steps = len(self.sampler) // self.sampler.parts  # of an epoch
        of_all = s.epochs * self.steps
        self.scheduler = make_schedule(self.optimizer, of_all, schedule=s.schedule, warmup=s.warmup)
        plain, ema = accelerator.unwrap_model(self.model), get_ema_multi_avg_fn(s.ema) if s.ema else None
        self.average = AveragedModel(plain, multi_avg_fn=ema, use_buffers=True) if ema else None
        self.result = self.average.module if ema else plain
        # All that a checkpoint restores; None for what this run does without.
        self.parts = {"model": plain, "optimizer": self.optimizer, "scheduler": self.scheduler}
        self.parts |= {"scaler": accelerator.scaler, "average": self.average}
        # The row of an epoch whose steps are done is pending until what comes after an epoch is done, too.
        self.rows, self.pending = load_checkpoint(self.out / "checkpoint.pt", self.parts) if s.resume else ([], None)

    def save(self, about: dict | None, pending: dict | None = None) -> None:
        save_checkpoint(self.out, self.parts, self.rows, self.result, about, pending)

    def steps_of(self, epoch: int) -> dict[str, float]:
        """Take the steps of an epoch; its row of the log, but for what comes after them."""
        s = self.settings
        self.sampler.epoch = self.items.epoch = epoch
        torch.manual_seed(epoch_seed(s.seed, epoch))
        train_mode(self.model)
        start, steps = time.perf_counter(), []
        hide = None if s.progress and self.main else True
        name = f"epoch {epoch + 1}/{s.epochs}"
        parts: list[dict[str, float]] = []  # the accumulated batches of one step
        for images, targets in tqdm(without_traceback(self.loader), name, len(self.loader), leave=False, disable=hide):
            try:
                parts.append(self.batch(images, targets))
            except FloatingPointError as error:
                raise FloatingPointError(f"epoch {epoch + 1}, step {len(steps)}: {error}") from None
            if self.accelerator.sync_gradients:
                if self.average:
                    self.average.update_parameters(self.parts["model"])
                if self.main:
                    self.on_step(epoch * self.steps + len(steps), _means(parts))
                steps.append(_means(parts))
                parts = []
        seconds = time.perf_counter() - start
        row = {"epoch": epoch + 1, **_means(steps), "lr": self.scheduler.get_last_lr()[0], "seconds": seconds}
        return {**row, "images_per_second": self.steps * self.sampler.step / seconds}

    def batch(self, images: list[Tensor], targets: list[dict]) -> dict[str, float]:
        """The losses of a batch and their sum, "loss", all means over the processes; takes the step that is due.

        Raises:
            FloatingPointError: at a loss that is not finite, in all processes at once.
        """
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            losses = self.model(images, targets)
            losses["loss"] = total = sum(losses.values())
            values = torch.stack([value.detach().float() for value in losses.values()])
            found = dict(zip(losses, accelerator.reduce(values, "mean").tolist(), strict=True))
            if not math.isfinite(found["loss"]):
                ids = gather([int(t["image_id"]) if "image_id" in t else None for t in targets])
                rate = self.scheduler.get_last_lr()[0]
                raise FloatingPointError(f"loss is {found['loss']}, images {ids}, learning rate {rate:g}")
            accelerator.backward(total)
            if self.settings.clip and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:  # fp16 skips those that overflow
            self.scheduler.step()
        return found


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def save_checkpoint(
    out: Path, parts: dict, rows: Sequence[dict], model: nn.Module, about: dict | None, pending: dict | None = None
) -> None:
    """Write the log, the weights and, last, the checkpoint that makes the epoch count as done.

    Args:
        parts: what has a state to be restored, by name; None for what a run does not have.
        model, about: go into `model.safetensors`, see `save_weights`.
        pending: the row of an epoch whose steps are done, but not yet what comes after them: it is not in the log.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the checkpoint before is then untouched.
    """
    state = {name: part.state_dict() for name, part in parts.items() if part is not None}
    state |= {"rows": list(rows), "pending": pending}
    try:
        if rows:
            write_table(out / "log.csv", rows)
        save_weights(model, out / "model.safetensors", about=about)
        write_whole(out / "checkpoint.pt", lambda path: torch.save(state, path))
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
        epoch = len(rows) + (pending is not None)
        raise OSError(
            f"epoch {epoch} cannot be written to {str(out)!r} ({error}); what was there before is whole: make room "
            "and go on with --resume"
        ) from error


def load_checkpoint(path: Path, parts: dict) -> tuple[list[dict[str, float]], dict[str, float] | None]:
    """Restore `parts` from a checkpoint; gives its rows and the pending one, see `save_checkpoint`.

    No rows if there is no file.

    Raises:
        ValueError: if the file is not a whole checkpoint, or that of another run.
    """
    if not path.exists():
        return [], None
    if not zipfile.is_zipfile(path):  # which is what torch.save writes, with the list of its content at the end
        raise ValueError(f"{str(path)!r} is no checkpoint or only a part of one: remove it to start again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        if not isinstance(state["rows"], list):
            raise TypeError(f"its rows must be a list, got {state['rows']!r}")
        return state["rows"], state.get("pending")  # which older runs do not have
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0][:200]
        raise ValueError(f"{str(path)!r} is not a checkpoint of this run ({type(error).__name__}: {what})") from error


def remove_half_written(out: Path) -> None:
    """Remove what a run that was killed while it wrote has left in its folder."""
    for path in [*out.glob(".*.tmp"), *out.glob("*/.*.tmp")]:
        path.unlink(missing_ok=True)


def train_mode(model: nn.Module) -> None:
    """Put a model in training mode, except normalisations whose weights are frozen: they keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            module.eval()


def check_precision(precision: str) -> None:
    """`ValueError` unless this machine can train with `precision`."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision 'fp16' needs a GPU; on a CPU use 'no' or 'bf16'")


def make_accelerator(precision: str, accumulate: int) -> Accelerator:
    """The processes, devices and the precision of a training."""
    check_precision(precision)
    AcceleratorState._reset_state()  # a second training in one process may have another precision
    # The baseline's classifiers get no gradient, which several processes have to be told.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=only_cpu(),
        mixed_precision=precision,
        gradient_accumulation_steps=accumulate,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        kwargs_handlers=[unused],
    )


def make_optimizer(model: nn.Module, name: str = "adamw", *, lr: float = 1e-3, weight_decay: float = 0.05) -> Optimizer:
    """AdamW, or SGD with momentum 0.9; normalisation layers and biases, all with one dimension, are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # fused: one call for all parameters, where the default makes several for each.
    return AdamW(groups, lr=lr, fused=True) if name == "adamw" else SGD(groups, lr=lr, momentum=0.9, fused=True)


def make_schedule(optimizer: Optimizer, steps: int, *, schedule: str = "cosine", warmup: int = 100) -> LambdaLR:
    """Linear warm-up, then cosine to zero or, with "steps", a tenth at each of two milestones.

    The peak is the optimiser's learning rate, `steps` those of the whole training; the warm-up takes at most a tenth.
    """
    warmup = min(warmup, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        return 0.1 ** sum(step >= m * steps for m in MILESTONES)

    return LambdaLR(optimizer, factor)
