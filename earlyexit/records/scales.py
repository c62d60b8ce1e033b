"""Scores of different exits made comparable: the same score should mean the same chance of being right.

mAP ranks the detections of all images together. If the head of one exit says 0.8 where that of another says 0.6, the
images that left there push their false alarms ahead, and a mixture of exits loses although no exit does.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbone import NUM_EXITS
from ..postprocess import EDGE, check_scales, rescale_scores
from .matching import match_records
from .record import ExitRecords


def fit_score_scales(records: ExitRecords) -> list[tuple[float, float]]:
    """The gain and shift of each exit that make its scores probabilities of being right, on calibration images.

    "Right" is the share of COCO's ten IoU thresholds at which a detection found an object. Exits without detections
    keep (1, 0).

    Args:
        records: with scores as the heads gave them.
    """
    matches = match_records(records)
    scales = []
    for exit in range(1, NUM_EXITS + 1):
        here = matches.exits == exit
        right = torch.from_numpy(matches.true[0][:, here].mean(0))
        scores = torch.from_numpy(matches.scores[here])
        scales.append(_fit(scores.clamp(EDGE, 1 - EDGE).logit(), right) if len(right) else (1.0, 0.0))
    return scales


def rescale_records(records: ExitRecords, scales: Sequence[tuple[float, float]]) -> ExitRecords:
    """The records that a model with these `score_scales` gives."""
    scales = check_scales(scales)
    counts = records.found.offsets.diff()
    exit = torch.repeat_interleave(torch.arange(len(counts)), counts) % NUM_EXITS
    gain, shift = torch.tensor(scales)[exit].unbind(1)
    return replace(records, found=replace(records.found, scores=rescale_scores(records.found.scores, gain, shift)))


def _fit(logits: Tensor, right: Tensor) -> tuple[float, float]:
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(weights[0] * logits + weights[1], right)
        value.backward()
        return value

    optimizer.step(loss)
    gain, shift = weights.tolist()
    return max(round(gain, 6), EDGE), round(shift, 6)  # a negative gain would turn the order of the detections round
