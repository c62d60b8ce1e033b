"""From wanted shares of images per exit to confidence thresholds (paper, section 4.1.3 and Figure 9)."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

NUM_SETTINGS = 34


def exit_proportions() -> Tensor:
    """Wanted shares of images at exits 1-4 for the paper's 34 threshold settings, float64 (34, 4), rows sum to 1.

    Row t - 1 is threshold index t. Index 1 lets most images leave at exit 1, index 34 lets nobody leave early;
    17 and 18 are the same, as in the published code.
    """
    rows = []
    for t in range(1, NUM_SETTINGS):
        ratio = (t + 3) / 20 if t <= 17 else 20 / (38 - t)
        share = torch.tensor([ratio**k for k in range(1, 5)], dtype=torch.float64)
        share /= share.sum()
        # The published code then thins out the early exits, one after the other.
        for k, factor in enumerate((0.85, 1.0, 0.5)):
            share[k] *= factor
            share[k + 1 :] *= (1 - share[: k + 1].sum()) / share[k + 1 :].sum()
        rows.append(share)
    rows.append(torch.tensor([0, 0, 0, 1], dtype=torch.float64))
    return torch.stack(rows)


def calibrate_thresholds(confidences: Tensor, proportions: Tensor) -> tuple[float, float, float]:
    """Thresholds of exits 1-3 with which the wanted share of a calibration split leaves at each exit.

    Exit by exit, the images that have not left yet are taken in order of falling confidence until
    floor(N * share) have left; the last one's confidence is the threshold. An image leaves when its confidence
    is at least the threshold. Infinity means that nobody leaves.

    Args:
        confidences: (4, N), every image's confidence (largest softmax value) at exits 1-4.
        proportions: (4,), one row of `exit_proportions`.
    """
    confidences = torch.as_tensor(confidences).detach().cpu()
    proportions = torch.as_tensor(proportions, dtype=torch.float64).cpu()
    if confidences.ndim != 2 or len(confidences) != 4 or not confidences.numel():
        raise ValueError(f"confidences must be (4, N) of at least one image, got {tuple(confidences.shape)}")
    if not torch.isfinite(confidences).all():
        raise ValueError("confidences must be finite, got NaN or infinity")
    if proportions.shape != (4,) or (proportions < 0).any() or not math.isclose(proportions.sum(), 1, abs_tol=1e-6):
        raise ValueError(f"proportions must be 4 shares that sum to 1, got {proportions.tolist()}")
    remaining = torch.ones(confidences.shape[1], dtype=torch.bool)
    thresholds = []
    for confidence, share in zip(confidences[:3], proportions[:3], strict=True):
        # The tiny allowance keeps 0.7 * 10 = 6.999... from losing an image to rounding.
        count = min(math.floor(confidences.shape[1] * float(share) + 1e-9), int(remaining.sum()))
        waiting = confidence[remaining].sort(descending=True).values
        thresholds.append(float(waiting[count - 1]) if count else math.inf)
        remaining &= confidence < thresholds[-1]
    return tuple(thresholds)


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
