"""Exercises of the part "The paper's study", chapters 5 to 9: `check("5.reached", ...)` is `ch5_reached`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from .leaving_early import _precision, _precisions
from .verdicts import SlipError, called, gradient, same

# Chapter 5, thresholds and records


def ch5_reached(answer, random: torch.Generator) -> None:
    """Share of right answers and mean GMACs of a choice of exits."""
    right, gmacs = torch.rand(4, 50, generator=random) < 0.6, torch.rand(4, 50, generator=random).sort(0).values
    chosen, image = torch.randint(1, 5, (50,), generator=random), torch.arange(50)

    def means(hits, costs):
        return torch.stack([hits.double().mean(), costs.double().mean()])

    wanted = means(right[chosen - 1, image], gmacs[chosen - 1, image])
    rows = means(right[chosen - 1], gmacs[chosen - 1])
    added = means(right[chosen - 1, image], gmacs.cumsum(0)[chosen - 1, image])
    slips = {
        "you took whole rows: `right[chosen - 1]` has all images of an exit, an image needs its own exit": rows,
        "exits count from 1, rows from 0": means(right[chosen % 4, image], gmacs[chosen % 4, image]),
        "an exit's GMACs are those of all exits up to it already: do not add them up": added,
    }
    same(called(answer, right, gmacs, chosen), wanted, "share right and mean GMACs", slips)


def ch5_budget(answer, random: torch.Generator) -> None:
    """The threshold of exit 1 that keeps a budget, judged by how many leave."""
    confidence = torch.randperm(40, generator=random) / 40
    for leave in (13, 0):  # of 40
        most = 10 - 4 * (leave - 0.5) / 40  # GMACs, between what `leave` images need and one image less
        threshold = float(called(answer, confidence, 6.0, 10.0, most))
        left = int((confidence >= threshold).sum())
        slips = {
            12: "the mean is more than the budget allows: round the number of images up",
            14: "one image too many leaves: of `count` images, the last has the position count - 1",
            28: "as many leave as should stay: which share leaves, and is your order the surest first?",
            1: "nobody has to leave for this budget: the threshold is infinity",
        }
        if left == leave:
            continue
        raise SlipError(slips.get(left, f"{left} of 40 images leave, {leave} should: mean of 6 and 10, at most {most}"))


def ch5_go_on(answer, random: torch.Generator) -> None:
    """Who goes on, if at most some may, so that most is gained."""
    early, late = torch.rand(2, 30, generator=random)
    for count in (5, 25):
        gain = late - early
        order = {"gain": gain.argsort(descending=True), "late": late.argsort(descending=True), "early": early.argsort()}
        best = {name: torch.zeros(30, dtype=torch.bool).index_fill(0, o[:count], True) for name, o in order.items()}
        slips = {
            "you send on those who are worth most late, not what they gain by going": best["late"] & (gain > 0),
            "you send on those who are worst early, and some of them stay as bad": best["early"] & (gain > 0),
            "everyone who gains goes on, with no heed of the budget": gain > 0,
            "some go on who lose by it": best["gain"],
        }
        same(called(answer, early, late, count), best["gain"] & (gain > 0), "who goes on", slips)


# Chapter 6, fillers


ENDS = torch.tensor([0.025, 0.975])


def ch6_cosine(answer, random: torch.Generator) -> None:
    """Mean cosine between the vectors of two levels."""
    a = torch.randn(3, 5, 4, 2, generator=random)
    b = (a + torch.randn(3, 5, 4, 2, generator=random)) * torch.rand(3, 1, 4, 2, generator=random)
    squares = a.square().sum(1) * b.square().sum(1)
    whole = F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    slips = {
        "this is one cosine of the whole maps: take one at each place, over the channels": whole,
        "a cosine does not know lengths: divide by both lengths": (a * b).sum(1).mean(),
        "the length is the root of the sum of squares": ((a * b).sum(1) / squares).mean(),
    }
    same(called(answer, a, b), F.cosine_similarity(a, b, dim=1).mean(), "the mean cosine", slips)


def ch6_complete(answer, random: torch.Generator) -> None:
    """The maps of a batch, completed by mean maps."""
    means = {f"c{k}": torch.randn(k, 2 ** (6 - k), 2 ** (6 - k), generator=random) for k in (3, 4, 5)}
    for there in (1, 2, 3):
        names = list(means)[:there]
        features = {name: torch.randn(2, *means[name].shape, generator=random) for name in names}
        got = called(answer, features, means)
        if not isinstance(got, dict) or set(got) != set(means):
            raise SlipError('a dictionary with "c3", "c4" and "c5" is wanted')
        for name, mean in means.items():
            wanted = features[name] if name in features else torch.stack([mean, mean])
            slips = {
                "means stand where the batch has a map of its own": torch.stack([mean, mean]),
                "a mean is needed once for each image of the batch": mean[None],
                "these are zeros: the mean is wanted": torch.zeros_like(wanted),
            }
            same(got[name], wanted, f"{name} of a batch with {', '.join(features)}", slips)
        if list(got) != list(means):
            raise SlipError(f"the maps should be in the order c3, c4, c5, yours are {', '.join(got)}")


def ch6_paired(answer, random: torch.Generator) -> None:
    """A bootstrap interval of a difference on shared draws."""
    hard = torch.randn(60, generator=random)
    first, second = hard + 0.3, hard + 0.2 * torch.randn(60, generator=random)
    draws = torch.randint(60, (200, 60), generator=random)
    gap = first - second
    one, other = (x[draws].mean(1).quantile(ENDS) for x in (first, second))
    slips = {
        "an interval of each on its own forgets what both share": torch.stack([one[0] - other[1], one[1] - other[0]]),
        "these are quantiles of single images: take means of draws": gap.quantile(ENDS),
        "this is second minus first": (-gap)[draws].mean(1).quantile(ENDS),
    }
    got, wanted = called(answer, first, second, draws), gap[draws].mean(1).quantile(ENDS)
    width = torch.as_tensor(got).diff()
    if width.shape == (1,) and width > 2 * wanted.diff():  # whatever draws the second had
        slips["the second has other draws than the first: share them"] = got
    same(got, wanted, "the interval", slips)


# Chapter 7, the weights of the loss


def ch7_balance(answer, random: torch.Generator) -> None:
    """The theta at which two gradients have one length."""
    detection, exits = ([torch.randn(*s, generator=random) * w for s in ((3, 2), (4,), (5, 1))] for w in (0.3, 2.0))
    one, other = (torch.cat([g.flatten() for g in x]).norm() for x in (detection, exits))
    summed = [sum(g.norm() for g in x) for x in (detection, exits)]
    slips = {
        "this is the other way round: theta stands before the loss of the exits": other / one,
        "lengths of parts do not add up: the gradient is one long vector": summed[0] / summed[1],
        "this is the ratio of the squares: a length is a root": (one / other) ** 2,
    }
    same(called(answer, detection, exits), one / other, "theta", slips)


def ch7_uncertain(answer, random: torch.Generator) -> None:
    """A sum of losses with learned weights, and its gradients."""
    losses = torch.rand(3, generator=random, requires_grad=True)
    log_sigmas = torch.randn(3, generator=random, requires_grad=True)
    each = (-2 * log_sigmas).exp() * losses + log_sigmas
    slips = {
        "a large sigma costs nothing: the term + a is missing": (each - log_sigmas).sum(),
        "the weight is one over sigma squared": ((-log_sigmas).exp() * losses + log_sigmas).sum(),
        "this is a mean: add the terms up": each.mean(),
    }
    got = called(answer, losses, log_sigmas)
    same(got, each.sum().detach(), "what is made small", {k: v.detach() for k, v in slips.items()})
    gradient(got, log_sigmas, "the log sigmas")
    gradient(got, losses, "the losses")


def ch7_seeds(answer, random: torch.Generator) -> None:
    """How many trainings find a difference with a power of 80 %."""
    deviation, gap = 0.3 + 0.1 * float(torch.rand((), generator=random)), 0.1
    exact = 2 * (2.8 * deviation / gap) ** 2
    half_the_time, one_mean = math.ceil(2 * (1.96 * deviation / gap) ** 2), math.ceil(exact / 2)
    slips = {
        "so many find it only half of the time: what is measured lies below the truth as often as above": half_the_time,
        "both means have noise: the standard error of their difference is deviation * sqrt(2 / k)": one_mean,
        "this is rounded down, and is not quite enough": math.floor(exact),
    }
    got = called(answer, deviation, gap)
    if abs(float(got) - exact) < 1e-6:
        raise SlipError("a whole number is wanted: the smallest that is enough")
    same(got, math.ceil(exact), "the number of seeds", slips)


# Chapter 8, the whole evaluation


def ch8_saved(answer, random: torch.Generator) -> None:
    """Percent of the compute that is saved: GMACs (4, N) of images of unlike sizes, exits (N,)."""
    size = torch.rand(9, generator=random) * 100 + 60
    gmacs = (torch.tensor([0.8, 0.9, 0.97, 1.0])[:, None] + 0.03 * torch.rand(4, 9, generator=random)) * size
    exits = torch.randint(1, 5, (9,), generator=random)
    exits[:4] = torch.tensor([1, 2, 3, 4])
    spent, shifted = (gmacs[rows, torch.arange(9)] for rows in (exits - 1, exits % 4))
    alike, full, of_rows = 100 * (1 - spent / gmacs[3]).mean(), gmacs[3].sum(), gmacs.mean(1)[exits - 1]
    slips = {
        "a large image counts as much as a small one: add up the GMACs of all images before you divide": alike,
        "this is the share that is spent, what is saved was asked for": 100 * spent.sum() / full,
        "percent were asked for": 1 - spent.sum() / full,
        "exits are numbered from 1, rows from 0": 100 * (1 - shifted.sum() / full),
        "each image has GMACs of its own: you took the mean of a row": 100 * (1 - of_rows.sum() / full),
    }
    same(called(answer, gmacs, exits), 100 * (1 - spent.sum() / full), "the share saved", slips)


def ch8_at_budget(answer, random: torch.Generator) -> None:
    """The mAP of a sweep at a budget: GMACs (S,) and mAPs (S,) in any order, a budget -> a number."""
    x = 150 + torch.rand(6, generator=random).cumsum(0) * 3
    y = 20 + torch.rand(6, generator=random).cumsum(0) * 8
    shuffled = torch.randperm(6, generator=random)
    shuffled = shuffled.flip(0) if (shuffled.diff() > 0).all() else shuffled
    for budget in (float(x[2] + 0.7 * (x[3] - x[2])), float(x[0] - 1), float(x[-1] + 1)):
        near = int((x - budget).abs().argmin())
        below = max(int((x <= budget).sum()) - 1, 0)
        first = min(below, 4)
        slope = (y[first + 1] - y[first]) / (x[first + 1] - x[first])
        on, back = y[first] + slope * (budget - x[first]), y[first + 1] - slope * (budget - x[first])
        slips = {
            "the settings come in any order: sort them by their GMACs first": _line(budget, x[shuffled], y[shuffled]),
            "below the cheapest and above the dearest setting the curve stays level, yours goes on": on,
            "this is the mAP of the nearest setting: go along the straight line between two": y[near],
            "this is the best setting that can be paid for: go along the straight line to the next one": y[below],
            "the two weights are the other way round: the nearer setting counts more": back,
        }
        got = called(answer, x[shuffled], y[shuffled], budget)
        same(got, _line(budget, x, y), f"the mAP at {budget:.2f} GMACs", slips)


def _line(budget: float, x: Tensor, y: Tensor) -> float:
    return float(np.interp(budget, x.numpy(), y.numpy()))


def ch8_two_maps(answer, random: torch.Generator) -> None:
    """VOC's AP50 and COCO's mAP of one class: hits (10, D) by falling score at ten limits of IoU, objects -> (2,)."""
    iou = torch.rand(12, generator=random) * 0.6 + 0.4
    iou[[1, 3, 6, 7]] = torch.tensor([0.3, 0.2, 0.35, 0.8])  # some are wrong at every limit
    hits = iou >= torch.arange(10)[:, None] * 0.05 + 0.5
    coco = [_precision(row, 13) for row in hits]
    # The area under VOC's curve: recall rises by one of 13 objects at each hit.
    voc, rough = (float(_precisions(hits[0], envelope)[hits[0]].sum()) / 13 for envelope in (True, False))
    mean = sum(coco) / 10
    slips = {
        "VOC's is the exact area under the curve, you read it at COCO's 101 recalls": [coco[0], mean],
        "COCO's mAP is the mean over all ten limits, yours has the first alone": [voc, coco[0]],
        "at each recall take the best precision that is still to come": [rough, mean],
        "first VOC's AP50, then COCO's mAP": [mean, voc],
        "both go from 0 to 1": [100 * voc, 100 * mean],
    }
    slips = {message: torch.tensor(value) for message, value in slips.items()}
    same(called(answer, hits, 13), torch.tensor([voc, mean]), "AP50 and mAP", slips)


def ch8_gap(answer, random: torch.Generator) -> None:
    """A difference with its interval: values (3,) and draws (3, R) of two models, in pairs -> (3,) mean, low, high."""
    images = torch.randn(40, generator=random) * 0.6  # what both models share
    ours, theirs = (60 + torch.randn(3, generator=random) * 0.4 for _ in range(2))
    draws = [v[:, None] + 0.4 + images + torch.randn(3, 40, generator=random) * 0.2 for v in (ours, theirs)]
    between = draws[0] - draws[1]
    others, seeds = 1.96 * between.mean(0).std(), 4.303 * (ours - theirs).std() / 3**0.5
    half = torch.hypot(others, seeds)
    parts = [1.96 * d.mean(0).std() for d in draws] + [4.303 * v.std() / 3**0.5 for v in (ours, theirs)]
    apart = torch.stack(parts).norm()
    mean = (ours - theirs).mean()

    def around(width: Tensor) -> Tensor:
        return torch.stack([mean, mean - width, mean + width])

    alone = around(torch.hypot(1.96 * between.std(1).mean(), seeds))
    slips = {
        "subtract draw by draw and seed by seed first: what both models share cancels out": around(apart),
        "two kinds of luck that are independent are added as squares": around(others + seeds),
        "trainings are missing: this knows of other images alone": around(others),
        "images are missing: this knows of other trainings alone": around(seeds),
        "three trainings need Student's 4.303, not 1.96": around(torch.hypot(others, seeds * 1.96 / 4.303)),
        "all models were tried on the same draws: take the mean over seeds, then the deviation over draws": alone,
    }
    same(called(answer, ours, theirs, *draws), around(half), "difference, low and high", slips, tol=1e-3)


# Chapter 9, easy and hard images


def ch9_gains(answer, random: torch.Generator) -> None:
    """What going on to full depth gains: success (4, N) at four exits -> (3, N)."""
    success = torch.rand(4, 6, generator=random)
    wanted = success[3] - success[:3]
    best = torch.stack([success[k + 1 :].amax(0) for k in range(3)]) - success[:3]
    slips = {
        "this is the gain of one exit more: full depth, exit 4, was asked for": success.diff(dim=0),
        "a gain is what is there at exit 4 and not here: yours has the other sign": -wanted,
        "exit 4 gains nothing by going on: one row for each of exits 1 to 3": success[3] - success,
        "this is the best of the later exits, which only hindsight knows": best,
        "a gain may be negative: full depth can lose what an exit had": wanted.clamp(0),
        "a gain for each image was asked for, this is the mean": wanted.mean(1),
    }
    same(called(answer, success), wanted, "the gains", slips)


def ch9_rank_correlation(answer, random: torch.Generator) -> None:
    """Spearman's rank correlation of two lists (N,), with ties."""
    a = torch.randn(14, generator=random).exp()
    b = (a + torch.randn(14, generator=random)).round()  # some values are equal
    wanted = float(stats.spearmanr(a.numpy(), b.numpy()).statistic)
    values = torch.stack([a, b]).double().numpy()
    by_order, lowest = (stats.rankdata(values, ties, axis=1) for ties in ("ordinal", "min"))
    of_values, of_order, of_lowest, of_places = (
        float(np.corrcoef(x)[0, 1]) for x in (values, by_order, lowest, values.argsort(1, kind="stable"))
    )
    slips = {
        "this is the correlation of the values: replace them by their ranks first": of_values,
        "equal values share their mean rank, yours go by their place in the list": of_order,
        "equal values share the mean of their ranks, yours all get the lowest": of_lowest,
        "argsort gives the places of the values in order, not the rank of each value": of_places,
        "the sign is the other way round": -wanted,
    }
    same(called(answer, a, b), wanted, "the rank correlation", slips)


