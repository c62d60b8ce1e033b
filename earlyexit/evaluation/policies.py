"""Who leaves where: thresholds from wanted shares, rules, chance, and the best that hindsight could do."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..model.backbone import EXITS, NUM_EXITS, Exit
from ..model.exits import EMPTY_EXIT, Rule, asked_at, check_scores, exit_limits, judge
from .records import ExitRecords, at_exits

NUM_SETTINGS = 34
ROUGH = 0.1  # of the images: how far the share that leaves early may be from what is meant before it is said


def exit_proportions() -> Tensor:
    """Wanted shares of images at exits 1-4 for the paper's 34 threshold settings, float64 (34, 4), rows sum to 1.

    Row t - 1 is threshold index t. Index 1 lets most images leave at exit 1, index 34 lets nobody leave early;
    17 and 18 are the same, as in the published code.
    """
    rows = []
    for t in range(1, NUM_SETTINGS):
        ratio = (t + 3) / 20 if t <= 17 else 20 / (38 - t)
        share = torch.tensor([ratio**k for k in EXITS], dtype=torch.float64)
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
    is at least the threshold. Infinity means that nobody leaves. Confidences, (4, N), are every image's largest softmax
    values at exits 1-4; proportions, (4,), one row of `exit_proportions`.
    """
    confidences = torch.as_tensor(confidences).detach().cpu()
    if confidences.ndim != 2 or len(confidences) != 4 or not confidences.numel():
        raise ValueError(f"confidences must be (4, N) of at least one image, got {tuple(confidences.shape)}")
    if not torch.isfinite(confidences).all():
        raise ValueError("confidences must be finite, got NaN or infinity")
    remaining = torch.ones(confidences.shape[1], dtype=torch.bool)
    thresholds = []
    for confidence, share in zip(confidences[:3], _shares(proportions)[:3], strict=True):
        # The tiny allowance keeps 0.7 * 10 = 6.999... from losing an image to rounding.
        count = min(math.floor(confidences.shape[1] * float(share) + 1e-9), int(remaining.sum()))
        thresholds.append(limit_for(confidence[remaining], count))
        remaining &= confidence < thresholds[-1]
    return tuple(thresholds)


def _shares(proportions: Tensor | Sequence[float]) -> Tensor:
    shares = torch.as_tensor(proportions, dtype=torch.float64).cpu()
    if shares.shape != (NUM_EXITS,) or not (shares >= 0).all() or abs(float(shares.sum()) - 1) > 1e-6:
        raise ValueError(f"proportions must be 4 shares that sum to 1, got {shares.tolist()}")
    return shares


def limit_for(waiting: Tensor, count: int) -> float:
    """The score from which on `count` of the waiting images leave, (n,) scores; infinity for none."""
    return float(waiting.sort(descending=True).values[count - 1]) if count else math.inf


def threshold_exits(confidence: Tensor, thresholds: Sequence[float] | None) -> Tensor:
    """The first exit whose confidence reaches its threshold, as `model(images, thresholds=...)` decides.

    `confidence` is (4, N), the thresholds are those of exits 1-3; None lets nobody leave early.
    """
    limits = torch.tensor(exit_limits(thresholds, None), dtype=torch.float64)
    goes = confidence.double() >= limits[:, None]  # in double: a limit rounded to float32 would be another limit
    return goes.to(torch.int8).argmax(0) + 1


def random_exits(images: int, proportions: Sequence[float], generator: torch.Generator) -> Tensor:
    """An exit for each image by chance, independent of the image and of the others (paper, section 4.4.1).

    `proportions` are the chances of exits 1-4, which sum to 1; the generator, on the CPU, decides.
    """
    return torch.multinomial(_shares(proportions), images, replacement=True, generator=generator) + 1


