"""Thresholds judged by images that had no part in choosing them."""

from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from .choices import Choices, best_under, exits_of
from .matching import Matches
from .record import ExitRecords


def cross_fitted(records: ExitRecords, matches: Matches, choices: Choices, share: float) -> Tensor:
    """Exits (N,) of images that had no part in the choice: each half leaves by the best thresholds of the other.

    The thresholds to choose from are the same for both halves; which of them are best is not.

    Args:
        share: of the GMACs of full depth, the budget of each half.
    """
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(records), dtype=torch.bool)
    first[order[: len(records) // 2]] = True
    crossed = torch.full((len(records),), NUM_EXITS)
    for half in (first, ~first):
        if not half.any():  # of a single image, one half is empty
            continue
        gmacs = torch.stack([records.gmacs.gather(0, e[None] - 1)[0, half].mean() for e in choices.exits])
        budget = max(share * float(records.gmacs[-1, half].mean()), float(gmacs.min()))
        mine = best_under(records, of_images(matches, half.numpy()), replace(choices, gmacs=gmacs), budget)
        crossed[~half] = exits_of(choices, mine)[~half]
    return crossed


def of_images(matches: Matches, which: np.ndarray) -> Matches:
    """The matches of some images, (N,) True for those; the others have neither detections nor objects."""
    inside = which[matches.images]
    per_detection = {f.name: getattr(matches, f.name)[..., inside] for f in fields(matches) if f.name != "objects"}
    return Matches(**per_detection, objects=matches.objects * which)
