"""One epoch of training, for detector and classifier, on Accelerate: one process or many."""

import math
from collections.abc import Callable

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .freezing import train_mode
from .processes import gather, only_cpu

PRECISIONS = ("no", "bf16", "fp16")


def train_one_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    batches,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    clip: float | None = None,
    on_step: Callable[[dict], object] = lambda losses: None,
) -> dict[str, float]:
    """One pass over `batches` of (images, targets); gives the mean of every loss and of their sum, "loss".

    Losses are means over all processes and, where the accelerator accumulates gradients, over the batches of a step.

    Args:
        accelerator: prepared `model`, `batches` and `optimizer`; decides after which batches a step is taken.
        model: gives a dict of losses.
        batches: as a loader gives them.
        optimizer, scheduler: the scheduler is stepped with the optimiser.
        clip: largest gradient norm; None or 0: not clipped.
        on_step: called after each step with its losses.

    Raises:
        FloatingPointError: at a loss that is not finite, with the step, the image ids and the learning rate; in all
            processes at once.
    """
    train_mode(model)
    sums: dict[str, float] = {}
    parts: list[dict[str, float]] = []  # the accumulated batches of one step
    steps = 0
    for images, targets in batches:
        with accelerator.accumulate(model):
            losses = model(images, targets)
            losses["loss"] = total = sum(losses.values())
            parts.append(_over_processes(accelerator, losses))
            if not math.isfinite(parts[-1]["loss"]):
                ids = gather([int(t["image_id"]) if "image_id" in t else None for t in targets])
                rate, loss = scheduler.get_last_lr()[0], parts[-1]["loss"]
                raise FloatingPointError(f"loss is {loss} at step {steps}, images {ids}, learning rate {rate:g}")
            accelerator.backward(total)
            if clip and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            if not accelerator.optimizer_step_was_skipped:  # fp16 skips steps whose gradients overflow
                scheduler.step()
            means = {name: sum(p[name] for p in parts) / len(parts) for name in parts[0]}
            sums = {name: sums.get(name, 0.0) + value for name, value in means.items()}
            parts, steps = [], steps + 1
            on_step(means)
    return {name: value / steps for name, value in sums.items()}


def _over_processes(accelerator: Accelerator, losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """The mean of each loss over the processes, with one transfer from the device."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    return dict(zip(losses, accelerator.reduce(values, "mean").tolist(), strict=True))


def check_precision(precision: str) -> None:
    """`ValueError` unless this machine can train with `precision`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision 'fp16' needs a GPU; on a CPU use 'no' or 'bf16'")


def make_accelerator(precision: str, accumulate: int) -> Accelerator:
    """The processes, devices and the precision of a training."""
    check_precision(precision)
    AcceleratorState._reset_state()  # a second training in one process may have another precision
    # The baseline's classifiers get no gradient, which several processes have to be told.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=only_cpu(), mixed_precision=precision, gradient_accumulation_steps=accumulate, kwargs_handlers=[unused]
    )
