"""Exercises of chapter 5: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
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


# %% 5.calibrate core: Thresholds from shares
def calibrate(confidence, shares):
    """confidence (4, N), shares (4,) -> thresholds of exits 1-3, a tensor (3,)."""
    ...


# %% solution
def calibrate(confidence, shares):
    """confidence (4, N), shares (4,) -> thresholds of exits 1-3, a tensor (3,)."""
    here = torch.ones(confidence.shape[1], dtype=torch.bool)
    thresholds = []
    for exit in range(3):
        count = int(confidence.shape[1] * shares[exit])
        ranked = confidence[exit, here].sort(descending=True).values
        thresholds.append(ranked[count - 1])
        here = here & (confidence[exit] < thresholds[-1])
    return torch.stack(thresholds)


# %% wrong: those who have left
def calibrate(confidence, shares):
    count = (confidence.shape[1] * shares[:3]).long()
    ranked = confidence.sort(dim=1, descending=True).values
    return ranked[torch.arange(3), count - 1]


# %% wrong: of all images
def calibrate(confidence, shares):
    here = torch.ones(confidence.shape[1], dtype=torch.bool)
    thresholds = []
    for exit in range(3):
        count = int(here.sum() * shares[exit])
        thresholds.append(
            confidence[exit, here].sort(descending=True).values[count - 1]
        )
        here = here & (confidence[exit] < thresholds[-1])
    return torch.stack(thresholds)


# %% wrong: one image too many
def calibrate(confidence, shares):
    here = torch.ones(confidence.shape[1], dtype=torch.bool)
    thresholds = []
    for exit in range(3):
        count = int(confidence.shape[1] * shares[exit])
        thresholds.append(confidence[exit, here].sort(descending=True).values[count])
        here = here & (confidence[exit] < thresholds[-1])
    return torch.stack(thresholds)


# %% wrong: the least sure
def calibrate(confidence, shares):
    here = torch.ones(confidence.shape[1], dtype=torch.bool)
    thresholds = []
    for exit in range(3):
        count = int(confidence.shape[1] * shares[exit])
        thresholds.append(confidence[exit, here].sort().values[count - 1])
        here = here & (confidence[exit] > thresholds[-1])
    return torch.stack(thresholds)


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
