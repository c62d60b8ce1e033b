"""Exercises of chapter 5: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import math

import torch


# %% 5.reached warm-up: What a policy reaches
def reached(right, gmacs, chosen):
    """right, gmacs (4, N), chosen (N,) from 1 -> (2,): share right, mean GMACs."""
    ...


# %% solution
def reached(right, gmacs, chosen):
    """right, gmacs (4, N), chosen (N,) from 1 -> (2,): share right, mean GMACs."""
    image = torch.arange(len(chosen))
    hits, costs = right[chosen - 1, image], gmacs[chosen - 1, image]
    return torch.stack([hits.double().mean(), costs.double().mean()])


# %% wrong: whole rows
def reached(right, gmacs, chosen):
    return torch.stack(
        [right[chosen - 1].double().mean(), gmacs[chosen - 1].double().mean()]
    )


# %% wrong: exits count from 1
def reached(right, gmacs, chosen):
    image = torch.arange(len(chosen))
    return torch.stack(
        [
            right[chosen % 4, image].double().mean(),
            gmacs[chosen % 4, image].double().mean(),
        ]
    )


# %% wrong: IndexError
def reached(right, gmacs, chosen):
    image = torch.arange(len(chosen))
    return torch.stack(
        [right[chosen, image].double().mean(), gmacs[chosen, image].double().mean()]
    )


# %% wrong: all exits up to it
def reached(right, gmacs, chosen):
    image = torch.arange(len(chosen))
    costs = gmacs.cumsum(0)[chosen - 1, image]
    return torch.stack(
        [right[chosen - 1, image].double().mean(), costs.double().mean()]
    )


# %% 5.budget core: One threshold for a budget
def budget(confidence, early, late, budget):
    """Confidences (N,), GMACs at exits 1 and 4, largest mean -> threshold of exit 1."""
    ...


# %% solution
def budget(confidence, early, late, budget):
    """Confidences (N,), GMACs at exits 1 and 4, largest mean -> threshold of exit 1."""
    # If a share s leaves, the mean is s early + (1 - s) late: solve for s, round up.
    share = (late - budget) / (late - early)
    count = math.ceil(len(confidence) * share)
    if count <= 0:
        return math.inf
    return confidence.sort(descending=True).values[count - 1]


# %% wrong: more than the budget
def budget(confidence, early, late, budget):
    count = int(len(confidence) * (late - budget) / (late - early))
    ranked = confidence.sort(descending=True).values
    return ranked[count - 1] if count else math.inf


# %% wrong: one image too many
def budget(confidence, early, late, budget):
    count = math.ceil(len(confidence) * (late - budget) / (late - early))
    return confidence.sort(descending=True).values[count] if count > 0 else math.inf


# %% wrong: as many leave as should stay
def budget(confidence, early, late, budget):
    count = math.ceil(len(confidence) * (budget - early) / (late - early))
    return confidence.sort(descending=True).values[count - 1]


# %% wrong: nobody has to leave
def budget(confidence, early, late, budget):
    count = math.ceil(len(confidence) * (late - budget) / (late - early))
    return confidence.sort(descending=True).values[max(count, 1) - 1]


# %% 5.go_on stretch: Hindsight with a budget
def go_on(early, late, count):
    """Worth (N,) early and late -> mask (N,) of at most `count` that go on."""
    ...


# %% solution
def go_on(early, late, count):
    """Worth (N,) early and late -> mask (N,) of at most `count` that go on."""
    gain = late - early
    chosen = torch.zeros(len(gain), dtype=torch.bool)
    chosen[gain.argsort(descending=True)[:count]] = True
    return chosen & (gain > 0)


# %% wrong: lose by it
def go_on(early, late, count):
    chosen = torch.zeros(len(early), dtype=torch.bool)
    chosen[(late - early).argsort(descending=True)[:count]] = True
    return chosen


# %% wrong: not what they gain
def go_on(early, late, count):
    chosen = torch.zeros(len(early), dtype=torch.bool)
    chosen[late.argsort(descending=True)[:count]] = True
    return chosen & (late > early)


# %% wrong: worst early
def go_on(early, late, count):
    chosen = torch.zeros(len(early), dtype=torch.bool)
    chosen[early.argsort()[:count]] = True
    return chosen & (late > early)


# %% wrong: no heed of the budget
def go_on(early, late, count):
    return late > early
