"""Optimisers and learning-rate schedules, by name."""

import math
from collections.abc import Sequence

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps")


def make_optimizer(model: nn.Module, name: str = "adamw", *, lr: float = 1e-3, weight_decay: float = 0.05) -> Optimizer:
    """AdamW, or SGD with momentum 0.9; normalisation layers and biases, all with one dimension, are not decayed."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {name!r}")
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # fused: one call for all parameters, where the default makes several for each.
    return AdamW(groups, lr=lr, fused=True) if name == "adamw" else SGD(groups, lr=lr, momentum=0.9, fused=True)


def make_schedule(
    optimizer: Optimizer,
    steps: int,
    *,
    schedule: str = "cosine",
    warmup: int = 100,
    milestones: Sequence[float] = (8 / 12, 11 / 12),
) -> LambdaLR:
    """Linear warm-up, then cosine to zero or a tenth at each milestone.

    Args:
        optimizer: its learning rate is the peak.
        steps: optimiser steps of the whole training.
        schedule: "cosine" or "steps".
        warmup: steps of the linear warm-up, at most a tenth of `steps`.
        milestones: for "steps", shares of the training; the default is MMDetection's 1x schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
    warmup = min(warmup, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        return 0.1 ** sum(step >= m * steps for m in milestones)

    return LambdaLR(optimizer, factor)
