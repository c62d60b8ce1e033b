"""Homework on the network: `check("hw1.x2z", ...)` is `hw1_x2z`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import level_pairs
from .verdicts import SlipError, called, pulled, same

# Of the squared error of downsampling, what a filler of one's own may have at most. Zeros have 0.68, the mean of all
# true maps 0.52, a linear map of 2 x 2 cells 0.42, one of 4 x 4 cells 0.34 (300 training scenes, 40 new ones).
BETTER = 0.48
JUDGED_ON = 12  # on which it is judged

# Assignment 1, two branches that read each other


def _rand(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float | None = None, dim: int = -1) -> Tensor:
    scores = queries @ keys.T * (queries.shape[1] ** -0.5 if scale is None else scale)
    return scores.softmax(dim) @ values


def hw1_attention(answer, random: torch.Generator) -> None:
    """One-head attention: queries (Q, D), keys (K, D), values (K, V) -> (Q, V)."""
    given = _rand(random, 3, 8) * 2, _rand(random, 5, 8), _rand(random, 5, 4)
    slips = {
        "scores are not divided by the root of the number of channels": _attend(*given, scale=1.0),
        "the softmax runs over the queries: the weights of one query must sum to 1": _attend(*given, dim=0),
        "scores are divided by the number of channels instead of its root": _attend(*given, scale=1 / 8),
        "the weights are no softmax": given[0] @ given[1].T @ given[2] / 8**0.5,
    }
    same(called(answer, *given), _attend(*given), "what each query reads", slips)


def hw1_tokens(answer, random: torch.Generator) -> None:
    """What the latents read: features (C, H, W), depthwise weight (C, 1, 7, 7) -> (49, C)."""
    features, weight = _rand(random, 4, 16, 21), _rand(random, 4, 1, 7, 7) / 7
    looked = F.conv2d(features[None], weight, padding=3, groups=4)[0]
    whole, alone = (F.adaptive_avg_pool2d(x, 7) for x in (features + looked, looked))
    slips = {
        "the features themselves are missing: x + depthwise(x)": alone.flatten(1).T,
        "the convolution is missing": F.adaptive_avg_pool2d(features, 7).flatten(1).T,
        "reshape mixes places and channels: flatten the places, then swap the two axes": whole.reshape(49, 4),
        "channels come first: one token is one place, with all of its channels": whole.flatten(1),
    }
    same(called(answer, features, weight), whole.flatten(1).T, "the 49 tokens", slips)


def hw1_x2z(answer, random: torch.Generator) -> None:
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
        lost = "the feature branch would never learn what latents want to read"
        raise SlipError(f"no gradient reaches the tokens: {lost}")


def hw1_token_mixer(answer, random: torch.Generator) -> None:
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


def hw1_z2x(answer, random: torch.Generator) -> None:
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


# Assignment 3, the levels that never came to be


def hw3_sizes(answer, random: torch.Generator) -> None:
    """Height and width of P3 to P7 for an image: height, width -> (5, 2)."""
    height, width = (int(n) for n in torch.randint(65, 400, (2,), generator=random) * 2 + 1)
    strides = torch.tensor([8, 16, 32, 64, 128])[:, None]
    image = torch.tensor([height, width])
    wanted = -(-image // strides)
    slips = {
        "a stride-2 stage rounds up: half of 5 cells are 3": image // strides,
        "width and height are swapped": wanted.flip(1),
        "P3 has stride 8, not 4": -(-image // (strides // 2)),
        "levels go from fine to coarse": wanted.flip(0),
        "cells were asked for, these are shares": image / strides,
    }
    same(called(answer, height, width), wanted, "the size of each level", slips)


def hw3_zeros(answer, random: torch.Generator) -> None:
    """C4 and C5 of zeros: C3 (N, C, H, W), their channels -> two tensors."""
    for size in ((15, 9), (16, 12)):
        got = called(answer, torch.rand(2, 4, *size, generator=random), 6, 8)
        if not isinstance(got, (list, tuple)) or len(got) != 2:
            raise SlipError("two tensors were asked for, C4 and C5")
        for name, one, width, stride in (("C4", got[0], 6, 2), ("C5", got[1], 8, 4)):
            shape, smaller = [-(-n // stride) for n in size], [n // stride for n in size]
            slips = {
                f"{name} is rounded down: a stride-2 stage rounds up": torch.zeros(2, width, *smaller),
                f"{name} has the size of C3: each level is half of the one before": torch.zeros(2, width, *size),
                f"{name} has the channels of C3": torch.zeros(2, 4, *shape),
                f"{name} is one image, and the batch has two": torch.zeros(width, *shape),
                f"{name} is full of ones": torch.ones(2, width, *shape),
            }
            same(one, torch.zeros(2, width, *shape), name, slips)


def hw3_downsample(answer, random: torch.Generator) -> None:
    """Half the size, every second cell: (N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
    level = torch.rand(2, 3, 8, 6, generator=random)
    slips = {
        "this is the mean of four cells: every second cell was asked for": F.avg_pool2d(level, 2),
        "this is the largest of four cells: every second cell was asked for": F.max_pool2d(level, 2),
        "the first cell is kept, then every second one": level[..., 1::2, 1::2],
        "height alone is halved": level[..., ::2, :],
        "width alone is halved": level[..., ::2],
    }
    same(called(answer, level), level[..., ::2, ::2], "the level below", slips)
    size = tuple(getattr(called(answer, torch.rand(1, 1, 5, 7, generator=random)), "shape", ()))
    if size != (1, 1, 3, 4):
        raise SlipError(f"half of 5 x 7 cells, rounded up, is 3 x 4; your level has shape {size}")


def hw3_top_down(answer, random: torch.Generator) -> None:
    """The way down of a pyramid: laterals from fine to coarse, each half of the one before -> as many sums."""
    fine, middle, coarse = given = [torch.rand(1, 2, n, n, generator=random) for n in (8, 4, 2)]
    up, blend = nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")
    summed, early = middle + up(coarse), fine + up(middle)
    got = called(answer, given)
    if not isinstance(got, (list, tuple)) or len(got) != 3:
        raise SlipError("three levels were asked for, from fine to coarse")
    same(got[2], coarse, "the coarsest level", {"nothing lies above the coarsest level": coarse * 2})
    slips = {
        "the level above is missing": middle,
        "what comes from above replaces the lateral: add both": up(coarse),
        "the way is the wrong one: from coarse to fine": middle + F.avg_pool2d(fine, 2),
    }
    same(got[1], summed, "the middle level", slips)
    slips = {
        "the middle lateral was added before it had heard the coarsest: go from coarse to fine, sum by sum": early,
        "the level above is missing": fine,
        "bilinear blends cells: each cell is copied to four": fine + blend(summed),
    }
    same(got[0], fine + up(summed), "the finest level", slips)


def hw3_own(answer, random: torch.Generator) -> None:
    """A filler of one's own: C3 (N, 64, 16, 16) -> P4 (N, 64, 8, 8), nearer to the true one than downsampling."""
    indices = torch.randint(10_000, 90_000, (JUDGED_ON,), generator=random).tolist()
    c3, p4, downsampled = level_pairs("test", indices)
    got = called(answer, c3)
    if not isinstance(got, torch.Tensor) or got.shape != p4.shape:
        raise SlipError(f"P4 should have shape {tuple(p4.shape)}, yours has {tuple(getattr(got, 'shape', ()))}")
    got = got.detach()
    if torch.allclose(got, torch.zeros(())):
        raise SlipError("these are zeros, which know nothing of the image")
    if torch.allclose(got, got[:1, :, :1, :1].expand_as(got), atol=1e-4):
        raise SlipError("this is the same everywhere, whatever C3 shows")
    if torch.allclose(got, downsampled, atol=1e-4):
        raise SlipError("this is downsampling itself: a filler of your own was asked for")
    ratio = F.mse_loss(got, p4) / F.mse_loss(downsampled, p4)
    if not ratio <= BETTER:
        raise SlipError(
            f"its squared error is {ratio:.2f} of downsampling's on new scenes, at most {BETTER} is asked for"
        )


# Assignment 4, the loss, and whose gradient goes where


def hw4_joint_loss(answer, random: torch.Generator) -> None:
    """Eq. 2 of the paper from its three losses: classification, boxes, exits, theta, lambda -> a scalar."""
    cls, box, exits = torch.rand(3, generator=random) + 1
    theta, lam = 0.0115, 0.5
    slips = {
        "theta and lambda are swapped: theta weighs the loss of the exits": theta * (cls + box) + lam * exits,
        "lambda weighs both losses of the detector, boxes too": lam * cls + box + theta * exits,
        "the loss of the boxes is missing": lam * cls + theta * exits,
        "theta is missing: the exits count in full": lam * (cls + box) + exits,
        "lambda is missing": cls + box + theta * exits,
    }
    same(called(answer, cls, box, exits, theta, lam), lam * (cls + box) + theta * exits, "the joint loss", slips)


def hw4_focal(answer, random: torch.Generator) -> None:
    """Focal loss with alpha 0.25 and gamma 2, summed: logits (A, K), targets (A, K) of 0 and 1 -> a scalar."""
    logits = torch.randn(12, 3, generator=random) * 2
    targets = (torch.rand(12, 3, generator=random) < 0.2).float()
    targets[0, 0], targets[0, 1] = 1, 0
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right, rival = (p * targets + (1 - p) * (1 - targets) for p in (logits.sigmoid(), logits.softmax(1)))
    alpha = 0.25 * targets + 0.75 * (1 - targets)
    whole, rivals = alpha * (1 - right) ** 2 * ce, (alpha * (1 - rival) ** 2 * -rival.log()).sum()
    slips = {
        "this is the cross-entropy: the factor that quiets what is right already is missing": (alpha * ce).sum(),
        "alpha is missing": ((1 - right) ** 2 * ce).sum(),
        "alpha belongs to what is there, 1 - alpha to background": ((1 - alpha) * (1 - right) ** 2 * ce).sum(),
        "the factor is upside down: it is 1 minus the probability of what is right": (alpha * right**2 * ce).sum(),
        "the sum was asked for, this is the mean": whole.mean(),
        "a softmax lets classes compete: each class of an anchor is a question of its own, with a sigmoid": rivals,
    }
    same(called(answer, logits, targets), whole.sum(), "the focal loss", slips)
    if not torch.isfinite(torch.as_tensor(called(answer, torch.tensor([[200.0]]), torch.zeros(1, 1)))).all():
        raise SlipError("large logits give inf or nan: use binary_cross_entropy_with_logits, not the logarithm of p")


def hw4_exits_loss(answer, random: torch.Generator) -> None:
    """Cross-entropy of every exit, weighted: logits (E, N, K), labels (N,), weights (E,) -> a scalar."""
    logits, weights = torch.randn(4, 6, 5, generator=random) * 2, torch.tensor([0.25, 0.25, 0.25, 0.5])
    labels = torch.randint(5, (6,), generator=random)
    each = torch.stack([F.cross_entropy(one, labels) for one in logits])
    slips = {
        "the weights are missing": each.sum(),
        "the published weights are not made to sum to 1: a weighted sum, no weighted mean": weights @ each / 1.25,
        "this is the mean over exits: the weighted sum was asked for": (weights * each).mean(),
        "the mean over images was asked for, this is their sum": weights @ each * 6,
        "the last exit alone is taught": weights[-1] * each[-1],
    }
    same(called(answer, logits, labels, weights), weights @ each, "the loss of the exits", slips)


def hw4_distillation(answer, random: torch.Generator) -> None:
    """KL divergence of an early exit's softmax from the last exit's: early (N, K), last (N, K) -> mean over images."""
    early, last = torch.randn(6, 5, generator=random) * 2, torch.randn(6, 5, generator=random) * 2
    p, q = last.log_softmax(1), early.log_softmax(1)
    wanted, turned = (p.exp() * (p - q)).sum(1).mean(), (q.exp() * (q - p)).sum(1).mean()
    slips = {
        "the divergence is the wrong way round: the last exit is the one to be imitated": turned,
        "this is the cross-entropy: the teacher's own entropy is not subtracted": -(p.exp() * q).sum(1).mean(),
        "this is a mean over classes too (reduction='mean'): 'batchmean' divides by the images alone": wanted / 5,
        "this is the sum over images": wanted * 6,
        "a squared difference of logits is no divergence": F.mse_loss(early, last),
    }
    same(called(answer, early, last), wanted, "the divergence", slips)
    if (found := pulled(answer, (early, last), 1)[1]) is not None and bool(found.abs().sum() > 0):
        raise SlipError("the teacher learns from its students: detach the last exit's logits")
    if (found := pulled(answer, (early, last), 0)[1]) is None or not bool(found.abs().sum() > 0):
        raise SlipError("no gradient reaches the early exit: nobody would learn anything")


def hw4_cosine(answer, random: torch.Generator) -> None:
    """The cosine between two losses' gradients: two lists of tensors, None where a loss has no gradient -> a scalar."""
    shapes = [(3, 2), (4,), (2, 2), (5,)]
    ours, others = ([torch.randn(shape, generator=random) for shape in shapes] for _ in range(2))
    shared = [torch.cat([x.flatten() for x in part[:2]]) for part in (ours, others)]
    lengths = [torch.cat([x.flatten() for x in part]).norm() for part in (ours[:3], others[:2] + others[3:])]
    dot = shared[0] @ shared[1]
    short = dot / (shared[0].norm() * shared[1].norm())
    each = torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in zip(ours[:2], others[:2])])  # noqa: B905
    ours[3] = others[2] = None
    slips = {
        "lengths go over all of a loss's own gradients, also where the other has none": short,
        "this is the mean of the tensors' cosines: the whole gradient is one long vector": each.mean(),
        "this is the product: divide by both lengths": dot,
        "the lengths are not multiplied": dot / (lengths[0] + lengths[1]),
        "the product is divided by one length alone": dot / lengths[0],
    }
    same(called(answer, ours, others), dot / (lengths[0] * lengths[1]), "the cosine of the two gradients", slips)
