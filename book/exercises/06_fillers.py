"""Exercises of chapter 6: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import torch


# %% 6.cosine warm-up: How alike are two levels?
def cosine(a, b):
    """Two levels (N, C, H, W) -> mean cosine over images and places, a scalar."""
    ...


# %% solution
def cosine(a, b):
    """Two levels (N, C, H, W) -> mean cosine over images and places, a scalar."""
    lengths = a.square().sum(1).sqrt() * b.square().sum(1).sqrt()
    return ((a * b).sum(1) / lengths).mean()


# %% wrong: whole maps
def cosine(a, b):
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


# %% wrong: divide by both lengths
def cosine(a, b):
    return (a * b).sum(1).mean()


# %% wrong: root
def cosine(a, b):
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1))).mean()


# %% wrong: shape (
def cosine(a, b):
    lengths = a.square().sum(1).sqrt() * b.square().sum(1).sqrt()
    return (a * b).sum(1) / lengths


# %% 6.complete core: A filler of mean maps
def complete(features, means):
    """Maps of a batch, mean maps (C, H, W) -> dict of "c3", "c4", "c5" (N, C, H, W)."""
    ...


# %% solution
def complete(features, means):
    """Maps of a batch, mean maps (C, H, W) -> dict of "c3", "c4", "c5" (N, C, H, W)."""
    images = len(features["c3"])
    completed = {}
    for name in ("c3", "c4", "c5"):
        if name in features:
            completed[name] = features[name]
        else:
            completed[name] = means[name].expand(images, -1, -1, -1)
    return completed


# %% wrong: means stand where
def complete(features, means):
    images = len(features["c3"])
    return {name: means[name].expand(images, -1, -1, -1) for name in ("c3", "c4", "c5")}


# %% wrong: once for each image
def complete(features, means):
    return {"c3": features["c3"], **{n: m[None] for n, m in means.items()}, **features}


# %% wrong: in the order
def complete(features, means):
    images = len(features["c3"])
    missing = {n: m for n, m in means.items() if n not in features}
    filled = {n: m.expand(images, -1, -1, -1) for n, m in missing.items()}
    return {**filled, **features}


# %% wrong: zeros
def complete(features, means):
    images = len(features["c3"])
    zeros = {n: torch.zeros(images, *m.shape) for n, m in means.items()}
    return {n: features.get(n, zeros[n]) for n in ("c3", "c4", "c5")}


# %% 6.paired stretch: An interval for a difference
def paired(first, second, draws):
    """Values (N,) twice, draws (R, N) -> quantiles 2.5 and 97.5 % of the gap, (2,)."""
    ...


# %% solution
def paired(first, second, draws):
    """Values (N,) twice, draws (R, N) -> quantiles 2.5 and 97.5 % of the gap, (2,)."""
    gaps = (first - second)[draws].mean(dim=1)
    return gaps.quantile(torch.tensor([0.025, 0.975]))


# %% wrong: each on its own
def paired(first, second, draws):
    ends = torch.tensor([0.025, 0.975])
    one, other = (
        first[draws].mean(1).quantile(ends),
        second[draws].mean(1).quantile(ends),
    )
    return torch.stack([one[0] - other[1], one[1] - other[0]])


# %% wrong: other draws
def paired(first, second, draws):
    gaps = first[draws].mean(1) - second[draws.flip(0)].mean(1)
    return gaps.quantile(torch.tensor([0.025, 0.975]))


# %% wrong: single images
def paired(first, second, draws):
    return (first - second).quantile(torch.tensor([0.025, 0.975]))


# %% wrong: second minus first
def paired(first, second, draws):
    return (second - first)[draws].mean(1).quantile(torch.tensor([0.025, 0.975]))
