"""Claims of the paper about whole curves: at every setting that lets images leave."""

from collections.abc import Callable, Sequence

import numpy as np

from ..thresholds import NUM_SETTINGS
from .claims import VERDICTS, row
from .estimates import Estimate, at_gmacs, estimate
from .models import Models, at_random, at_setting

INDICES = range(1, NUM_SETTINGS)


def along_the_sweep(models: Models) -> dict:
    """Figure 7, proposed against baseline at the same compute."""

    def gap(proposed: dict, baseline: dict, index: int) -> tuple[float, np.ndarray]:
        ours = at_setting(index)(proposed)
        theirs = at_gmacs(baseline["fillers"][baseline["filler"]]["sweep"], ours["gmacs"])
        return ours["mAP"] - theirs["mAP"], _floats(ours) - _floats(theirs)

    text = "At every amount of compute it reaches a higher mAP than the baseline."
    found = _over_settings([*zip(*models.pairs("proposed", "baseline"), strict=True)], gap)
    return _everywhere("along the sweep", text, "Figure 7, section 5.2", found)


def beats_random(models: Models) -> dict:
    """Figure 7, confidence against chance."""

    def gap(model: dict, _, index: int) -> tuple[float, np.ndarray]:
        ours, theirs = at_setting(index)(model), at_random(index)(model)
        return ours["mAP"] - theirs["mAP"], _floats(ours) - _floats(theirs)

    text = "Leaving by confidence reaches a higher mAP than leaving at random with the same shares."
    found = _over_settings([(model, model) for model in models.group("proposed")], gap)
    return _everywhere("random exits", text, "Figure 7, section 5.2", found)


def downsampling_published(models: Models) -> dict:
    """Figure 8 as published: the fillers of one model."""
    text = "For the same GMACs downsampling beats zero-filling: one model, evaluated with both, as published."
    return _fillers("fillers, published way", text, [(model, model) for model in models.group("proposed")])


def downsampling_fair(models: Models) -> dict:
    """Figure 8 with a model trained for each filler."""
    text = "For the same GMACs downsampling beats zero-filling: each model trained with its own in the loop."
    fair = models.fair()
    return _fillers("fillers, fair way", text, [(fair["downsample"], fair["zero"])])


def _fillers(name: str, text: str, pairs: Sequence[tuple[dict, dict]]) -> dict:
    def gap(first: dict, second: dict, index: int) -> tuple[float, np.ndarray]:
        down = at_setting(index, "downsample")(first)
        zero = at_gmacs(second["fillers"]["zero"]["sweep"], down["gmacs"])
        return down["mAP"] - zero["mAP"], _floats(down) - _floats(zero)

    return _everywhere(name, text, "Figure 8, section 5.3", _over_settings(pairs, gap))


def _over_settings(pairs: Sequence[tuple], gap: Callable) -> list[Estimate]:
    """The gap at each setting that lets images leave, and last their mean."""
    values = np.array([[gap(a, b, index)[0] for index in INDICES] for a, b in pairs])  # (seeds, settings)
    samples = np.array([[gap(a, b, index)[1] for index in INDICES] for a, b in pairs])  # (seeds, settings, repeats)
    each = [estimate(values[:, i], samples[:, i]) for i in range(len(INDICES))]
    return [*each, estimate(values.mean(1), samples.mean(1))]


def _everywhere(name: str, text: str, where: str, found: list[Estimate]) -> dict:
    """A row of a claim about all settings: yes if the mean and no single setting speak against it."""
    each, mean = found[:-1], found[-1]
    above, below = sum(e.sign() > 0 for e in each), sum(e.sign() < 0 for e in each)
    detail = f"mean over the settings; of {len(each)} it is higher beyond noise at {above}, lower at {below}"
    holds = "no" if below else VERDICTS[mean.sign()]
    return row(name, text, where, "higher at every setting", mean, holds=holds, detail=detail)


def _floats(found: dict) -> np.ndarray:
    return np.array(found["samples"], dtype=float)
