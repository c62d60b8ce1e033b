"""Training from the first epoch to the last, so that a kill cannot set it back by more than an epoch."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from tqdm import tqdm

from .checkpoints import load_checkpoint, remove_half_written, save_checkpoint
from .engine import make_accelerator, train_one_epoch
from .loading import SeededItems, StepSampler, epoch_seed, make_loader, without_traceback
from .schedule import make_optimizer, make_schedule


def _nothing(*_) -> dict:
    return {}


def fit(
    model: nn.Module,
    dataset: Dataset,
    out: str | Path,
    *,
    epochs: int = 6,
    batch_size: int = 16,
    accumulate: int = 1,
    groups: Sequence[int] | None = None,
    lr: float = 1e-3,
    optimizer: str = "adamw",
    weight_decay: float = 0.05,
    schedule: str = "cosine",
    warmup: int = 100,
    clip: float | None = 1.0,
    ema: float = 0.0,
    precision: str = "no",
    seed: int = 0,
    workers: int = 0,
    save_every: int = 1,
    resume: bool = False,
    progress: bool = False,
    about: dict | None = None,
    after_epoch: Callable[[nn.Module, int], dict] = _nothing,
    on_step: Callable[[int, dict], object] = _nothing,
    on_epoch: Callable[[dict], object] = _nothing,
) -> list[dict[str, float]]:
    """Train `model` on `dataset` and keep everything in the folder `out`.

    After every `save_every` epochs, and the last, `out` holds `checkpoint.pt` (all that `resume` needs), `log.csv` (a
    row per epoch) and `model.safetensors`. A run that was killed and resumed ends with the weights of one that was
    not: bit for bit on the CPU with the same number of threads and processes.

    Started by `torchrun` or `accelerate launch` in several processes, it takes the steps of a single process: see
    `StepSampler`.

    Args:
        model: takes (images, targets) and gives a dict of losses in training mode.
        dataset: items are (image, target).
        out: the run's folder, made if missing.
        epochs, lr, weight_decay: as everywhere.
        batch_size: images of one optimiser step, over all processes.
        accumulate: forward passes that make up a step in each process, where the images of a step need too much memory.
        groups: see `StepSampler`.
        optimizer, schedule, warmup: see `make_optimizer` and `make_schedule`.
        clip: largest gradient norm; None or 0: not clipped.
        ema: share of the old value in the moving average of the weights, such as 0.999; 0: no average. With it,
            `model.safetensors` and `after_epoch` get the average.
        precision: "no" (float32), "bf16" or "fp16".
        seed: of the order and the augmentation; the caller seeds the model's own initialisation.
        workers: processes that load data; 0 loads in this one.
        save_every: epochs between two checkpoints, for epochs that take less time than writing one.
        resume: go on from `out/checkpoint.pt` if there is one.
        progress: show a bar, in a terminal.
        about: stored inside `model.safetensors`, see `save_weights`.
        after_epoch: called in all processes with the model and the number of the epoch (from 1), before the epoch is
            saved; what it gives becomes part of the epoch's row.
        on_step: called in the main process with the number of the step (from 0) and its losses.
        on_epoch: called in the main process with the row of each epoch; if it is one to be saved, then once it is.

    Returns:
        The rows of the log: epoch, mean losses, learning rate, what `after_epoch` gave, seconds, images_per_second.
    """
    if min(epochs, accumulate, save_every) < 1 or not 0 <= ema < 1:
        got = f"{epochs}, {accumulate}, {save_every}, {ema}"
        raise ValueError(f"epochs, accumulate and save_every must be at least 1 and ema in [0, 1), got {got}")
    if warmup < 0 or not (clip is None or clip >= 0):
        raise ValueError(f"warmup and clip must be at least 0, got {warmup}, {clip}")
    accelerator = make_accelerator(precision, accumulate)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        remove_half_written(out)
    items = SeededItems(dataset, seed)
    sampler = StepSampler(len(dataset), batch_size, accelerator.num_processes * accumulate, seed, groups)
    optimizer = make_optimizer(model, optimizer, lr=lr, weight_decay=weight_decay)
    loader = make_loader(items, sampler, workers)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = len(sampler) // sampler.parts
    scheduler = make_schedule(optimizer, epochs * steps, schedule=schedule, warmup=warmup)
    parts = _parts(accelerator, model, optimizer, scheduler, ema)
    result = parts["average"].module if ema else parts["model"]
    rows = load_checkpoint(out / "checkpoint.pt", parts) if resume else []
    step = itertools.count(len(rows) * steps)

    def stepped(losses: dict) -> None:
        if ema:
            parts["average"].update_parameters(parts["model"])
        if accelerator.is_main_process:
            on_step(next(step), losses)

    for epoch in range(len(rows), epochs):
        sampler.epoch = items.epoch = epoch
        torch.manual_seed(epoch_seed(seed, epoch))
        start = time.perf_counter()
        hide = None if progress and accelerator.is_main_process else True
        batches = tqdm(without_traceback(loader), f"epoch {epoch + 1}/{epochs}", len(loader), leave=False, disable=hide)
        try:
            losses = train_one_epoch(accelerator, model, batches, optimizer, scheduler, clip=clip, on_step=stepped)
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch + 1}: {error}") from None
        seconds = time.perf_counter() - start
        row = {"epoch": epoch + 1, **losses, "lr": scheduler.get_last_lr()[0], **after_epoch(result, epoch + 1)}
        rows.append({**row, "seconds": seconds, "images_per_second": steps * sampler.step / seconds})
        if accelerator.is_main_process:
            if len(rows) % save_every == 0 or len(rows) == epochs:
                save_checkpoint(out, parts, rows, about, weights=result)
            on_epoch(rows[-1])
        accelerator.wait_for_everyone()
    return rows


def _parts(accelerator: Accelerator, model, optimizer, scheduler, ema: float) -> dict:
    """All of a run that has a state, by name; None for what this run does without."""
    plain = accelerator.unwrap_model(model)
    average = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
    run = {"model": plain, "optimizer": optimizer, "scheduler": scheduler}
    return {**run, "scaler": accelerator.scaler, "average": average}
