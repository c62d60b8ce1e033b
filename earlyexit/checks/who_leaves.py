"""Exercises on who leaves, of chapter 11 and of assignments 2 and 5: `check("hw2.patience", ...)` is `hw2_patience`."""

import itertools
import math

import torch
from torch import Tensor

from .verdicts import SlipError, called, same

A_LOT = 600_000  # images: a loop over them takes many seconds, one operation on all takes none

# Chapter 11, who should leave


def ch11_chance(answer, random: torch.Generator) -> None:
    """The chance to go on with which the mean compute of two exits is a budget."""
    cheap, budget, dear = (0.05 + torch.rand(3, generator=random).cumsum(0)).tolist()
    left = budget - cheap
    wanted = left / (dear - cheap)
    slips = {
        "this is the chance to stay at the cheap exit": 1 - wanted,
        "this is a share of the dear exit's GMACs: the cheap exit costs something, too": budget / dear,
        "who goes on does not pay for the cheap exit, too: only the difference of both is added": left / dear,
    }
    same(called(answer, budget, cheap, dear), wanted, "the chance", slips)


def ch11_alike(answer, random: torch.Generator) -> None:
    """Platt's scaling, with a gain and a shift for each exit."""
    scores, exits = 0.05 + 0.9 * torch.rand(12, generator=random), torch.arange(12) % 4 + 1
    scales = 0.3 + torch.rand(4, 2, generator=random)
    gain, shift = scales[exits - 1].unbind(1)
    logits = gain * scores.logit() + shift
    next_gain, next_shift = scales[exits % 4].unbind(1)
    slips = {
        "exits count from 1, rows of the scales from 0": (next_gain * scores.logit() + next_shift).sigmoid(),
        "gain and shift change the logit of the score, not the score": (gain * scores + shift).sigmoid(),
        "these are still logits: a sigmoid makes scores of them": logits,
        "the shift comes after the gain": (gain * (scores.logit() + shift)).sigmoid(),
    }
    same(called(answer, scores, exits, scales), logits.sigmoid(), "the scores", slips)


def ch11_leaves(answer, random: torch.Generator) -> None:
    """Leave at the first exit at which no later one is worth its price."""
    gains = [torch.randn(40, 4 - k, generator=random) for k in (1, 2, 3)]
    gmacs, price = torch.rand(4, generator=random).cumsum(0) + 0.5, 0.6

    def first(worth: list[torch.Tensor]) -> torch.Tensor:
        stays = torch.stack([*[w.amax(1) <= 0 for w in worth], torch.ones(40, dtype=torch.bool)])
        return stays.float().argmax(0) + 1

    worth = [gain - price * (gmacs[k:] - gmacs[k - 1]) for k, gain in enumerate(gains, start=1)]
    paid = [gain - price * gmacs[k:] for k, gain in enumerate(gains, start=1)]
    near = [w[:, :1] for w in worth]
    stays = torch.stack([w.amax(1) <= 0 for w in worth])
    last = torch.where(stays.any(0), 3 - stays.flip(0).float().argmax(0), 4)
    slips = {
        "you look at the next exit alone: an image may go on for the sake of a later one": first(near),
        "the price is for extra compute, not for what the image has paid already": first(paid),
        "the price is missing": first(gains),
        "an image that leaves at exit 1 never comes to exit 3: the first exit counts": last,
        "exits count from 1": first(worth) - 1,
    }
    same(called(answer, gains, gmacs, price), first(worth), "the exits taken", slips)


def ch11_price_for(answer, random: torch.Generator) -> None:
    """The lowest price with which at most a share of the images goes on."""
    gain, extra = torch.randn(20, generator=random), 0.2 + float(torch.rand((), generator=random))
    ordered = gain.sort(descending=True).values
    for share in (0.1, 0.25, 0.95):
        count = int(share * 20)
        price = float(ordered[count]) / extra
        slips = {
            "the price is for one GMAC: divide by the extra compute": max(float(ordered[count]), 0.0),
            "a price is not below 0: who gains nothing need not go on": price,
            "those who gain most go on, not those who gain least": max(float(ordered[19 - count]) / extra, 0.0),
            "with a lower price one image more could go on": max(float(ordered[count - 1]) / extra, 0.0),
        }
        got = called(answer, gain, extra, share)
        same(got, max(price, 0.0), f"the price for a share of {share:g}", slips)


