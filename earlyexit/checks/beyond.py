"""Exercises of the part "Beyond", chapters 10 and 11: `check("10.opinion", ...)` is `ch10_opinion`."""

import torch
from torch import Tensor, nn

from .verdicts import SlipError, called, gradient, same

# Chapter 10, early exits that cost little


def ch10_tower_macs(answer, random: torch.Generator) -> None:
    """Multiply-adds of a head's tower on all levels."""
    height, width, channels, convs = torch.randint(2, 9, (4,), generator=random).tolist()
    levels = [(4 * height, 4 * width), (2 * height, 2 * width), (height, width)]
    wanted = 21 * height * width * convs * 9 * channels**2
    slips = {
        "a 3 x 3 convolution looks at nine neighbours of each cell": wanted / 9,
        "every channel that comes out looks at every channel in: their number counts twice": wanted / channels,
        "this is one convolution of the tower": wanted / convs,
        "this is the finest level alone: the head runs on all of them": wanted * 16 / 21,
    }
    same(float(called(answer, levels, channels, convs)), float(wanted), "the number of multiply-adds", slips)


def ch10_opinion(answer, random: torch.Generator) -> None:
    """The classifier's opinion moves the logits of all anchors."""
    logits, heard = torch.randn(4, 3, 5, generator=random), 6 * torch.randn(4, 5, generator=random)
    heard.requires_grad_()
    gain, bias = (0.2 + torch.rand(2, generator=random)).tolist()
    p = heard.softmax(1)

    def moved(by: Tensor) -> Tensor:
        return logits + gain * by[:, None] + bias

    wanted = moved(p.clamp(min=0.001).log())
    slips = {
        "the floor of 0.001 is missing: a class could be ruled out": moved(p.log()),
        "the logarithm of the softmax is added, not the softmax": moved(p.clamp(min=0.001)),
        "the softmax is over the classes, yours is over the images": moved(heard.softmax(0).clamp(min=0.001).log()),
        "the gain weighs the opinion, not the bias": logits + gain * (p.clamp(min=0.001).log()[:, None] + bias),
        "these are raw class logits: the logarithm of the softmax was asked for": moved(heard),
    }
    got = called(answer, logits, heard, gain, bias)
    same(got, wanted, "the moved logits", slips)
    gradient(got, heard, "the class logits")


def ch10_only_early(answer, random: torch.Generator) -> None:
    """Some children learn; nothing else changes, statistics of batch normalisation included."""
    model, kept = nn.Sequential(), ("neck", "head")
    for name in ("backbone", "neck", "head", "last"):
        model.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    names = called(answer, model, kept)
    learn = {name for name, p in model.named_parameters() if p.requires_grad}
    wanted = {name for name, _ in model.named_parameters() if name.split(".")[0] in kept}
    if learn and not learn & wanted:
        raise SlipError("the other way round: the parts that are named learn, all others stand still")
    if learn != wanted:
        wrong = sorted(learn ^ wanted)[0]
        raise SlipError(f"{wrong} {'still learns' if wrong in learn else 'does not learn'}: look at requires_grad")
    if set(names) != wanted:
        raise SlipError("return the names of the parameters that learn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(4, 3, 5, 5, generator=random))
    for name, value in model.state_dict().items():
        if "running_mean" in name and (name.split(".")[0] in kept) == torch.equal(value, before[name]):
            still = f"{name} stands still: what learns is in train mode, not in eval mode"
            moved = f"the statistics of batch normalisation move in train mode: {name} has changed"
            raise SlipError(still if name.split(".")[0] in kept else moved)


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
