"""Who leaves where: how sure an exit is, thresholds, and the images of a batch that leave one after the other."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence

import torch
from torch import Tensor

from .backbone import NUM_EXITS, Exit

EMPTY_EXIT = 0  # where an image leaves that exit 1 takes for empty: before any neck or head


def exit_confidence(logits: Tensor, exit_target: str = "single") -> Tensor:
    """(..., classes) logits give (...) confidences in [0, 1].

    With one class per image it is the largest softmax value, as in the paper. If the exits say which classes are
    present, it is the probability that all of the classes are told rightly, were they independent: with one class
    that is there and all others surely absent, the probability of that one, as before.

    Args:
        logits: of an exit's classifier.
        exit_target: what the exits were trained to say, see `EarlyExitRetinaNet`.
    """
    if exit_target != "present":
        return logits.float().softmax(-1).amax(-1)
    p = logits.float().sigmoid()
    return torch.maximum(p, 1 - p).prod(-1)


def emptiness(logits: Tensor) -> Tensor:
    """The probability that no class is present, of logits (..., classes) trained to say which classes are."""
    return (1 - logits.float().sigmoid()).prod(-1)


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


def check_thresholds(thresholds) -> tuple[float, float, float]:
    """`thresholds` as three floats; `ValueError` unless there are three and none is NaN or negative."""
    values = tuple(float(t) for t in thresholds) if isinstance(thresholds, Iterable) else (float(thresholds),)
    if len(values) != 3:
        raise ValueError(f"thresholds must be three, for exits 1-3 (exit 4 takes what is left), got {values}")
    if any(math.isnan(t) or t < 0 for t in values):
        raise ValueError(f"thresholds must be confidences of at least 0 (infinity for 'never'), got {values}")
    return values


def exit_limits(thresholds: Sequence[float] | None, exit: int | None) -> tuple[float, float, float, float]:
    """The confidence from which on an image leaves at each of the four exits; infinity is "never"."""
    if thresholds is not None and exit is not None:
        raise ValueError(f"give thresholds or one exit, not both: got thresholds={thresholds} and exit={exit}")
    if exit is not None:
        if exit not in (1, 2, 3, 4):
            raise ValueError(f"exit must be 1, 2, 3 or 4, got {exit!r}")
        return tuple(0.0 if k == exit else math.inf for k in (1, 2, 3, 4))
    early = (math.inf,) * 3 if thresholds is None else check_thresholds(thresholds)
    return (*early, 0.0)
