"""Who leaves where: every policy ends as an exit for each image, an int tensor (N,) of 1 to 4."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbone import NUM_EXITS
from ..thresholds import exit_limits


def threshold_exits(confidence: Tensor, thresholds: Sequence[float] | None) -> Tensor:
    """The first exit whose confidence reaches its threshold, as `model(images, thresholds=...)` decides.

    Args:
        confidence: (4, N), each image's largest softmax value at the exits.
        thresholds: of exits 1-3; None lets nobody leave early.
    """
    limits = torch.tensor(exit_limits(thresholds, None), dtype=torch.float64)
    goes = confidence.double() >= limits[:, None]  # in double: a limit rounded to float32 would be another limit
    return goes.to(torch.int8).argmax(0) + 1


def random_exits(images: int, proportions: Sequence[float], generator: torch.Generator) -> Tensor:
    """An exit for each image by chance, independent of the image and of the others (paper, section 4.4.1).

    Args:
        images: how many.
        proportions: chances of exits 1-4, which sum to 1.
        generator: on the CPU; the same state gives the same exits.
    """
    chances = torch.as_tensor(proportions, dtype=torch.float64)
    if chances.shape != (NUM_EXITS,) or not (chances >= 0).all() or abs(float(chances.sum()) - 1) > 1e-6:
        raise ValueError(f"proportions must be 4 shares that sum to 1, got {chances.tolist()}")
    return torch.multinomial(chances, images, replacement=True, generator=generator) + 1


def oracle_exits(utility: Tensor, gmacs: Tensor, budget: float) -> Tensor:
    """The exits with the largest mean utility that a mean compute allows, for a utility that is known per image.

    One price per GMAC decides for all: image i leaves where utility[k, i] - price * gmacs[k, i] is largest, at equal
    values as early as possible. No other choice with the same mean compute has a larger mean utility. The price is
    the lowest that keeps the mean compute within the budget; where many images change their exit at the same price,
    some of the budget stays unused.

    Args:
        utility: (4, N), what an image is worth if it leaves at an exit.
        gmacs: (4, N), what that costs.
        budget: the largest mean GMACs; `ValueError` if the cheapest exits cost more.
    """
    least = float(gmacs.amin(0).mean())
    if not budget >= least - 1e-12:
        raise ValueError(f"the cheapest exits take {least:.6f} GMACs an image, the budget is {budget}")

    def choose(price: float) -> Tensor:
        return (utility - price * gmacs).argmax(0)

    def cost(index: Tensor) -> float:
        return float(gmacs.gather(0, index[None]).mean())

    low, high = 0.0, 1.0
    if cost(choose(low)) <= budget + 1e-12:
        return choose(low) + 1
    while cost(choose(high)) > budget + 1e-12:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(choose(middle)) > budget + 1e-12 else (low, middle)
    return choose(high) + 1
