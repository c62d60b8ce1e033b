"""What is fitted to recorded images: a rule of leaving, and the best thresholds or the price that a budget allows.

Both are judged by images that had no part in choosing them.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..data.coco import CocoDataset
from ..model.backbone import EXITS, NUM_EXITS, Exit
from ..model.detector import EarlyExitRetinaNet, check_scales
from ..model.exits import Router, Rule, Worth, make_rule, rule_features, worth_features
from .coco import exit_logits
from .collect import collect_records
from .matching import Matches, map_of, marginal_precision, match_records
from .policies import limit_for, rule_scores, scores_at, threshold_exits
from .records import ExitRecords, at_exits
from .scores import bootstrap_difference, fit_score_scales, rescale_records

EARLY_SHARES = np.linspace(0, 1, 21)  # of the images that are still there, at exits 1 and 2
LAST_SHARES = np.linspace(0, 1, 6)  # at exit 3, which saves little
TRIED = 12  # choices whose mAP is measured; all others are compared by a first-order estimate
WHERE_IT_PAYS = (0.5, 0.5, 0.5)  # the thresholds of a `Worth`, whose price decides
STRENGTHS = torch.logspace(-2, 3, 26, dtype=torch.float64)  # of the ridge, in multiples of the number of images
NO_BUDGET = "the rule 'worth' goes by a budget, a share of full depth such as 0.6, got none"
MOST_BUDGET = 10  # beyond it nobody means a share: lean detectors are given shares of the paper's full depth
CLIPPED = (0.02, 0.98)  # quantiles: a few images gain or lose very much, by luck


@dataclass(frozen=True)
class Budget:
    """Thresholds, and what they reached where they were chosen."""

    thresholds: tuple[float, float, float]  #: of exits 1-3, infinity for never
    gmacs: float  #: mean GMACs of an image
    share: float  #: the same as a share of full depth
    #: in percent
    mAP: float  # noqa: N815, the field's word
    loss: float  #: points of mAP below full depth
    #: the same with the confidence that was asked for, on very many other images with thresholds chosen like these;
    #: each half of the images leaves by the choice of the other half, and the bootstrap draws those
    loss_at_most: float


def thresholds_for_budget(
    records: ExitRecords,
    *,
    gmacs: float | None = None,
    min_map: float | None = None,
    scores: Tensor | None = None,
    rule: Rule | None = None,
    confidence: float = 0.95,
    repeats: int = 100,
) -> Budget:
    """The thresholds with the highest mAP under a mean compute, or with the least compute that reaches a mAP.

    Choose them on one split (calibration) and use them on another: on the images that they were chosen by, they look
    better than they are. That is why the bound on the loss comes from halves that chose for one another.

    Args:
        gmacs: the largest mean GMACs of an image; or
        min_map: the least mAP in percent.
        scores: (4, N), who may leave, see `rule_scores`; the largest softmax values unless given.
        rule: gives the scores, whatever `scores` are; what it looks at before an image leaves counts as compute.
        confidence, repeats: of the bound on the loss of mAP, and bootstrap samples for it.

    Raises:
        ValueError: unless exactly one of `gmacs` and `min_map` is given, and if it cannot be reached.
    """
    limits = [limit for limit in (gmacs, min_map) if limit is not None]
    if len(limits) != 1 or math.isnan(limits[0]):
        raise ValueError(f"give either gmacs or min_map, a number, got gmacs={gmacs}, min_map={min_map}")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie between 0.5 and 1, got {confidence}")
    if rule is not None:
        scores = rule_scores(records, rule)
    scores = records.confidence if scores is None else scores
    if scores.shape != (NUM_EXITS, len(records)):
        raise ValueError(f"scores must be (4, {len(records)}), one for each exit and image, got {tuple(scores.shape)}")
    choices, matches = all_choices(records, scores, rule), match_records(records)
    full = records.all_at(NUM_EXITS)
    most = records.mean_gmacs(full)
    best = best_under(matches, choices, gmacs) if min_map is None else cheapest_above(matches, choices, min_map, most)
    chosen = choices.exits[best]
    mean = float(choices.gmacs[best])
    value = map_of(matches, chosen)
    loss = map_of(matches, full) - value
    crossed = cross_fitted(records, matches, choices, mean / most)
    bound = bootstrap_difference(
        lambda counts: map_of(matches, full, counts),
        lambda counts: map_of(matches, crossed, counts),
        len(records),
        repeats=repeats,
        level=2 * confidence - 1,  # one-sided
    )
    # What was lost where the thresholds look best is the least that can be expected elsewhere.
    return Budget(choices.thresholds[best], mean, mean / most, value, loss, max(bound.high, loss))


@dataclass(frozen=True)
class Choices:
    """Thresholds of exits 1-3, the exits at which they let the images leave, (choices, N), and their mean GMACs."""

    thresholds: list[tuple[float, float, float]]
    exits: Tensor  # (choices, N)
    gmacs: Tensor  # (choices,)
    rule: Rule | None = None  # whose looks are among the GMACs

    def spent(self, records: ExitRecords, number: int) -> Tensor:
        """(N,) GMACs of the images with one of the choices."""
        return records.spent(self.exits[number], self.rule, self.thresholds[number])


def all_choices(records: ExitRecords, scores: Tensor, rule: Rule | None = None) -> Choices:
    """All thresholds by which given shares of the images that are still there leave, for scores (4, N) of a rule."""
    thresholds = []
    for shares in itertools.product(EARLY_SHARES, EARLY_SHARES, LAST_SHARES):
        here, limits = torch.ones(len(records), dtype=torch.bool), []
        for score, share in zip(scores, shares, strict=False):
            waiting = score[here]
            limits.append(limit_for(waiting, round(share * len(waiting))))
            here = here & ~(score.double() >= limits[-1])
        thresholds.append(tuple(limits))
    thresholds = list(dict.fromkeys(thresholds))
    exits = torch.stack([threshold_exits(scores, t) for t in thresholds])
    choices = Choices(thresholds, exits, torch.empty(len(exits), dtype=torch.float64), rule)
    for number in range(len(exits)):
        choices.gmacs[number] = choices.spent(records, number).mean()
    return choices


def best_under(matches: Matches, choices: Choices, budget: float) -> int:
    """Which choice has the highest mAP among those whose mean GMACs keep a budget."""
    allowed = torch.nonzero(choices.gmacs <= budget + 1e-9).flatten()
    if not len(allowed):
        raise ValueError(
            f"{budget:.4f} GMACs cannot be reached: the cheapest thresholds take {choices.gmacs.min():.4f}"
        )
    base = torch.full_like(choices.exits[0], NUM_EXITS)
    best, best_map = 0, -math.inf
    for _ in range(2):  # what detections are worth depends on what the others do: look again from the best so far
        worth = marginal_precision(matches, base)
        estimate = torch.stack([at_exits(worth, choices.exits[i]).sum() for i in allowed])
        for i in allowed[estimate.argsort(descending=True)[:TRIED]].tolist():
            value = map_of(matches, choices.exits[i])
            if value > best_map:
                best, best_map = i, value
        base = choices.exits[best]
    return best


def cheapest_above(matches: Matches, choices: Choices, min_map: float, most: float) -> int:
    """Which choice has the least mean GMACs, at most those of full depth, among those that reach a mAP in percent."""
    low, high = float(choices.gmacs.min()), most
    best = best_under(matches, choices, high)
    reached = map_of(matches, choices.exits[best])
    if reached < min_map:
        raise ValueError(f"no thresholds reach a mAP of {min_map}: the best reach {reached:.2f}")
    for _ in range(10):
        middle = (low + high) / 2
        found = best_under(matches, choices, middle)
        if map_of(matches, choices.exits[found]) >= min_map:
            best, high = found, middle
        else:
            low = middle
    return best


def cross_fitted(records: ExitRecords, matches: Matches, choices: Choices, share: float) -> Tensor:
    """Exits (N,) of images that had no part in the choice: each half leaves by the best thresholds of the other.

    The thresholds to choose from are the same for both halves; which of them are best is not. The budget of each half
    is the `share` of its GMACs at full depth.
    """
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))
    first = torch.zeros(len(records), dtype=torch.bool)
    first[order[: len(records) // 2]] = True
    crossed = records.all_at(NUM_EXITS)
    for half in (first, ~first):
        if not half.any():  # of a single image, one half is empty
            continue
        gmacs = torch.stack([choices.spent(records, number)[half].mean() for number in range(len(choices.exits))])
        budget = max(share * float(records.gmacs[-1, half].mean()), float(gmacs.min()))
        mine = best_under(of_images(matches, half.numpy()), replace(choices, gmacs=gmacs), budget)
        crossed[~half] = choices.exits[mine, ~half]
    return crossed


def of_images(matches: Matches, which: np.ndarray) -> Matches:
    """The matches of some images, (N,) True for those; the others have neither detections nor objects."""
    inside = which[matches.images]
    per_detection = {f.name: getattr(matches, f.name)[..., inside] for f in fields(matches) if f.name != "objects"}
    return Matches(**per_detection, objects=matches.objects * which)


def fit_worth(records: ExitRecords, *, budget: float, looks: bool = False) -> tuple[Worth, tuple[float, float, float]]:
    """Fit to recorded images what each later exit adds, and set the price by a budget; it takes seconds.

    What an image is worth at an exit is what its detections there add to the mAP, to first order
    (`marginal_precision`, around full depth), as a fraction of 1 if all images were like this one. Make the scores of
    the exits comparable first (`fit_score_scales`).

    Args:
        records: of images that the detector was not trained on, the calibration split.
        budget: the largest mean compute of an image, as a share of that of full depth.
        looks: see `Worth`.

    Returns:
        The rule and its thresholds, 0.5 at each exit.

    Raises:
        ValueError: if the budget is none, or less than the cheapest exits take.
    """
    check_budget(budget)
    rule = Worth(looks)
    worth = len(records) * marginal_precision(match_records(records), records.all_at(NUM_EXITS))
    for k in EXITS[:-1]:
        aims = (worth[k:] - worth[k - 1]).T
        aims = aims.clamp(*torch.quantile(aims, torch.tensor(CLIPPED, dtype=aims.dtype), dim=0))
        weight, bias = ridge(worth_features(records.exit(k, found=looks), looks), aims)
        setattr(rule, f"weight_{k}", weight.float())
        setattr(rule, f"bias_{k}", bias.float())
    rule.costs = _costs(records, looks)
    set_price(rule, records, budget)
    return rule.eval(), WHERE_IT_PAYS


def ridge(features: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    """Linear regression, (N, F) features and (N, m) aims to a weight (F, m) and a bias (m,), in float64.

    Each feature is scaled to a spread of 1 first. Of each aim the squares of the weights are held back as strongly as
    predicts the images best that were left out, one by one, which needs no second fit.
    """
    x, y = features.double(), aims.double()
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    u, s, vt = torch.linalg.svd((x - mean) / std, full_matrices=False)
    inside, centred = u.T @ (y - y.mean(0)), y - y.mean(0)
    best, least = torch.zeros(len(vt.T), y.shape[1], dtype=x.dtype), torch.full((y.shape[1],), torch.inf).double()
    for strength in STRENGTHS * len(x):
        shrunk = s**2 / (s**2 + strength)
        leverage = (u**2 @ shrunk + 1 / len(x)).clamp(max=1 - 1e-6)
        error = (((centred - u @ (shrunk[:, None] * inside)) / (1 - leverage)[:, None]) ** 2).mean(0)
        weight = vt.T @ ((s / (s**2 + strength))[:, None] * inside)
        best, least = torch.where(error < least, weight, best), torch.minimum(error, least)
    weight = best / std[:, None]
    return weight, y.mean(0) - mean @ weight


def _costs(records: ExitRecords, looks: bool) -> Tensor:
    """(4, 4) what going on from one exit to another takes, as a share of full depth."""
    gmacs = records.gmacs.mean(1)
    costs = gmacs[None] - gmacs[:, None]
    if looks:  # necks and heads of the exits that are passed
        passed = torch.cat([gmacs.new_zeros(1), records.looks.mean(1).cumsum(0)[:-1]])
        costs = costs + passed[None] - passed[:, None]
    return (costs / gmacs[-1]).triu().float()


def set_price(rule: Worth, records: ExitRecords, budget: float) -> None:
    """Set the lowest price of a rule with which the mean compute of the images keeps a budget, a share of full depth.

    `ValueError` if no price does.
    """
    full = float(records.gmacs[-1].mean())
    gains = [rule.gains(records.exit(k, found=rule.looks)) for k in EXITS[:-1]]

    def share(price: float) -> float:
        rule.price = torch.tensor(price, dtype=torch.float32)
        scores = [rule.scores(gain, k) for k, gain in zip(EXITS, gains, strict=False)]
        exits = threshold_exits(torch.stack([*scores, torch.ones_like(scores[0])]), WHERE_IT_PAYS)
        return float(records.spent(exits, rule, WHERE_IT_PAYS).mean()) / full

    low, high = 0.0, 1.0
    if share(0.0) <= budget:
        return
    while share(high) > budget:
        if high > 1e9:
            raise ValueError(f"the budget must be a share of full depth of at least {share(high):.4f}, got {budget}")
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) <= budget else (middle, high)
    share(high)


def fit_router(records: ExitRecords, *, steps: int = 300, seed: int = 0, weight_decay: float = 0.05) -> Router:
    """Fit a router to recorded images that the detector was not trained on, the calibration split; it takes seconds.

    What an image gains by going on from an exit is what its detections at full depth add to the mAP more than those
    of the exit, to first order (`marginal_precision`). These gains have outliers, hence the Huber loss. Each of the
    `steps` of Adam is on all images; since these are few, the weights decay.
    """
    worth = marginal_precision(match_records(records), records.all_at(NUM_EXITS)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = Router()
    for exit in range(1, NUM_EXITS):
        features = rule_features(records.exit(exit))
        router.mean[exit - 1], router.std[exit - 1] = features.mean(0), features.std(0).clamp(min=1e-6)
        gain = worth[-1] - worth[exit - 1]
        aim = gain / gain.std().clamp(min=1e-12)
        optimizer = torch.optim.AdamW(router.nets[exit - 1].parameters(), lr=0.01, weight_decay=weight_decay)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.huber_loss(router.gain(features, exit), aim).backward()
            optimizer.step()
    return router.eval()


def fit_rule(rule: Rule, records: ExitRecords) -> Rule:
    """The rule, fitted to recorded images if it is of a kind that is; whether it was fitted before plays no part.

    A `Worth`, which goes by a budget, is a `ValueError`: see `fit_worth`.
    """
    if isinstance(rule, Worth):
        raise ValueError(NO_BUDGET)
    if isinstance(rule, Router):
        return fit_router(records)
    if rule.fitted:
        raise ValueError(f"fit_rule does not know yet how to fit {type(rule).__name__}")
    return rule


def check_budget(budget: float) -> float:
    """A budget, the largest mean compute as a share of full depth; `ValueError` unless it is one."""
    if not 0 < budget <= MOST_BUDGET:
        raise ValueError(f"a budget must be a share of full depth, such as 0.6, got {budget}: percent? divide by 100")
    return budget


def calibrate_rule(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    budget: float,
    rule: str | None = None,
    *,
    costs: Sequence[float] | None = None,
    progress: bool = False,
) -> tuple[float, float, float]:
    """Thresholds of exits 1-3 with which a budget is kept; the model gets the rule.

    With a `Worth` it gets `score_scales`, too, unless it has some. What fails changes nothing.

    Args:
        dataset: a calibration split, whose images the model was not trained on.
        budget: the largest mean compute, as a share of that of full depth.
        rule: a name of `RULES`, fitted to the images if it is of that kind; the model's own unless given, as it is but
            for a `Worth`, whose price is that of a budget.
        costs: what counts as compute, if not multiply-adds: measured times of exits 1 to 4, see `time_exits`.
        progress: see `evaluate`.

    Raises:
        ValueError: if the budget is none or cannot be kept, there is no such rule, or it skips images.
    """
    check_budget(budget)
    scales = model.score_scales
    wanted = model.rule if rule is None else make_rule(rule, model.exit_target)
    records = collect_records(model, dataset, progress=progress)
    records = records if costs is None else records.priced(costs)
    if not isinstance(wanted, Worth):
        wanted = wanted if rule is None else fit_rule(wanted, records)
        gmacs = budget * float(records.gmacs[-1].mean())
        limits = thresholds_for_budget(records, gmacs=gmacs, rule=wanted, repeats=2).thresholds
    else:
        if all(tuple(scale) == (1.0, 0.0) for scale in scales):
            scales = check_scales(fit_score_scales(records))
            records = rescale_records(records, scales)
        wanted, limits = fit_worth(records, budget=budget, looks=wanted.looks)
    model.score_scales, model.rule = scales, wanted.to(next(model.parameters()).device)
    return limits


def scores_of_rule(
    model: EarlyExitRetinaNet, dataset: CocoDataset, rule: str | None = None, *, progress: bool = False
) -> Tensor:
    """(4, images) what a rule says of every image at every exit; the model gets it. Arguments as for `calibrate_rule`.

    A rule that looks at logits alone costs one pass through the backbone. `ValueError` for a `Worth`, which goes by a
    budget.
    """
    wanted = model.rule if rule is None else make_rule(rule, model.exit_target)
    if isinstance(wanted, Worth):
        raise ValueError(NO_BUDGET)
    if wanted.only_logits and not (rule is not None and wanted.fitted):
        logits = exit_logits(model, dataset, progress=progress)[0]
        scores = scores_at([Exit(k, tuple(logits[:k])) for k in EXITS], wanted)
    else:
        records = collect_records(model, dataset, progress=progress)
        wanted = wanted if rule is None else fit_rule(wanted, records)
        scores = rule_scores(records, wanted)
    model.rule = wanted.to(next(model.parameters()).device)
    return scores
