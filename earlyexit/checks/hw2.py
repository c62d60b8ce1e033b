"""Homework 2: exits, and who leaves."""

import math

import torch
from torch import Tensor

from .verdicts import SlipError, called, same

MANY = 600_000  # images: a loop over them takes many seconds, one operation on all takes none


def _logits(random: torch.Generator, images: int = 6, classes: int = 5) -> Tensor:
    return torch.randn(images, classes, generator=random) * 3


def confidence(answer, random: torch.Generator) -> None:
    """The largest softmax probability of each image: (N, K) -> (N,)."""
    logits = _logits(random)
    slips = {
        "this is the largest logit: a confidence is a probability, after the softmax": logits.amax(1),
        "this is the most likely class: its probability was asked for": logits.argmax(1),
        "a sigmoid looks at one class alone, the softmax lets the classes compete": logits.sigmoid().amax(1),
        "the softmax runs over the images: the probabilities of one image must sum to 1": logits.softmax(0).amax(1),
        "this is one number for the whole batch: each image leaves for itself": logits.softmax(1).max(),
    }
    same(called(answer, logits), logits.softmax(1).amax(1), "the confidence of each image", slips)


def certainty(answer, random: torch.Generator) -> None:
    """One minus the entropy of the softmax as a share of the largest possible: (N, K) -> (N,)."""
    logits = _logits(random)
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


def patience(answer, random: torch.Generator) -> None:
    """The exit at which an image has been given the same class twice in a row: predictions (E, N) -> exits (N,)."""
    said = torch.randint(3, (4, 12), generator=random)
    agree = said[1:] == said[:-1]
    wanted = torch.where(agree.any(0), agree.long().argmax(0) + 2, 4)
    ever = torch.stack([(said[k] == said[:k]).any(0) for k in range(1, 4)])
    slips = {
        "exits are numbered from 1": wanted - 1,
        "this is the first of the two exits that agree: it takes the second one to know": torch.where(
            agree.any(0), agree.long().argmax(0) + 1, 4
        ),
        "an image on which no two exits in a row agree leaves at the last exit": torch.where(
            agree.any(0), agree.long().argmax(0) + 2, 0
        ),
        "the two exits must follow each other: an earlier one does not count": torch.where(
            ever.any(0), ever.long().argmax(0) + 2, 4
        ),
        "this is the last agreement: an image leaves at the first": torch.where(
            agree.any(0), 4 - agree.flip(0).long().argmax(0), 4
        ),
    }
    same(called(answer, said), wanted, "the exit of each image", slips)


def leaves_at(answer, random: torch.Generator) -> None:
    """The first exit whose score reaches its threshold: scores (3, N), thresholds (3,) -> exits (N,), 4 for never."""
    scores = torch.rand(3, 12, generator=random)
    thresholds = torch.tensor([0.7, 0.5, 0.6])
    scores[1, :3] = thresholds[1]
    scores[0, :3] = 0.1
    passed = scores >= thresholds[:, None]
    wanted = torch.where(passed.any(0), passed.long().argmax(0) + 1, 4)
    strict = scores > thresholds[:, None]
    slips = {
        "exits are numbered from 1": wanted - 1,
        "a score that equals its threshold passes it": torch.where(strict.any(0), strict.long().argmax(0) + 1, 4),
        "this is the last exit that is sure enough: an image leaves at the first": torch.where(
            passed.any(0), 3 - passed.flip(0).long().argmax(0), 4
        ),
        "an image that passes no threshold leaves at the last exit, 4": torch.where(
            passed.any(0), passed.long().argmax(0) + 1, 1
        ),
        "this is the exit with the highest score: the first that passes was asked for": scores.argmax(0) + 1,
    }
    same(called(answer, scores, thresholds), wanted, "the exit of each image", slips)
    scores, wanted = scores.repeat(1, MANY // 12), wanted.repeat(MANY // 12)
    same(called(answer, scores, thresholds), wanted, "the exit of each of many images")


def keep(answer, random: torch.Generator) -> None:
    """Who is left after an exit: features (N, C, H, W), latents (N, L, D), scores (N,), threshold -> three tensors.

    The places in the batch of those that stay, (M,), their features and their latents.
    """
    features, latents = torch.rand(8, 2, 3, 3, generator=random), torch.rand(8, 4, 2, generator=random)
    scores = torch.linspace(0, 1, 8)[torch.randperm(8, generator=random)]
    got = called(answer, features, latents, scores, 0.5)
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        raise SlipError("three tensors were asked for: places, features and latents of those that stay")
    staying = (scores < 0.5).nonzero()[:, 0]
    leaving = (scores >= 0.5).nonzero()[:, 0]
    slips = {
        "these are the ones that leave: go on with the others": leaving,
        "places are numbers, where you give a mask": (scores < 0.5),
        "these are the ones that leave, as a mask: numbers of those that stay": (scores >= 0.5),
    }
    same(got[0], staying, "the places of those that stay", slips)
    kept = {"all features go on: nothing would be saved": features, "wrong images go on": features[leaving]}
    same(got[1], features[staying], "the features of those that stay", kept)
    kept = {"all latents go on: they no longer fit the features": latents}
    same(got[2], latents[staying], "the latents of those that stay", kept)
    many = features[:, :1, :1, :1].repeat(MANY // 8, 1, 1, 1), latents[:, :1, :1].repeat(MANY // 8, 1, 1)
    scores = scores.repeat(MANY // 8)
    places = called(answer, *many, scores, 0.5)[0]
    same(places, (scores < 0.5).nonzero()[:, 0], "the places of those of many images that stay")


def put_back(answer, random: torch.Generator) -> None:
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
