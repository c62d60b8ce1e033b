"""Where the time of an image goes, by exit."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..batching import same_size_batches
from ..detector import EarlyExitRetinaNet


@torch.inference_mode()
def profile_exits(
    model: EarlyExitRetinaNet, images: Sequence[Tensor], *, exits: Sequence[int] = (1, 2, 4), repeats: int = 20
) -> list[dict]:
    """Median milliseconds of a batch at each exit, by part.

    Args:
        model: in eval mode.
        images: of one size, on the model's device.
        exits: at which all images leave.
        repeats: of each part, after a first one that is not counted.

    Returns:
        Rows of "exit", "resize", "backbone", "neck and head" and "post-processing".
    """
    sizes = [tuple(image.shape[-2:]) for image in images]
    (_, batch) = next(same_size_batches(model.transform, images))
    group = range(len(images))
    rows = []
    for exit in exits:
        reached = _run_to(model, batch.tensors, exit)
        whole = _median(lambda r=reached: model.detect_from(r, batch, group, sizes), repeats)
        head = _median(lambda r=reached: model.predict(r), repeats)
        resize = _median(lambda: next(same_size_batches(model.transform, images)), repeats)
        backbone = _median(lambda k=exit: _run_to(model, batch.tensors, k), repeats)
        row = {"exit": exit, "resize": resize, "backbone": backbone, "neck and head": head}
        rows.append({**row, "post-processing": max(whole - head, 0.0)})
    return rows


def _run_to(model: EarlyExitRetinaNet, images: Tensor, exit: int):
    return next(reached for reached in model.backbone.exits(images) if reached.index == exit)


def _median(run: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[1:]))
