"""What a policy reaches, from records: no image is run again. And whether it is more than noise."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.backbone import EXITS, NUM_EXITS
from ..model.detector import EDGE, check_scales, rescale_scores
from ..model.exits import Rule, emptiness, told_apart
from .coco import METRICS, count_exits
from .matching import Matches, average_precision, check_chosen, map_of, marginal_precision, match_records
from .policies import (
    NUM_SETTINGS,
    calibrate_thresholds,
    exit_proportions,
    oracle_exits,
    random_exits,
    rule_exits,
    threshold_exits,
)
from .records import Detections, ExitRecords, at_exits, offsets_of, owners_of

Statistic = Callable[[np.ndarray], float | None]


def evaluate_records(
    records: ExitRecords,
    thresholds: Sequence[float] | None,
    *,
    rule: Rule | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict:
    """What `model(images, thresholds=thresholds, rule=rule)` reaches on the recorded images; see `evaluate_exits`."""
    if rule is None:
        return evaluate_exits(records, threshold_exits(records.confidence, thresholds), metrics=metrics)
    exits = rule_exits(records, rule, thresholds)
    spent = float(records.spent(exits, rule, thresholds).mean())
    return {**evaluate_exits(records, exits, metrics=metrics), "gmacs": spent}


def evaluate_exits(records: ExitRecords, chosen: Tensor, *, metrics: Sequence[str] = METRICS) -> dict:
    """What is reached if image i leaves at exit chosen[i], (N,) 1 to 4, or 0 for images that are skipped.

    Args:
        metrics: those of COCO's six that are wanted; "mAP" alone is several times faster.

    Returns:
        As `earlyexit.evaluate`: COCO metrics in percent (None where there is no object of that size), "exits"
        {1: images, ...}, "gmacs" (mean per image), "gmacs_full" (if all went to exit 4) and "images". In addition
        "accuracy", the percentage of images whose class the exit that they took says; None unless every image has
        exactly one object.
    """
    chosen = check_chosen(chosen, len(records))
    right = correct_classes(records)
    right = None if right is None else torch.cat([torch.zeros_like(right[:1]), right]).gather(0, chosen[None])
    return {
        **average_precision(match_records(records), chosen, metrics=metrics),
        "exits": count_exits(chosen.tolist()),
        "gmacs": records.mean_gmacs(chosen),
        "gmacs_full": float(records.gmacs[-1].mean()),
        "accuracy": None if right is None else 100 * float(right.double().mean()),
        "images": len(records),
    }


def correct_classes(records: ExitRecords) -> Tensor | None:
    """(4, N) bool: whether each exit's classifier says the image's class; None unless all have exactly one object."""
    return None if (records.labels < 0).any() else told_apart(records.logits).argmax(2) == records.labels


def sweep(
    records: ExitRecords,
    calibration_records: ExitRecords | Tensor,
    settings: int | Iterable[int] = NUM_SETTINGS,
    *,
    metrics: Sequence[str] = METRICS,
) -> list[dict]:
    """The paper's threshold settings, calibrated on some images and evaluated on others (Tables 6 and 7, Fig. 7, 9).

    Args:
        records: the images that are evaluated.
        calibration_records: other images of the same model, whose confidences give the thresholds; or these
            confidences, (4, images), from `evaluation.exit_confidences`, which costs less.
        settings: threshold indices from 1 to 34; a number means all from 1 to it.

    Returns:
        Rows of `evaluate_exits` with "index", "thresholds", and the shares of images at exits 1-4: "wanted" and
        "realised".
    """
    confidence = calibration_records
    if isinstance(calibration_records, ExitRecords):
        ours, theirs = records.about.get("weights"), calibration_records.about.get("weights")
        if ours != theirs:
            raise ValueError(f"thresholds must come from the same weights: calibrated on {theirs!r}, used on {ours!r}")
        confidence = calibration_records.confidence
    indices = [*range(1, settings + 1)] if isinstance(settings, int) else [*settings]
    if not indices or not set(indices) <= set(range(1, NUM_SETTINGS + 1)):
        raise ValueError(f"settings are threshold indices from 1 to {NUM_SETTINGS}, at least one, got {settings!r}")
    rows = []
    for index in indices:
        wanted = exit_proportions()[index - 1]
        thresholds = calibrate_thresholds(confidence, wanted)
        result = evaluate_records(records, thresholds, metrics=metrics)
        realised = [count / len(records) for count in result["exits"].values()]
        shares = {"wanted": wanted.tolist(), "realised": realised}
        rows.append({"index": index, "thresholds": thresholds, **shares, **result})
    return rows


def random_exit(
    records: ExitRecords,
    proportions: Sequence[float],
    repeats: int = 10,
    seed: int = 0,
    *,
    metrics: Sequence[str] = ("mAP",),
) -> dict:
    """Random exits with given shares, repeated: what a confidence has to beat (paper, section 4.4.1).

    Args:
        proportions: chances of exits 1-4; the realised shares of a policy are the fair comparison with it.

    Returns:
        "mean" and "std" (of a single draw, None for one repeat): dicts of the metrics, "gmacs" and "accuracy" over
        the draws; "draws": the rows of `evaluate_exits`.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    generator = torch.Generator().manual_seed(seed)
    choices = [random_exits(len(records), proportions, generator) for _ in range(repeats)]
    draws = [evaluate_exits(records, chosen, metrics=metrics) for chosen in choices]
    mean, std = {}, {}
    for name in (*metrics, "gmacs", "accuracy"):
        values = [draw[name] for draw in draws]
        mean[name] = None if None in values else float(np.mean(values))
        std[name] = None if None in values or repeats == 1 else float(np.std(values, ddof=1))
    return {"mean": mean, "std": std, "draws": draws}


