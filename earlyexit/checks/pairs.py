"""What an early exit has and what it lacks: C3, and the P4 that full depth would have made of it."""

import functools

import torch
from torch import Tensor

from ..data.scenes import make_scene
from ..model.factories import load_detector


def level_pairs(split: str, indices: range | list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """C3 of some scenes with their P4, by the trained detector "scenes".

    Args:
        split: "train", "calibration" or "test" of the scenes.
        indices: numbers of the scenes.

    Returns:
        C3 (N, 64, 16, 16), which exists at exit 1; P4 (N, 64, 8, 8) of full depth; and P4 as the filler "downsample"
        makes it at exit 1.
    """
    model = _detector()
    images = [torch.from_numpy(make_scene(split, i).image.copy()).permute(2, 0, 1) / 255 for i in indices]
    with torch.inference_mode():
        batch = model.transform(images)[0].tensors
        reached = list(model.backbone.exits(batch))
        early = {"c3": reached[0].features["c3"]}
        # Clones are ordinary tensors again, which a reader may train on.
        found = [reached[0].features["c3"], model.neck(reached[-1].features)["p4"], model.neck(early)["p4"]]
    return tuple(x.clone() for x in found)


@functools.cache
def _detector():
    return load_detector("scenes")[0].eval()
