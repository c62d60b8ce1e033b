"""Exercises of chapter 9, easy and hard images."""

import torch
from scipy import stats

from .verdicts import called, same


def gains(answer, random: torch.Generator) -> None:
    """What going on to full depth gains: success (4, N) at four exits -> (3, N)."""
    success = torch.rand(4, 6, generator=random)
    wanted = success[3] - success[:3]
    slips = {
        "this is the gain of one exit more: full depth, exit 4, was asked for": success.diff(dim=0),
        "a gain is what is there at exit 4 and not here: yours has the other sign": -wanted,
        "exit 4 gains nothing by going on: one row for each of exits 1 to 3": success[3] - success,
        "this is the best of the later exits, which only hindsight knows": (
            torch.stack([success[k + 1 :].amax(0) for k in range(3)]) - success[:3]
        ),
        "a gain may be negative: full depth can lose what an exit had": wanted.clamp(0),
        "a gain for each image was asked for, this is the mean": wanted.mean(1),
    }
    same(called(answer, success), wanted, "the gains", slips)


def rank_correlation(answer, random: torch.Generator) -> None:
    """Spearman's rank correlation of two lists (N,), with ties."""
    a = torch.randn(14, generator=random).exp()
    b = (a + torch.randn(14, generator=random)).round()  # some values are equal
    by_order = torch.stack([x.argsort(stable=True).argsort() for x in (a, b)]).double()
    wanted = float(stats.spearmanr(a.numpy(), b.numpy()).statistic)
    lowest = torch.stack([torch.as_tensor(stats.rankdata(x.numpy(), "min")) for x in (a, b)]).double()
    slips = {
        "this is the correlation of the values: replace them by their ranks first": torch.corrcoef(
            torch.stack([a, b]).double()
        )[0, 1],
        "equal values share their mean rank, yours go by their place in the list": torch.corrcoef(by_order)[0, 1],
        "equal values share the mean of their ranks, yours all get the lowest": torch.corrcoef(lowest)[0, 1],
        "argsort gives the places of the values in order, not the rank of each value": torch.corrcoef(
            torch.stack([x.argsort(stable=True) for x in (a, b)]).double()
        )[0, 1],
        "the sign is the other way round": -wanted,
    }
    same(called(answer, a, b), wanted, "the rank correlation", slips)


def of_oracle(answer, random: torch.Generator) -> None:
    """How much of an oracle's advantage over lots a rule has: gains (N,), scores (N,), how many go on -> a share."""
    gain, count = torch.randn(30, generator=random) * 0.3 + 0.2, 12
    scores = torch.rand(30, generator=random) - 0.6 * gain
    order = scores.argsort()
    rule, wrong = gain[order[:count]].sum(), gain[order[-count:]].sum()
    best, lots = gain.topk(count).values, count * gain.mean()
    oracle = best.sum()
    slips = {
        "the least sure go on: you let those with the highest scores go on": (wrong - lots) / (oracle - lots),
        "lots gain something, too: subtract them from both": rule / oracle,
        "lots are subtracted from the rule, and must be from the oracle": (rule - lots) / oracle,
        "lots let `count` images go on, not all": (rule - gain.sum()) / (oracle - gain.sum()),
        "these are images that leave and images that go on, mixed up: `count` images go on": (
            (gain[order[: 30 - count]].sum() - (30 - count) * gain.mean())
            / (gain.topk(30 - count).values.sum() - (30 - count) * gain.mean())
        ),
        "this is the share that the rule misses": (oracle - rule) / (oracle - lots),
    }
    same(called(answer, gain, scores, count), (rule - lots) / (oracle - lots), "the share of the oracle", slips)