def ch11_mixture_time(answer, random: torch.Generator) -> None:
    """The time of images of which so many leave at an exit that the mean compute is a share of full depth's."""
    g, share, t = (0.1 + 0.25 * torch.arange(3) + 0.2 * torch.rand(3, generator=random)).tolist()
    leave = (1 - share) / (1 - g)
    slips = {
        "who leaves is not free, but takes a share g: more images must leave": 1 - (1 - share) * (1 - t),
        "these are the multiply-adds again: an exit takes t of the time": share,
        "who stays takes time, too: all of full depth's": leave * t,
        "this is how many images leave": leave,
    }
    same(called(answer, g, t, share), 1 - leave * (1 - t), "the mean time", slips)


# Assignment 2, exits, and who leaves


def hw2_confidence(answer, random: torch.Generator) -> None:
    """The largest softmax probability of each image: (N, K) -> (N,)."""
    logits = torch.randn(6, 5, generator=random) * 3
    slips = {
        "this is the largest logit: a confidence is a probability, after the softmax": logits.amax(1),
        "this is the most likely class: its probability was asked for": logits.argmax(1),
        "a sigmoid looks at one class alone, the softmax lets the classes compete": logits.sigmoid().amax(1),
        "the softmax runs over the images: the probabilities of one image must sum to 1": logits.softmax(0).amax(1),
        "this is one number for the whole batch: each image leaves for itself": logits.softmax(1).max(),
    }
    same(called(answer, logits), logits.softmax(1).amax(1), "the confidence of each image", slips)


def hw2_certainty(answer, random: torch.Generator) -> None:
    """One minus the entropy of the softmax as a share of the largest possible: (N, K) -> (N,)."""
    logits = torch.randn(6, 5, generator=random) * 3
    logs = logits.log_softmax(1)
    entropy, most = -(logs.exp() * logs).sum(1), math.log(5)
    slips = {
        "this is the entropy, which is large where the exit is unsure": entropy,
        "this grows with doubt: subtract it from 1": entropy / most,
        "the entropy is not divided by its largest possible value, the logarithm of the number of classes": 1 - entropy,
        "the entropy is divided by the number of classes: divide by its logarithm": 1 - entropy / 5,
        "a sign is wrong: the entropy is MINUS the sum of p log p": 1 + entropy / most,
    }
    same(called(answer, logits), 1 - entropy / most, "the certainty of each image", slips)
    sure = torch.tensor([[500.0, 0, 0, 0, 0]])
    if torch.as_tensor(called(answer, sure)).isnan().any():
        raise SlipError("probabilities of 0 give nan: take log_softmax instead of the logarithm of the softmax")
    same(called(answer, sure), torch.ones(1), "the certainty of an image without any doubt")


def _first(said: Tensor, number: int, never: int = 4) -> Tensor:
    """The first row in which an image, a column, is true, when rows are counted from `number` on."""
    return torch.where(said.any(0), said.long().argmax(0) + number, never)


def _last(said: Tensor, number: int) -> Tensor:
    """The last such row, when the last of all is `number`; 4 if there is none."""
    return torch.where(said.any(0), number - said.flip(0).long().argmax(0), 4)


def hw2_patience(answer, random: torch.Generator) -> None:
    """The exit at which an image has been given the same class twice in a row: predictions (E, N) -> exits (N,)."""
    said = torch.randint(3, (4, 12), generator=random)
    agree, ever = said[1:] == said[:-1], torch.stack([(said[k] == said[:k]).any(0) for k in range(1, 4)])
    wanted = _first(agree, 2)
    slips = {
        "exits are numbered from 1": wanted - 1,
        "this is the first of the two exits that agree: it takes the second one to know": _first(agree, 1),
        "an image on which no two exits in a row agree leaves at the last exit": _first(agree, 2, never=0),
        "the two exits must follow each other: an earlier one does not count": _first(ever, 2),
        "this is the last agreement: an image leaves at the first": _last(agree, 4),
    }
    same(called(answer, said), wanted, "the exit of each image", slips)


