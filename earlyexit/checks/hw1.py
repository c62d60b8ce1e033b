"""Homework 1: two branches that read each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .verdicts import SlipError, called, pulled, same


def _rand(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float | None = None, dim: int = -1) -> Tensor:
    scores = queries @ keys.T * (queries.shape[1] ** -0.5 if scale is None else scale)
    return scores.softmax(dim) @ values


def attention(answer, random: torch.Generator) -> None:
    """One-head attention: queries (Q, D), keys (K, D), values (K, V) -> (Q, V)."""
    given = _rand(random, 3, 8) * 2, _rand(random, 5, 8), _rand(random, 5, 4)
    slips = {
        "scores are not divided by the root of the number of channels": _attend(*given, scale=1.0),
        "the softmax runs over the queries: the weights of one query must sum to 1": _attend(*given, dim=0),
        "scores are divided by the number of channels instead of its root": _attend(*given, scale=1 / 8),
        "the weights are no softmax": given[0] @ given[1].T @ given[2] / 8**0.5,
    }
    same(called(answer, *given), _attend(*given), "what each query reads", slips)


def _pooled(features: Tensor, weight: Tensor) -> Tensor:
    looked = features + F.conv2d(features[None], weight, padding=3, groups=len(features))[0]
    return F.adaptive_avg_pool2d(looked, 7)


def tokens(answer, random: torch.Generator) -> None:
    """What the latents read: features (C, H, W), depthwise weight (C, 1, 7, 7) -> (49, C)."""
    features, weight = _rand(random, 4, 16, 21), _rand(random, 4, 1, 7, 7) / 7
    whole = _pooled(features, weight)
    alone = F.adaptive_avg_pool2d(F.conv2d(features[None], weight, padding=3, groups=4)[0], 7)
    slips = {
        "the features themselves are missing: x + depthwise(x)": alone.flatten(1).T,
        "the convolution is missing": F.adaptive_avg_pool2d(features, 7).flatten(1).T,
        "reshape mixes places and channels: flatten the places, then swap the two axes": whole.reshape(49, 4),
        "channels come first: one token is one place, with all of its channels": whole.flatten(1),
    }
    same(called(answer, features, weight), whole.flatten(1).T, "the 49 tokens", slips)


def x2z(answer, random: torch.Generator) -> None:
    """Latents read: latents (L, D), tokens (T, C), wq (D, D), wk (C, D), wv (C, D), wo (D, D) -> (L, D)."""
    latents, read = _rand(random, 6, 8), _rand(random, 49, 4)
    wq, wk, wv, wo = (_rand(random, n, 8) / 3 for n in (8, 4, 4, 8))
    found = _attend(latents @ wq, read @ wk, read @ wv)
    slips = {
        "the latents themselves are missing: what is read is added to them": found @ wo,
        "the output projection is missing": latents + found,
        "tokens query the latents: here it is the latents that read": (_attend(read @ wk, latents @ wq, latents @ wq)),
        "values are read with the projection of the keys": latents + _attend(latents @ wq, read @ wk, read @ wk) @ wo,
    }
    given = (latents, read, wq, wk, wv, wo)
    same(called(answer, *given), latents + found @ wo, "the latents after reading", slips)
    if pulled(answer, given, 1)[1] is None:
        raise SlipError(
            "no gradient reaches the tokens: the feature branch would never learn what latents want to read"
        )


def token_mixer(answer, random: torch.Generator) -> None:
    """Fewer latents: latents (L, D), weight (L / 2, L), bias (L / 2) -> (L / 2, D)."""
    latents, weight, bias = _rand(random, 8, 8), _rand(random, 4, 8), _rand(random, 4)
    slips = {
        "channels are mixed: the linear layer runs over the axis of the latents": F.linear(latents, weight, bias).T,
        "channels are mixed, and the result is the wrong way round": F.linear(latents, weight, bias),
        "the result is the wrong way round: latents come first": F.linear(latents.T, weight, bias),
        "the bias is missing": weight @ latents,
        "every second latent is dropped: each new one is a mixture of all": latents[::2],
    }
    same(called(answer, latents, weight, bias), F.linear(latents.T, weight, bias).T, "half as many latents", slips)


def z2x(answer, random: torch.Generator) -> None:
    """Places read the latents: features (C, H, W), latents (L, D), wq (C, E), wk (D, E), wv (D, C) -> (C, H, W)."""
    features, latents = _rand(random, 4, 5, 6), _rand(random, 7, 8)
    wq, wk, wv = _rand(random, 4, 3), _rand(random, 8, 3) / 2, _rand(random, 8, 4)
    places = features.flatten(1).T
    found = _attend(places @ wq, latents @ wk, latents @ wv)
    slips = {
        "the features themselves are missing: what is read is added to them": found.T.reshape(4, 5, 6),
        "reshape mixes places and channels: swap the axes before you reshape": features + found.reshape(4, 5, 6),
        "height and width are swapped": features + found.T.reshape(4, 6, 5).transpose(1, 2),
        "all places read the same: each asks with its own query": features + found.mean(0)[:, None, None],
    }
    given = (features, latents, wq, wk, wv)
    same(called(answer, *given), features + found.T.reshape(4, 5, 6), "the feature map", slips)
    if pulled(answer, given, 1)[1] is None:
        raise SlipError("no gradient reaches the latents: the latent branch would never learn what to offer")
