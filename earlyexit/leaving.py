"""The images of a batch leave one after the other, each where its exit is sure enough."""

import math
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from .backbone import NUM_EXITS, Exit
from .confidence import emptiness, exit_confidence

EMPTY_EXIT = 0  # where an image leaves that exit 1 takes for empty: before any neck or head


def leave_early(
    stream: Generator[Exit, Tensor | None, None],
    count: int,
    limits: Sequence[float],
    detect: Callable[[Exit, list[int]], list[dict]],
    *,
    exit_target: str = "single",
    empty: float | None = None,
) -> list[dict]:
    """Run a batch through its exits; what nobody waits for is not computed.

    Args:
        stream: `DynPerceiver.exits` of the batch, or anything like it: it yields exits and is sent the images to keep.
        count: images in the batch.
        limits: confidences from which on an image leaves at exits 1-4, see `exit_limits`.
        detect: neck, head and post-processing of the images that leave at an exit, by their positions in the batch.
        exit_target: what the exits say, see `exit_confidence`.
        empty: probability from which on an image without objects, says exit 1, gets no detections at all.

    Returns:
        For each image what `detect` gave, "exit" and "confidence".
    """
    results: list[dict] = [{}] * count
    waiting = list(range(count))  # positions in the batch of the images that still run
    reached = next(stream)
    while True:
        limit, looks = limits[reached.index - 1], empty is not None and reached.index == 1
        if math.isinf(limit) and limit > 0 and not looks:  # nobody can leave here: no need to look
            reached = next(stream)
            continue
        confidence, nothing = _judge(reached, exit_target, empty if looks else None)
        last = reached.index == NUM_EXITS
        go = [i for i, c in enumerate(confidence) if not nothing[i] and (c >= limit or last)]
        stay = [i for i, c in enumerate(confidence) if not nothing[i] and not (c >= limit or last)]
        for i in (i for i in range(len(waiting)) if nothing[i]):
            results[waiting[i]] = {**_no_detections(reached.logits), "exit": EMPTY_EXIT, "confidence": confidence[i]}
        if go:
            some = len(go) < len(waiting)
            leaving = reached.take(torch.tensor(go, device=reached.logits.device)) if some else reached
            for i, found in zip(go, detect(leaving, [waiting[i] for i in go]), strict=True):
                results[waiting[i]] = {**found, "exit": reached.index, "confidence": confidence[i]}
        if not stay:
            return results
        all_stay = len(stay) == len(waiting)
        waiting = [waiting[i] for i in stay]
        keep = torch.tensor(stay, device=reached.logits.device)
        reached = next(stream) if all_stay else stream.send(keep)


def _judge(reached: Exit, exit_target: str, empty: float | None) -> tuple[list[float], list[bool]]:
    """Of each image its confidence and whether it is taken for empty: the one transfer of an exit from the device."""
    confidence = exit_confidence(reached.logits, exit_target)
    if empty is None:
        return confidence.tolist(), [False] * len(confidence)
    sure, none = torch.stack([confidence, emptiness(reached.logits)]).tolist()
    return sure, [p >= empty for p in none]


def _no_detections(like: Tensor) -> dict[str, Tensor]:
    labels = torch.empty(0, dtype=torch.int64, device=like.device)
    return {"boxes": like.new_empty((0, 4)).float(), "scores": like.new_empty(0).float(), "labels": labels}