def hw2_leaves_at(answer, random: torch.Generator) -> None:
    """The first exit whose score reaches its threshold: scores (3, N), thresholds (3,) -> exits (N,), 4 for never."""
    scores = torch.rand(3, 12, generator=random)
    thresholds = torch.tensor([0.7, 0.5, 0.6])
    scores[1, :3] = thresholds[1]
    scores[0, :3] = 0.1
    passed = scores >= thresholds[:, None]
    wanted = _first(passed, 1)
    slips = {
        "exits are numbered from 1": wanted - 1,
        "a score that equals its threshold passes it": _first(scores > thresholds[:, None], 1),
        "this is the last exit that is sure enough: an image leaves at the first": _last(passed, 3),
        "an image that passes no threshold leaves at the last exit, 4": _first(passed, 1, never=1),
        "this is the exit with the highest score: the first that passes was asked for": scores.argmax(0) + 1,
    }
    same(called(answer, scores, thresholds), wanted, "the exit of each image", slips)
    scores, wanted = scores.repeat(1, A_LOT // 12), wanted.repeat(A_LOT // 12)
    same(called(answer, scores, thresholds), wanted, "the exit of each of many images")


def hw2_keep(answer, random: torch.Generator) -> None:
    """Who is left after an exit: features (N, C, H, W), latents (N, L, D), scores (N,), threshold -> three tensors.

    The places in the batch of those that stay, (M,), their features and their latents.
    """
    features, latents = torch.rand(8, 2, 3, 3, generator=random), torch.rand(8, 4, 2, generator=random)
    scores = torch.linspace(0, 1, 8)[torch.randperm(8, generator=random)]
    got = called(answer, features, latents, scores, 0.5)
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        raise SlipError("three tensors were asked for: places, features and latents of those that stay")
    staying, leaving = (scores < 0.5).nonzero()[:, 0], (scores >= 0.5).nonzero()[:, 0]
    slips = {
        "these are the ones that leave: go on with the others": leaving,
        "places are numbers, where you give a mask": scores < 0.5,
        "these are the ones that leave, as a mask: numbers of those that stay": scores >= 0.5,
    }
    same(got[0], staying, "the places of those that stay", slips)
    kept = {"all features go on: nothing would be saved": features, "wrong images go on": features[leaving]}
    same(got[1], features[staying], "the features of those that stay", kept)
    kept = {"all latents go on: they no longer fit the features": latents}
    same(got[2], latents[staying], "the latents of those that stay", kept)
    many = features[:, :1, :1, :1].repeat(A_LOT // 8, 1, 1, 1), latents[:, :1, :1].repeat(A_LOT // 8, 1, 1)
    scores = scores.repeat(A_LOT // 8)
    wanted = (scores < 0.5).nonzero()[:, 0]
    same(called(answer, *many, scores, 0.5)[0], wanted, "the places of those of many images that stay")


def hw2_put_back(answer, random: torch.Generator) -> None:
    """Results in the order of the batch: values, one (M, D) for each group, and its places (M,) -> (N, D)."""
    order = torch.randperm(9, generator=random)
    places = list(order.split([4, 2, 3]))
    values = [torch.rand(len(one), 2, generator=random) for one in places]
    joined = torch.cat(values)
    wanted = torch.empty_like(joined)
    wanted[order] = joined
    slips = {
        "groups stand one after the other: bring them back into the order of the batch": joined,
        "this is the inverse order: result[places] = values, not values[places]": joined[order],
    }
    same(called(answer, values, places), wanted, "the results in the order of the batch", slips)


# Assignment 5, who should leave


def hw5_spent(answer, random: torch.Generator) -> None:
    """The mean cost of a policy: exits (N,) from 1 on, costs (E,) -> a scalar."""
    exits, costs = torch.randint(1, 4, (11,), generator=random), torch.rand(3, generator=random).sort().values * 100
    twice = costs.cumsum(0)[exits - 1]
    slips = {
        "exits are numbered from 1, places in a tensor from 0": costs[exits % 3].mean(),
        "the mean over images was asked for, this is their sum": costs[exits - 1].sum(),
        "an image that reaches exit 3 pays the cost of exit 3, which has that of exit 1 in it already": twice.mean(),
        "this is the mean of the exits' costs, whoever leaves there": costs.mean(),
        "this is the mean cost as a share of the deepest exit's": costs[exits - 1].mean() / costs[-1],
    }
    same(called(answer, exits, costs), costs[exits - 1].mean(), "the mean cost", slips)


def hw5_lots(answer, random: torch.Generator) -> None:
    """The mean worth of the best lottery between two exits at a budget: worth (E, N), costs (E,), a budget."""
    start, gain = torch.rand(40, generator=random), torch.randn(2, 40, generator=random) * 0.3 + 0.1
    table, costs = torch.cat([start[None], start + gain.cumsum(0)]), torch.tensor([30.0, 60.0, 160.0])
    for middle, budget in itertools.product((-0.4, 0.2), (45.0, 100.0)):
        # The middle exit is a bad bargain, which the best lottery passes by; then it is a good one.
        worth = table + torch.tensor([0.0, middle, 0.0])[:, None]
        mean = worth.mean(1)
        share = (budget - costs[0]) / (costs[2] - costs[0])
        far = mean[0] + share * (mean[2] - mean[0])
        inside = int(budget > costs[1])
        part = (budget - costs[inside]) / (costs[inside + 1] - costs[inside])
        near = mean[inside] + part * (mean[inside + 1] - mean[inside])
        best = torch.maximum(near, far)
        slips = {
            "a lottery between neighbours can be worse than one between exits further apart: try all pairs": near,
            "a lottery between the first and the last exit can be worse than between neighbours: try all pairs": far,
            "this is the worth of the deepest exit that can be paid for, without a lottery": mean[inside],
            "the shares are the other way round": mean[2] + share * (mean[0] - mean[2]),
            "the mean over images was asked for": best * worth.shape[1],
            "the budget is one in costs, not a share": mean[0] + budget * (mean[2] - mean[0]),
        }
        same(called(answer, worth, costs, budget), best, f"the worth of lots at a budget of {budget:g}", slips)


def hw5_fit(answer, random: torch.Generator) -> None:
    """Ridge regression of a gain on features: features (N, F), gains (N,), strength -> weights (F + 1,), bias last."""
    features, gains = torch.randn(30, 4, generator=random), torch.randn(30, generator=random) + 2
    ones = torch.cat([features, torch.ones(30, 1)], dim=1)

    def solved(strength, x=ones, penalty=(1.0, 1, 1, 1, 0)):
        return torch.linalg.solve(x.T @ x + strength * torch.diag(torch.tensor(penalty)), x.T @ gains)

    slips = {
        "the bias is not to be made small: leave it out of the penalty": solved(3.0, penalty=(1.0, 1, 1, 1, 1)),
        "this is least squares: the penalty is missing": solved(0.0),
        "the bias comes last": solved(3.0).roll(1),
        "the penalty is its square": solved(9.0),
        "the bias is missing": solved(3.0, features, (1.0, 1, 1, 1)),
    }
    same(called(answer, features, gains, 3.0), solved(3.0), "the weights", slips, tol=1e-3)


def hw5_threshold(answer, random: torch.Generator) -> None:
    """Who goes on from exit 1 to exit 2 for a budget: scores (N,) of leaving, cheap, dear, budget -> a threshold.

    Those with scores below it go on; as many as the budget, a mean cost, allows.
    """
    scores, cheap, dear, budget = torch.rand(20, generator=random), 30.0, 160.0, 69.0
    got = torch.as_tensor(called(answer, scores, cheap, dear, budget))
    if got.numel() != 1:
        raise SlipError(f"one threshold was asked for, you gave a tensor of shape {tuple(got.shape)}")
    going = int((scores < got).sum())
    most = int((budget - cheap) / (dear - cheap) * 20)  # 6 of 20
    if going == 20 - most:
        raise SlipError("the least sure go on, those with the smallest scores: you let the surest go on")
    if going == int(budget / dear * 20):
        raise SlipError("everybody pays for exit 1: what is left of the budget pays the way from there to exit 2")
    if going > most:
        raise SlipError(f"{going} of 20 go on, which costs more than the budget: at most {most} can")
    if going < most:
        raise SlipError(f"{going} of 20 go on, and the budget allows {most}")


def hw5_way(answer, random: torch.Generator) -> None:
    """The share of the way from lots to the oracle that a rule goes: three numbers -> one."""
    lots_, rule, oracle = (torch.rand(3, generator=random) * 0.1 + torch.tensor([0.5, 0.62, 0.75])).tolist()
    slips = {
        "lots are the beginning of the way: subtract them below, too": (rule - lots_) / oracle,
        "this is the share that is left to go": (oracle - rule) / (oracle - lots_),
        "this is a ratio of values: both lots and oracle mark the way": rule / oracle,
        "this is the gain over lots: divide by the whole way": rule - lots_,
        "this is the gain as a share of the lots": (rule - lots_) / lots_,
    }
    same(called(answer, lots_, rule, oracle), (rule - lots_) / (oracle - lots_), "the share of the way", slips)
