"""Measured time of leaving early against full depth: the whole detector, from images to boxes."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..detector import EarlyExitRetinaNet
from ..study.estimates import estimate

ROUNDS = 5


@torch.inference_mode()
def time_ratio(
    model: EarlyExitRetinaNet,
    images: Sequence[Tensor],
    thresholds: Sequence[float],
    batch_size: int,
    *,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Time with thresholds divided by time at full depth, the two taking turns batch by batch on the same images.

    Args:
        model: in eval mode, on the device that is timed.
        images: a multiple of `batch_size`, so many that the exits taken are those of the split.
        thresholds: of exits 1-3.
        batch_size: images in a call.
        rounds: passes over the images; the ratio of each is one value, and what differs is noise of the machine.

    Returns:
        "mean", "low" and "high" of the ratio over rounds, and "ms" and "ms_full", medians of an image.
    """
    images = [image.to(next(model.parameters()).device) for image in images]
    batches = [images[i : i + batch_size] for i in range(0, len(images) - batch_size + 1, batch_size)]
    for options in [{"thresholds": thresholds}, {}] * 2:
        model(batches[0], **options)
    ratios, early, full = [], [], []
    for _ in range(rounds):
        taken = np.array([[_seconds(model, b, thresholds=thresholds), _seconds(model, b)] for b in batches])
        ratios.append(float(taken[:, 0].sum() / taken[:, 1].sum()))
        early.append(taken[:, 0].mean() / batch_size)
        full.append(taken[:, 1].mean() / batch_size)
    found = estimate(ratios, [[value] for value in ratios]).rounded(4)
    return {**found, "ms": round(1000 * float(np.median(early)), 3), "ms_full": round(1000 * float(np.median(full)), 3)}


def _seconds(model: EarlyExitRetinaNet, batch: list[Tensor], **options) -> float:
    _wait(batch[0].device)
    started = time.perf_counter()
    model(batch, **options)
    _wait(batch[0].device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
