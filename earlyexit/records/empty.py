"""No object, no work: images that exit 1 takes for empty skip neck and head, and what that costs."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from ..confidence import emptiness
from .evaluate import evaluate_exits
from .record import Detections, ExitRecords, offsets_of


def skip_empty(records: ExitRecords, chosen: Tensor, probabilities: Sequence[float], gmacs: float) -> list[dict]:
    """What is reached if images leave without detections that exit 1 takes for empty.

    Args:
        records: of a detector whose exits say which classes are present.
        chosen: (N,) exits 1-4 of the images that are not taken for empty.
        probabilities: from which on an image is taken for empty; a row for each.
        gmacs: of an image that is: the backbone up to exit 1.

    Returns:
        Rows of "empty" (the probability), "skipped" (share of the images), "rightly" (share of those that have no
        object, None if there are none), "found" (share of the images without objects that are skipped), "missed" (share
        of all objects that are on skipped images), "mAP" and "gmacs" (mean of all images).
    """
    objects = records.truth.offsets.diff()
    nothing = emptiness(records.logits[0])
    costs = records.gmacs.gather(0, chosen[None] - 1)[0]
    rows = []
    for probability in probabilities:
        skipped = nothing >= probability
        reached = evaluate_exits(without_detections(records, skipped), chosen, metrics=("mAP",))
        rightly = int((objects[skipped] == 0).sum())
        row = {"empty": probability, "skipped": float(skipped.double().mean())}
        row["rightly"] = rightly / int(skipped.sum()) if skipped.any() else None
        row["found"] = rightly / max(int((objects == 0).sum()), 1)
        row["missed"] = float(objects[skipped].sum() / objects.sum().clamp(min=1))
        row["mAP"] = reached["mAP"]
        rows.append({**row, "gmacs": float(torch.where(skipped, gmacs, costs).mean())})
    return rows


def without_detections(records: ExitRecords, images: Tensor) -> ExitRecords:
    """The records with no detections on some images, a boolean mask (N,)."""
    counts = records.found.offsets.diff()
    gone = images.repeat_interleave(NUM_EXITS)
    kept = ~gone.repeat_interleave(counts)
    columns = {name: getattr(records.found, name)[kept] for name in ("boxes", "scores", "labels")}
    return replace(records, found=Detections(**columns, offsets=offsets_of(torch.where(gone, 0, counts))))
