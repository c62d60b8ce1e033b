"""Exercises of chapter 7, the weights of the loss."""

import math

import torch

from .verdicts import SlipError, called, gradient, same


def balance(answer, random: torch.Generator) -> None:
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


def uncertain(answer, random: torch.Generator) -> None:
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


def seeds(answer, random: torch.Generator) -> None:
    """How many trainings find a difference with a power of 80 %."""
    deviation, gap = 0.3 + 0.1 * float(torch.rand((), generator=random)), 0.1
    exact = 2 * (2.8 * deviation / gap) ** 2
    slips = {
        "so many find it only half of the time: what is measured lies below the truth as often as above": math.ceil(
            2 * (1.96 * deviation / gap) ** 2
        ),
        "both means have noise: the standard error of their difference is deviation * sqrt(2 / k)": math.ceil(
            exact / 2
        ),
        "this is rounded down, and is not quite enough": math.floor(exact),
    }
    got = called(answer, deviation, gap)
    if abs(float(got) - exact) < 1e-6:
        raise SlipError("a whole number is wanted: the smallest that is enough")
    same(got, math.ceil(exact), "the number of seeds", slips)
