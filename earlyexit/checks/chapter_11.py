"""Exercises of chapter 11, who should leave."""

import torch

from .verdicts import called, same


def chance(answer, random: torch.Generator) -> None:
    """The chance to go on with which the mean compute of two exits is a budget."""
    cheap, budget, dear = (0.05 + torch.rand(3, generator=random).cumsum(0)).tolist()
    wanted = (budget - cheap) / (dear - cheap)
    slips = {
        "this is the chance to stay at the cheap exit": 1 - wanted,
        "this is a share of the dear exit's GMACs: the cheap exit costs something, too": budget / dear,
        "who goes on does not pay for the cheap exit, too: only the difference of both is added": (budget - cheap)
        / dear,
    }
    same(called(answer, budget, cheap, dear), wanted, "the chance", slips)


def alike(answer, random: torch.Generator) -> None:
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


def leaves(answer, random: torch.Generator) -> None:
    """Leave at the first exit at which no later one is worth its price."""
    gains = [torch.randn(40, 4 - k, generator=random) for k in (1, 2, 3)]
    gmacs, price = torch.rand(4, generator=random).cumsum(0) + 0.5, 0.6

    def first(worth: list[torch.Tensor]) -> torch.Tensor:
        stays = torch.stack([*[w.amax(1) <= 0 for w in worth], torch.ones(40, dtype=torch.bool)])
        return stays.float().argmax(0) + 1

    worth = [gain - price * (gmacs[k:] - gmacs[k - 1]) for k, gain in enumerate(gains, start=1)]
    stays = torch.stack([w.amax(1) <= 0 for w in worth])
    last = torch.where(stays.any(0), 3 - stays.flip(0).float().argmax(0), 4)
    slips = {
        "you look at the next exit alone: an image may go on for the sake of a later one": first(
            [w[:, :1] for w in worth]
        ),
        "the price is for extra compute, not for what the image has paid already": first(
            [gain - price * gmacs[k:] for k, gain in enumerate(gains, start=1)]
        ),
        "the price is missing": first(gains),
        "an image that leaves at exit 1 never comes to exit 3: the first exit counts": last,
        "exits count from 1": first(worth) - 1,
    }
    same(called(answer, gains, gmacs, price), first(worth), "the exits taken", slips)


def price_for(answer, random: torch.Generator) -> None:
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
