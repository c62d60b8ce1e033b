"""Exercises of chapter 0, leaving early."""

import torch
from torch import nn

from .verdicts import called, same


def confidence(answer, random: torch.Generator) -> None:
    """The largest probability of each image."""
    logits = 2 * torch.randn(6, 4, generator=random)
    shares = logits.softmax(1)
    slips = {
        "these are the largest logits: take the softmax first": logits.amax(1),
        "the softmax runs over the classes, dimension 1: each image has its own": logits.softmax(0).amax(1),
        "this is the class that is said: the confidence is its probability": shares.argmax(1),
        "this is the lead over the second class: the largest probability itself is asked for": -shares.topk(2)[
            0
        ].diff()[:, 0],
    }
    same(called(answer, logits), shares.amax(1), "the confidence of each image", slips)


def macs(answer, random: torch.Generator) -> None:
    """Multiply-adds of one convolution on one image."""
    size, stride, groups = (int(torch.randint(*limits, (1,), generator=random)) for limits in ((1, 3), (2, 4), (2, 4)))
    conv = nn.Conv2d(12, 24, 2 * size + 1, stride, padding=size, groups=groups)
    height, width, weights = 60, 36, conv.weight.numel()
    right = weights * (height // stride) * (width // stride)
    slips = {
        "with a stride, fewer places are computed: count those of the output": weights * height * width,
        "these are FLOPs, a multiply and an add counted as two: a MAC is both together": 2 * right,
        "the kernel has two sides: its places are kernel x kernel": right // (2 * size + 1),
        "with groups, a channel reads only its own group of inputs": right * groups,
        "these are the weights alone: each is used once at every place of the output": weights,
    }
    same(called(answer, conv, height, width), right, "the number of multiply-adds", slips)


def leave(answer, random: torch.Generator) -> None:
    """What a batch answers if the sure ones leave."""
    first, second = (2 * torch.randn(60, 7, generator=random) for _ in range(2))
    sure, surer = first.softmax(1).amax(1), first.softmax(1).amax(1) >= second.softmax(1).amax(1)
    threshold = float(sure.median()) + 1e-3
    early, late = first.argmax(1), second.argmax(1)
    leaves = sure >= threshold
    slips = {
        "the unsure ones leave here: who reaches the threshold leaves": torch.where(leaves, late, early),
        "you took the surer of both exits: who leaves never sees exit 2": torch.where(surer, early, late),
        "a logit is no confidence: take the softmax first": torch.where(first.amax(1) >= threshold, early, late),
        "everybody waits for exit 2 here": late,
        "everybody leaves here": early,
    }
    same(called(answer, first, second, threshold), torch.where(leaves, early, late), "the answers", slips)


def threshold_for(answer, random: torch.Generator) -> None:
    """A threshold with which a given share of the images leaves."""
    sure = torch.rand(40, generator=random)
    count = int(torch.randint(6, 15, (1,), generator=random))
    leaves = int((sure >= called(answer, sure, count / 40)).sum())
    slips = {
        "the unsure ones were counted: it is the most confident that leave": 40 - count,
        "one image too many leaves: the threshold is the confidence of the last one to leave": count + 1,
        "one image too few leaves: the last one reaches the threshold, too": count - 1,
    }
    same(leaves, count, "the number of images that leave", slips)
