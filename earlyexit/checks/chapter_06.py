"""Exercises of chapter 6, fillers."""

import torch
import torch.nn.functional as F

from .verdicts import SlipError, called, same

ENDS = torch.tensor([0.025, 0.975])


def cosine(answer, random: torch.Generator) -> None:
    """Mean cosine between the vectors of two levels."""
    a = torch.randn(3, 5, 4, 2, generator=random)
    b = (a + torch.randn(3, 5, 4, 2, generator=random)) * torch.rand(3, 1, 4, 2, generator=random)
    squares = a.square().sum(1) * b.square().sum(1)
    slips = {
        "this is one cosine of the whole maps: take one at each place, over the channels": F.cosine_similarity(
            a.flatten(), b.flatten(), dim=0
        ),
        "a cosine does not know lengths: divide by both lengths": (a * b).sum(1).mean(),
        "the length is the root of the sum of squares": ((a * b).sum(1) / squares).mean(),
    }
    same(called(answer, a, b), F.cosine_similarity(a, b, dim=1).mean(), "the mean cosine", slips)


def complete(answer, random: torch.Generator) -> None:
    """The maps of a batch, completed by mean maps."""
    means = {f"c{k}": torch.randn(k, 2 ** (6 - k), 2 ** (6 - k), generator=random) for k in (3, 4, 5)}
    for there in (1, 2, 3):
        names = list(means)[:there]
        features = {name: torch.randn(2, *means[name].shape, generator=random) for name in names}
        got = called(answer, features, means)
        if not isinstance(got, dict) or set(got) != set(means):
            raise SlipError('a dictionary with "c3", "c4" and "c5" is wanted')
        for name, mean in means.items():
            wanted = features[name] if name in features else torch.stack([mean, mean])
            slips = {
                "means stand where the batch has a map of its own": torch.stack([mean, mean]),
                "a mean is needed once for each image of the batch": mean[None],
                "these are zeros: the mean is wanted": torch.zeros_like(wanted),
            }
            same(got[name], wanted, f"{name} of a batch with {', '.join(features)}", slips)
        if list(got) != list(means):
            raise SlipError(f"the maps should be in the order c3, c4, c5, yours are {', '.join(got)}")


def paired(answer, random: torch.Generator) -> None:
    """A bootstrap interval of a difference on shared draws."""
    hard = torch.randn(60, generator=random)
    first, second = hard + 0.3, hard + 0.2 * torch.randn(60, generator=random)
    draws = torch.randint(60, (200, 60), generator=random)
    gap = first - second
    one, other = (x[draws].mean(1).quantile(ENDS) for x in (first, second))
    slips = {
        "an interval of each on its own forgets what both share": torch.stack([one[0] - other[1], one[1] - other[0]]),
        "these are quantiles of single images: take means of draws": gap.quantile(ENDS),
        "this is second minus first": (-gap)[draws].mean(1).quantile(ENDS),
    }
    got, wanted = called(answer, first, second, draws), gap[draws].mean(1).quantile(ENDS)
    width = torch.as_tensor(got).diff()
    if width.shape == (1,) and width > 2 * wanted.diff():  # whatever draws the second had
        slips["the second has other draws than the first: share them"] = got
    same(got, wanted, "the interval", slips)
