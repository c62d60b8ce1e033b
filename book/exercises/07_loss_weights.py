"""Exercises of chapter 7: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import math

import torch


# %% 7.balance warm-up: Where both pull equally hard
def balance(detection, exits):
    """Two lists of gradients in the same weights -> theta, a number."""
    ...


# %% solution
def balance(detection, exits):
    """Two lists of gradients in the same weights -> theta, a number."""
    lengths = []
    for gradients in (detection, exits):
        squares = sum(gradient.square().sum() for gradient in gradients)
        lengths.append(squares.sqrt())
    return lengths[0] / lengths[1]


# %% wrong: the other way round
def balance(detection, exits):
    lengths = [torch.cat([g.flatten() for g in x]).norm() for x in (detection, exits)]
    return lengths[1] / lengths[0]


# %% wrong: one long vector
def balance(detection, exits):
    lengths = [sum(g.norm() for g in x) for x in (detection, exits)]
    return lengths[0] / lengths[1]


# %% wrong: root
def balance(detection, exits):
    lengths = [sum(g.square().sum() for g in x) for x in (detection, exits)]
    return lengths[0] / lengths[1]


# %% 7.uncertain core: Weights that are learned
def uncertain(losses, log_sigmas):
    """Losses (n,) and log sigmas (n,) -> what is made small, a scalar."""
    ...


# %% solution
def uncertain(losses, log_sigmas):
    """Losses (n,) and log sigmas (n,) -> what is made small, a scalar."""
    # At the best a, exp(-2 a) = 1 / (2 L): weights follow the sizes of the losses, and
    # their ratio settles at the inverse ratio of the losses. Gradients play no part.
    return ((-2 * log_sigmas).exp() * losses + log_sigmas).sum()


# %% wrong: costs nothing
def uncertain(losses, log_sigmas):
    return ((-2 * log_sigmas).exp() * losses).sum()


# %% wrong: squared
def uncertain(losses, log_sigmas):
    return ((-log_sigmas).exp() * losses + log_sigmas).sum()


# %% wrong: gradient
def uncertain(losses, log_sigmas):
    return ((-2 * log_sigmas.detach()).exp() * losses + log_sigmas.detach()).sum()


# %% wrong: mean
def uncertain(losses, log_sigmas):
    return ((-2 * log_sigmas).exp() * losses + log_sigmas).mean()


# %% 7.seeds stretch: How many seeds?
def seeds(deviation, gap):
    """Trainings of each setting that find a true difference in four cases of five."""
    ...


# %% solution
def seeds(deviation, gap):
    """Trainings of each setting that find a true difference in four cases of five."""
    # The standard error is deviation * sqrt(2 / k); gap has to be 2.8 of them.
    return math.ceil(2 * ((1.96 + 0.84) * deviation / gap) ** 2)


# %% wrong: only half of the time
def seeds(deviation, gap):
    return math.ceil(2 * (1.96 * deviation / gap) ** 2)


# %% wrong: both means
def seeds(deviation, gap):
    return math.ceil((2.8 * deviation / gap) ** 2)


# %% wrong: rounded down
def seeds(deviation, gap):
    return math.floor(2 * (2.8 * deviation / gap) ** 2)


# %% wrong: whole number
def seeds(deviation, gap):
    return 2 * (2.8 * deviation / gap) ** 2