def ch9_of_oracle(answer, random: torch.Generator) -> None:
    """How much of an oracle's advantage over lots a rule has: gains (N,), scores (N,), how many go on -> a share."""
    gain, count = torch.randn(30, generator=random) * 0.3 + 0.2, 12
    scores = torch.rand(30, generator=random) - 0.6 * gain
    order = scores.argsort()
    rule, wrong = gain[order[:count]].sum(), gain[order[-count:]].sum()
    best, lots = gain.topk(count).values, count * gain.mean()
    oracle, others = best.sum(), 30 - count
    mixed = gain[order[:others]].sum() - others * gain.mean(), gain.topk(others).values.sum() - others * gain.mean()
    slips = {
        "the least sure go on: you let those with the highest scores go on": (wrong - lots) / (oracle - lots),
        "lots gain something, too: subtract them from both": rule / oracle,
        "lots are subtracted from the rule, and must be from the oracle": (rule - lots) / oracle,
        "lots let `count` images go on, not all": (rule - gain.sum()) / (oracle - gain.sum()),
        "these are images that leave and images that go on, mixed up: `count` images go on": mixed[0] / mixed[1],
        "this is the share that the rule misses": (oracle - rule) / (oracle - lots),
    }
    same(called(answer, gain, scores, count), (rule - lots) / (oracle - lots), "the share of the oracle", slips)