def oracle(
    records: ExitRecords, budgets: Sequence[float] | int = 12, *, rounds: int = 4, metrics: Sequence[str] = METRICS
) -> list[dict]:
    """For each budget of compute, the exits that a policy with known annotations would choose, and what they reach.

    What an image is worth at an exit is its share in mAP, to first order: how much the mAP of a choice of exits
    changes if the image's detections at that exit are added to those of all images, see `marginal_precision`. The
    images then leave where worth minus a price for compute is largest, see `oracle_exits`. The choice starts at full
    depth; worth and choice are repeated `rounds` times, because worth depends on what the other images do, and the
    choice with the largest mAP is kept.

    It is an upper bound in practice, not a proven one: mAP does not add up over images, so that a better choice than
    these may exist.

    Args:
        budgets: the largest mean GMACs of an image, one for each row; a number asks for that many, evenly spaced from
            the cheapest exits to full depth.

    Returns:
        Rows of `evaluate_exits` with their "budget" and the exits "chosen", (N,).
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if isinstance(budgets, int):
        if budgets < 1:
            raise ValueError(f"budgets must be at least 1 row, or the budgets themselves, got {budgets}")
        least, most = float(records.gmacs.amin(0).mean()), float(records.gmacs[-1].mean())
        budgets = np.linspace(least, most, budgets).tolist()
    matches = match_records(records)
    rows = []
    for budget in budgets:
        chosen = _best_exits(records, matches, budget, rounds)
        rows.append({"budget": budget, "chosen": chosen, **evaluate_exits(records, chosen, metrics=metrics)})
    return rows


def _best_exits(records: ExitRecords, matches: Matches, budget: float, rounds: int) -> Tensor:
    chosen, best, best_map = records.all_at(NUM_EXITS), None, -1.0
    for _ in range(rounds):
        chosen = oracle_exits(marginal_precision(matches, chosen), records.gmacs, budget)
        reached = map_of(matches, chosen)
        if reached > best_map:
            best, best_map = chosen, reached
    return best


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
    costs = at_exits(records.gmacs, chosen)
    rows = []
    for probability in probabilities:
        skipped = nothing >= probability
        reached = evaluate_exits(without_detections(records, skipped), chosen, metrics=("mAP",))
        rightly = int((objects[skipped] == 0).sum())
        row = {
            "empty": probability,
            "skipped": float(skipped.double().mean()),
            "rightly": rightly / int(skipped.sum()) if skipped.any() else None,
            "found": rightly / max(int((objects == 0).sum()), 1),
            "missed": float(objects[skipped].sum() / objects.sum().clamp(min=1)),
            "mAP": reached["mAP"],
            "gmacs": float(torch.where(skipped, gmacs, costs).mean()),
        }
        rows.append(row)
    return rows


def without_detections(records: ExitRecords, images: Tensor) -> ExitRecords:
    """The records with no detections on some images, a boolean mask (N,)."""
    found, gone = records.found, images.repeat_interleave(NUM_EXITS)
    kept = ~gone[owners_of(found.offsets)]
    offsets = offsets_of(torch.where(gone, 0, found.offsets.diff()))
    return replace(records, found=Detections(found.boxes[kept], found.scores[kept], found.labels[kept], offsets))


@dataclass(frozen=True)
class Interval:
    """A value and where it lies in most bootstrap samples; a difference is more than noise if 0 lies outside."""

    value: float  #: of the images as they are
    low: float  #: percentile of the samples, 2.5 for a level of 0.95
    high: float  #: the same, 97.5
    samples: np.ndarray = field(repr=False)  #: (repeats,) all values, for other percentiles


def bootstrap(statistic: Statistic, images: int, *, repeats: int = 200, seed: int = 0, level: float = 0.95) -> Interval:
    """Draw as many images as there are, with replacement, again and again: how far would other images move a result?

    Args:
        statistic: of how often each image counts, (N,) whole numbers that sum to N; for the mAP of a choice of exits
            `lambda counts: average_precision(matches, chosen, counts, metrics=("mAP",))["mAP"]`.
        images: N.
        seed: the same seed draws the same images for every statistic, so that samples can be subtracted.
        level: share of the samples between `low` and `high`.

    Returns:
        The interval; NaN where a sample has no value, because it misses all objects of a size, is left out.
    """
    if images < 1 or repeats < 1:
        raise ValueError(f"at least one image and one repeat are needed, got images={images}, repeats={repeats}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    draw = np.random.default_rng(seed)
    drawn = (np.bincount(draw.integers(0, images, images), minlength=images) for _ in range(repeats))
    samples = np.array([statistic(counts) for counts in drawn], dtype=float)  # None becomes NaN
    value = np.array(statistic(np.ones(images, dtype=np.int64)), dtype=float)
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), samples)


def bootstrap_difference(first: Statistic, second: Statistic, images: int, **options) -> Interval:
    """`first` minus `second`, statistics of two policies or models, on the same drawn images; see `bootstrap`.

    That cancels what makes an image easier or harder for both.
    """

    def gap(counts: np.ndarray) -> float:
        return float(np.subtract(*np.array([first(counts), second(counts)], dtype=float)))

    return bootstrap(gap, images, **options)


def fit_score_scales(records: ExitRecords) -> list[tuple[float, float]]:
    """The gain and shift of each exit that make its scores probabilities of being right, on calibration images.

    "Right" is the share of COCO's ten IoU thresholds at which a detection found an object. The records hold scores as
    the heads gave them; exits without detections keep (1, 0).
    """
    matches = match_records(records)
    scales = []
    for exit in EXITS:
        here = matches.exits == exit
        right = torch.from_numpy(matches.true[0][:, here].mean(0))
        scores = torch.from_numpy(matches.scores[here])
        scales.append(_fit(scores.clamp(EDGE, 1 - EDGE).logit(), right) if len(right) else (1.0, 0.0))
    return scales


def rescale_records(records: ExitRecords, scales: Sequence[tuple[float, float]]) -> ExitRecords:
    """The records that a model with these `score_scales` gives."""
    exits = owners_of(records.found.offsets) % NUM_EXITS
    gain, shift = torch.tensor(check_scales(scales))[exits].unbind(1)
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
