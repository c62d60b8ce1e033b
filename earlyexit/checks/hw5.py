"""Homework 5: who should leave."""

import itertools

import torch
from torch import Tensor

from .verdicts import SlipError, called, same


def _table(random: torch.Generator, images: int = 40) -> tuple[Tensor, Tensor]:
    """What images are worth at each of three exits, (3, N), and what the exits cost, (3,)."""
    start, gain = torch.rand(images, generator=random), torch.randn(2, images, generator=random) * 0.3 + 0.1
    return torch.cat([start[None], start + gain.cumsum(0)]), torch.tensor([30.0, 60.0, 160.0])


def spent(answer, random: torch.Generator) -> None:
    """The mean cost of a policy: exits (N,) from 1 on, costs (E,) -> a scalar."""
    exits, costs = torch.randint(1, 4, (11,), generator=random), torch.rand(3, generator=random).sort().values * 100
    slips = {
        "exits are numbered from 1, places in a tensor from 0": costs[exits % 3].mean(),
        "the mean over images was asked for, this is their sum": costs[exits - 1].sum(),
        "an image that reaches exit 3 pays the cost of exit 3, which has that of exit 1 in it already": (
            costs.cumsum(0)[exits - 1].mean()
        ),
        "this is the mean of the exits' costs, whoever leaves there": costs.mean(),
        "this is the mean cost as a share of the deepest exit's": costs[exits - 1].mean() / costs[-1],
    }
    same(called(answer, exits, costs), costs[exits - 1].mean(), "the mean cost", slips)


def lots(answer, random: torch.Generator) -> None:
    """The mean worth of the best lottery between two exits at a budget: worth (E, N), costs (E,), a budget."""
    table, costs = _table(random)
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


def fit(answer, random: torch.Generator) -> None:
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


def threshold(answer, random: torch.Generator) -> None:
    """Who goes on from exit 1 to exit 2 for a budget: scores (N,) of leaving, cheap, dear, budget -> a threshold.

    Those with scores below it go on; as many as the budget, a mean cost, allows.
    """
    scores, cheap, dear, budget = torch.rand(20, generator=random), 30.0, 160.0, 69.0
    got = called(answer, scores, cheap, dear, budget)
    got = torch.as_tensor(got)
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


def way(answer, random: torch.Generator) -> None:
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
