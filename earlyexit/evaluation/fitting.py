"""A rule of leaving, fitted to recorded images: which weights, and which thresholds or which price."""

import torch
from torch import Tensor, nn

from ..data.coco import CocoDataset
from ..model.backbone import EXITS, NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import MaxSoftmax, Router, Worth, make_rule, rule_features, worth_features
from ..model.postprocess import check_scales
from .budgets import thresholds_for_budget
from .coco import exit_confidences
from .collect import collect_records
from .matching import marginal_precision, match_records
from .policies import calibrate_thresholds, exit_proportions, rule_scores, threshold_exits
from .records import ExitRecords
from .scores import fit_score_scales, rescale_records

WHERE_IT_PAYS = (0.5, 0.5, 0.5)  # the thresholds of a `Worth`, whose price decides
STRENGTHS = torch.logspace(-2, 3, 26, dtype=torch.float64)  # of the ridge, in multiples of the number of images
CLIPPED = (0.02, 0.98)  # quantiles: a few images gain or lose very much, by luck


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
        return float(records.spent(exits, looks=rule.looks).mean()) / full

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
    """Fit a router to recorded images; it takes seconds.

    What an image gains by going on from an exit is what its detections at full depth add to the mAP more than those
    of the exit, to first order (`marginal_precision`). These gains have outliers, hence the Huber loss.

    Args:
        records: of images that the detector was not trained on, the calibration split.
        steps: of Adam, each on all images.
        seed: of the first weights.
        weight_decay: keeps it simple, since images are few.
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


def calibrate_rule(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    index: int,
    rule: str | None = None,
    budget: float | None = None,
    *,
    progress: bool = False,
) -> tuple[float, float, float]:
    """Thresholds of exits 1-3 from a calibration split; the model gets the rule.

    Args:
        model: the detector; with `rule` its own is replaced.
        dataset: images that it was not trained on.
        index: a row of `exit_proportions`, 1 to 34: so many images leave at each exit.
        rule: a name of `RULES`; a router or a `Worth` is fitted to the images first.
        budget: instead of `index`, see `thresholds_under`.
        progress: see `evaluate`.
    """
    if budget is not None:
        return thresholds_under(model, dataset, budget, rule, progress=progress)
    return calibrate_thresholds(scores_of_rule(model, dataset, rule, progress=progress), exit_proportions()[index - 1])


def scores_of_rule(
    model: EarlyExitRetinaNet, dataset: CocoDataset, rule: str | None = None, *, progress: bool = False
) -> Tensor:
    """(4, images) what a rule says of every image at every exit; arguments as for `calibrate_rule`."""
    if rule is not None:
        model.rule = make_rule(rule, model.exit_target)
    if isinstance(model.rule, Worth):
        raise ValueError(f"the rule {rule or 'worth'!r} goes by a budget, a share of full depth such as 0.6, got none")
    if isinstance(model.rule, MaxSoftmax):  # needs no detections: one pass through the backbone
        return exit_confidences(model, dataset, progress=progress)
    return _fitted_scores(model, collect_records(model, dataset, progress=progress), rule)


def _fitted_scores(model: EarlyExitRetinaNet, records: ExitRecords, rule: str | None) -> Tensor:
    if rule == "router":
        model.rule = fit_router(records)
    return rule_scores(records, model.rule.cpu() if isinstance(model.rule, Router) else model.rule)


def thresholds_under(
    model: EarlyExitRetinaNet, dataset: CocoDataset, budget: float, rule: str | None = None, *, progress: bool = False
) -> tuple[float, float, float]:
    """The best thresholds of exits 1-3 with which the mean compute keeps a budget, a share of that of full depth.

    Other arguments as for `calibrate_rule`. A model that is to have a `Worth` gets `score_scales`, too, unless it has
    some.
    """
    if rule is not None:
        model.rule = make_rule(rule, model.exit_target)
    records = collect_records(model, dataset, progress=progress)
    if not isinstance(model.rule, Worth):
        scores, gmacs = _fitted_scores(model, records, rule), budget * float(records.gmacs[-1].mean())
        return thresholds_for_budget(records, gmacs=gmacs, scores=scores, repeats=2).thresholds
    if all(tuple(scale) == (1.0, 0.0) for scale in model.score_scales):
        model.score_scales = check_scales(fit_score_scales(records))
        records = rescale_records(records, model.score_scales)
    fitted, limits = fit_worth(records, budget=budget, looks=model.rule.looks)
    model.rule = fitted.to(next(model.parameters()).device)
    return limits
