"""Training: one loop for detector and classifier, on Accelerate, that a kill cannot set back by more than an epoch."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from tqdm import tqdm

from .checkpoints import load_checkpoint, save_checkpoint
from .loading import EpochSampler, epoch_seed, make_loader
from .schedule import make_optimizer, make_schedule

PRECISIONS = ("no", "bf16", "fp16")


def train_one_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    batches,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    clip: float | None = None,
) -> dict[str, float]:
    """One pass over `batches` of (images, targets); gives the mean of every loss and of their sum, "loss".

    Raises:
        FloatingPointError: at a loss that is not finite, with the step, the image ids and the learning rate.
    """
    model.train()
    sums: dict[str, torch.Tensor] = {}
    for step, (images, targets) in enumerate(batches):
        losses = model(images, targets)
        losses["loss"] = total = sum(losses.values())
        if not math.isfinite(total.item()):
            ids = [int(t["image_id"]) if "image_id" in t else None for t in targets]
            rate = scheduler.get_last_lr()[0]
            raise FloatingPointError(f"loss is {total.item()} at step {step}, images {ids}, learning rate {rate:g}")
        accelerator.backward(total)
        if clip:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if not accelerator.optimizer_step_was_skipped:  # fp16 skips steps whose gradients overflow
            scheduler.step()
        optimizer.zero_grad()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0) + value.detach()
    return {name: float(value) / len(batches) for name, value in sums.items()}


def fit(
    model: nn.Module,
    dataset: Dataset,
    out: str | Path,
    *,
    epochs: int = 6,
    batch_size: int = 16,
    lr: float = 1e-3,
    optimizer: str = "adamw",
    weight_decay: float = 0.05,
    schedule: str = "cosine",
    warmup: int = 100,
    clip: float | None = 1.0,
    precision: str = "no",
    seed: int = 0,
    workers: int = 0,
    resume: bool = False,
    progress: bool = False,
    about: dict | None = None,
    on_epoch: Callable[[dict], object] = lambda row: None,
) -> list[dict[str, float]]:
    """Train `model` on `dataset` and keep everything in the folder `out`.

    After every epoch `out` holds `checkpoint.pt` (all that `resume` needs), `log.csv` (a row per epoch) and
    `model.safetensors`. A run that was killed and resumed ends with the weights of one that was not: bit for bit on
    the CPU with the same number of threads.

    Args:
        model: takes (images, targets) and gives a dict of losses in training mode.
        dataset: items are (image, target).
        out: the run's folder, made if missing.
        epochs, batch_size, lr, weight_decay: as everywhere; `batch_size` is per process.
        optimizer, schedule, warmup: see `make_optimizer` and `make_schedule`.
        clip: largest gradient norm; None or 0: not clipped.
        precision: "no" (float32), "bf16" or "fp16".
        seed: of the order and the augmentation; the caller seeds the model's own initialisation.
        workers: processes that load data; 0 loads in this one.
        resume: go on from `out/checkpoint.pt` if there is one.
        progress: show a bar, in a terminal.
        about: stored inside `model.safetensors`, see `save_weights`.
        on_epoch: called with the row of each epoch once it is saved.

    Returns:
        The rows of the log: epoch, mean losses, learning rate, seconds, images_per_second.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size must be at least 1, got {epochs} and {batch_size}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for half_written in out.glob(".*.tmp"):  # left by a run that was killed while it wrote
        half_written.unlink(missing_ok=True)
    # The baseline's classifiers get no gradient, which several processes have to be told.
    accelerator = Accelerator(
        mixed_precision=precision, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
    sampler = EpochSampler(len(dataset), seed)
    optimizer = make_optimizer(model, optimizer, lr=lr, weight_decay=weight_decay)
    loader = make_loader(dataset, batch_size, sampler, workers)
    if not len(loader):
        raise ValueError(f"there is nothing to train on: {len(dataset)} images in batches of {batch_size}")
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    scheduler = make_schedule(optimizer, epochs * len(loader), schedule=schedule, warmup=warmup)
    parts = {"model": accelerator.unwrap_model(model), "optimizer": optimizer, "scheduler": scheduler}
    if accelerator.scaler:
        parts["scaler"] = accelerator.scaler
    rows = load_checkpoint(out / "checkpoint.pt", parts) if resume else []
    for epoch in range(len(rows), epochs):
        sampler.epoch = epoch
        torch.manual_seed(epoch_seed(seed, epoch))
        start = time.perf_counter()
        batches = tqdm(loader, f"epoch {epoch + 1}/{epochs}", leave=False, disable=None if progress else True)
        losses = train_one_epoch(accelerator, model, batches, optimizer, scheduler, clip=clip)
        seconds = time.perf_counter() - start
        speed = len(loader) * batch_size * accelerator.num_processes / seconds
        row = {"epoch": epoch + 1, **losses, "lr": scheduler.get_last_lr()[0]}
        rows.append({**row, "seconds": seconds, "images_per_second": speed})
        if accelerator.is_main_process:
            save_checkpoint(out, parts, rows, about)
            on_epoch(rows[-1])
        accelerator.wait_for_everyone()
    return rows