def oracle_exits(utility: Tensor, gmacs: Tensor, budget: float) -> Tensor:
    """The exits with the largest mean utility that a mean compute allows, for a utility that is known per image.

    One price per GMAC decides for all: image i leaves where utility[k, i] - price * gmacs[k, i] is largest, at equal
    values as early as possible. No other choice with the same mean compute has a larger mean utility. The price is
    the lowest that keeps the mean compute within the budget; where many images change their exit at the same price,
    some of the budget stays unused.

    Args:
        utility: (4, N), what an image is worth if it leaves at an exit.
        gmacs: (4, N), what that costs.
        budget: the largest mean GMACs; `ValueError` if the cheapest exits cost more.
    """
    least = float(gmacs.amin(0).mean())
    if not budget >= least - 1e-12:
        raise ValueError(f"the cheapest exits take {least:.6f} GMACs an image, the budget is {budget}")

    def choose(price: float) -> Tensor:
        return (utility - price * gmacs).argmax(0) + 1

    def fits(price: float) -> bool:
        return float(at_exits(gmacs, choose(price)).mean()) <= budget + 1e-12

    if fits(0.0):
        return choose(0.0)
    low, high = 0.0, 1.0
    while not fits(high):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return choose(high)


def rule_scores(records: ExitRecords, rule: Rule) -> Tensor:
    """(4, N) scores of each image at each exit, as `model(images, rule=rule)` has them.

    `ValueError` beyond [0, 1], and for a rule that lets images leave without detections: see `rule_exits`.
    """
    return scores_at([records.exit(k, found=bool(getattr(rule, "needs", ()))) for k in EXITS], rule)


def scores_at(exits: Sequence[Exit], rule: Rule) -> Tensor:
    """The same of images at the four exits, which are on the CPU."""
    scores, skipped = _judged(exits, rule)
    if skipped.any():
        raise ValueError(f"{type(rule).__name__} skips images, whatever their score: rule_exits says where all leave")
    return scores


def rule_exits(records: ExitRecords, rule: Rule, thresholds: Sequence[float] | None) -> Tensor:
    """(N,) the exits at which images leave in `model(images, rule=rule, thresholds=...)`; 0 for those it skips."""
    found = bool(getattr(rule, "needs", ()))
    scores, skipped = _judged([records.exit(k, found=found) for k in EXITS], rule)
    exits = threshold_exits(scores, thresholds)
    asked = torch.tensor(asked_at(rule, exit_limits(thresholds, None)))
    gone = skipped & asked[:, None] & (torch.tensor(EXITS)[:, None] <= exits)
    return exits.where(~gone.any(0), EMPTY_EXIT)


def _judged(exits: Sequence[Exit], rule: Rule) -> tuple[Tensor, Tensor]:
    """(4, N) scores and whether images are skipped."""
    rule = copy.deepcopy(rule).cpu() if isinstance(rule, nn.Module) else rule  # that of a model may be elsewhere
    scores, skipped = map(torch.stack, zip(*[judge(rule, reached) for reached in exits], strict=True))
    check_scores([float(scores.min()), float(scores.max())], rule)
    return scores, skipped.bool()


def early_share(scores: Tensor, proportions: Tensor, *, rounds: int = 200, seed: int = 0) -> tuple[float, float]:
    """A 90 % interval of the share of new images that leave before exit 4 with thresholds from these images.

    By the bootstrap: thresholds of as many images drawn with replacement are used on all of these. Scores and
    proportions are those of `calibrate_thresholds`.
    """
    generator, shares = torch.Generator().manual_seed(seed), []
    for _ in range(rounds):
        drawn = torch.randint(scores.shape[1], (scores.shape[1],), generator=generator)
        exits = threshold_exits(scores, calibrate_thresholds(scores[:, drawn], proportions))
        shares.append((exits < NUM_EXITS).double().mean())
    return tuple(torch.stack(shares).quantile(torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist())


def few_images(scores: Tensor, proportions: Tensor) -> list[str]:
    """A sentence on what the thresholds of so few images are worth; [] if they are good to a tenth of the images."""
    low, high = early_share(scores, proportions)
    meant = 1 - float(proportions[NUM_EXITS - 1])
    if max(high - meant, meant - low) <= ROUGH:
        return []
    worth = f"of new ones {low:.0%} to {high:.0%} will leave early, where {meant:.0%} are meant (bootstrap, 90 %)"
    return [f"thresholds from {scores.shape[1]} image(s) are rough: {worth}"]
