"""Exercises of chapter 3, a network of two branches."""

import torch
import torch.nn.functional as F
from torch import nn

from .verdicts import called, gradient, same


def attention(answer, random: torch.Generator) -> None:
    """One head of attention, with keys and values of different widths."""
    q, k, v = (3 * torch.randn(2, *shape, generator=random) for shape in ((3, 4), (5, 4), (5, 6)))
    raw = q @ k.transpose(1, 2)
    slips = {
        "the scores are not divided by the square root of the width": raw.softmax(2) @ v,
        "divide by the square root of the width, not by the width": (raw / 4).softmax(2) @ v,
        "the softmax runs over the queries: the weights of each query must sum to 1": (raw / 2).softmax(1) @ v,
        "the softmax is missing: these weights can be negative": raw / 2 @ v,
    }
    same(called(answer, q, k, v), (raw / 2).softmax(2) @ v, "what the queries read", slips)


def pooled_tokens(answer, random: torch.Generator) -> None:
    """What the latents read of a map: 49 tokens."""
    x, local = torch.randn(2, 6, 14, 21, generator=random), nn.Conv2d(6, 6, 7, padding=3, groups=6)
    mixed, coarse, alone = (F.adaptive_avg_pool2d(each, 7) for each in (x + local(x), x, local(x)))

    def tokens(pooled):
        return pooled.flatten(2).transpose(1, 2)

    slips = {
        "a reshape does not turn axes round, it mixes channels and places: flatten, transpose": mixed.view(2, 49, 6),
        "what the convolution gives is added to the map, it does not replace it": tokens(alone),
        "the convolution looks at the whole map, before it is pooled": tokens(coarse + local(coarse)),
        "pool by the mean, not by the largest": tokens(F.adaptive_max_pool2d(x + local(x), 7)),
    }
    same(called(answer, x, local), tokens(mixed), "the tokens", slips)


def token_mixer(answer, random: torch.Generator) -> None:
    """A linear layer over the token axis; as many latents as channels, so that the wrong axis runs through as well."""
    z, norm, linear = torch.randn(3, 8, 8, generator=random), nn.LayerNorm(8), nn.Linear(8, 4)
    turned = z.transpose(1, 2)
    slips = {
        "this mixes channels: the layer must run over the tokens, so turn the axes first": linear(norm(z)),
        "turn the axes back: tokens are axis 1, channels axis 2": linear(norm(turned)),
        "the norm runs over the channels: it belongs behind the turn of axes": linear(norm(z).mT).mT,
        "the norm is missing": linear(turned).mT,
    }
    same(called(answer, z, norm, linear), linear(norm(turned)).mT, "the mixed latents", slips)


def second_exit(answer, random: torch.Generator) -> None:
    """Exit 2's logits from the mean latent and from what exit 1 said."""
    z, first = torch.randn(4, 6, 8, generator=random), 2 * torch.randn(4, 5, generator=random)
    first.requires_grad_()
    carry, classifier = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU()).eval(), nn.Linear(16, 5)

    def exit(latent, told):
        return classifier(torch.cat([latent, told], 1))

    slips = {
        "the latents come first, then what exit 1 said": exit(carry(first), z.mean(1)),
        "take the mean of all latents, not one of them": exit(z[:, 0], carry(first)),
        "take the mean of the latents, not the largest": exit(z.amax(1), carry(first)),
        "logits are carried, the scores before the softmax": exit(z.mean(1), carry(first.softmax(1))),
    }
    got = called(answer, z, first, carry, classifier)
    same(got, exit(z.mean(1), carry(first)), "the logits of exit 2", slips)
    gradient(got, first, "the logits of exit 1")
