"""Measured time beside counted GMACs: what leaving early saves on this machine."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from ..compute import count_macs
from ..detector import EarlyExitRetinaNet
from ..evaluation import network_size

EXITS = range(1, NUM_EXITS + 1)


def measure_latency(
    model: EarlyExitRetinaNet,
    images: Sequence[Tensor],
    *,
    batch_sizes: Sequence[int] = (1, 16),
    repeats: int = 50,
    warmup: int = 3,
) -> list[dict]:
    """Time of the whole detector, from images to boxes, if all images leave at one exit.

    The exits take turns, so that a machine that slows down slows all of them. Each turn takes the next images.

    Args:
        model: the detector, put in eval mode; it runs on its own device with the threads that torch has now.
        images: (3, H, W) floats in [0, 1], RGB, of one size, e.g. from the test split: how many boxes
            post-processing has to sort depends on them.
        batch_sizes: images in a call.
        repeats: timed turns.
        warmup: turns that are not counted.

    Returns:
        A row for each batch size and exit: "batch_size", "exit", "median_ms" and "p95_ms" (per image: the time of a
        call divided by its images), "gmacs" (of one image), "height", "width" (inside the network), "repeats",
        "threads", "device".
    """
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) != 1:
        raise ValueError(f"images must be at least one, all of one size, got sizes {sorted(sizes)[:5]}")
    if repeats < 1 or warmup < 0 or min(batch_sizes, default=0) < 1:
        raise ValueError(f"cannot time batches of {batch_sizes}, {repeats} repeats and {warmup} to warm up")
    model.eval()
    height, width = network_size(model, images[0])
    macs = count_macs(model, (height, width))
    device = next(model.parameters()).device
    same = {"height": height, "width": width, "repeats": repeats}
    same |= {"threads": torch.get_num_threads(), "device": str(device)}
    rows = []
    for batch_size in batch_sizes:
        seconds = _take_turns(model, [image.to(device) for image in images], batch_size, repeats, warmup)
        for exit, values in zip(EXITS, 1000 * seconds / batch_size, strict=True):
            times = {"median_ms": float(np.median(values)), "p95_ms": float(np.quantile(values, 0.95))}
            rows.append({"batch_size": batch_size, "exit": exit, **times, "gmacs": macs[exit]["total"], **same})
    return rows


def _take_turns(model: EarlyExitRetinaNet, images: list[Tensor], batch_size: int, repeats: int, warmup: int):
    """(4, repeats) seconds of a call at each exit."""
    seconds = np.empty((NUM_EXITS, warmup + repeats))
    with torch.inference_mode():
        for turn in range(warmup + repeats):
            batch = [images[(turn * batch_size + i) % len(images)] for i in range(batch_size)]
            for exit in EXITS:
                _wait(images[0].device)
                start = time.perf_counter()
                model(batch, exit=exit)
                _wait(images[0].device)
                seconds[exit - 1, turn] = time.perf_counter() - start
    return seconds[:, warmup:]


def _wait(device: torch.device) -> None:
    """A GPU runs behind: let it finish, so that the clock sees all of its work and nothing else."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
