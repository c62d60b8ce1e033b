"""Measured time of leaving early against full depth: the whole detector, from images to boxes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..study.estimates import estimate

ROUNDS = 5
Detect = Callable[[list[Tensor]], object]


def time_ratio(
    early: Detect, full: Detect, images: Sequence[Tensor], batch_size: int, *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Time with thresholds divided by time at full depth, the two taking turns batch by batch on the same images.

    Args:
        early, full: detectors to call with a list of images.
        images: where they are needed; what is left over by whole batches is not used.
        batch_size: images in a call.
        rounds: passes over the images; the ratio of each is one value, and what differs is noise of the machine.

    Returns:
        "mean", "low" and "high" of the ratio over rounds, and "ms" and "ms_full", medians of an image.
    """
    batches = [list(images[i : i + batch_size]) for i in range(0, len(images) - batch_size + 1, batch_size)]
    if not batches or rounds < 1:
        raise ValueError(
            f"at least one batch of {batch_size} images and one round are needed, got {len(images)} images"
        )
    for _ in range(2):
        early(batches[0])
        full(batches[0])
    taken = np.array([[[_seconds(run, batch) for run in (early, full)] for batch in batches] for _ in range(rounds)])
    sums = taken.sum(1)
    ratios = (sums[:, 0] / sums[:, 1]).tolist()
    found = estimate(ratios, [[value] for value in ratios]).rounded(4)
    ms, ms_full = 1000 * np.median(sums, axis=0) / (len(batches) * batch_size)
    return {**found, "ms": round(float(ms), 3), "ms_full": round(float(ms_full), 3)}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread while it lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _seconds(run: Detect, batch: list[Tensor]) -> float:
    _wait(batch[0].device)
    started = time.perf_counter()
    run(batch)
    _wait(batch[0].device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    """A GPU runs behind: let it finish, so that the clock sees all of its work and nothing else."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
