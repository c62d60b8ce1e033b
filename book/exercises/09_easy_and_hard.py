"""Exercises of chapter 9: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import torch


# %% 9.rank_correlation core: Rank correlation
def rank_correlation(a, b):
    """Two lists of N values, tensors (N,) -> their rank correlation."""
    ...


# %% solution
def rank_correlation(a, b):
    """Two lists of N values, tensors (N,) -> their rank correlation."""

    def ranks(values):
        smaller = (values[:, None] > values).sum(dim=1)
        equal = (values[:, None] == values).sum(dim=1)  # each counts itself, too
        return smaller + (equal + 1) / 2

    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / ((x**2).sum() * (y**2).sum()).sqrt()


# %% wrong: by their ranks first
def rank_correlation(a, b):
    return torch.corrcoef(torch.stack([a, b]))[0, 1]


# %% wrong: go by their place
def rank_correlation(a, b):
    ranks = [x.argsort(stable=True).argsort().double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1]


# %% wrong: all get the lowest
def rank_correlation(a, b):
    ranks = [(x[:, None] > x).sum(dim=1).double() for x in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1]


# %% wrong: not the rank of each value
def rank_correlation(a, b):
    places = [x.argsort(stable=True).double() for x in (a, b)]
    return torch.corrcoef(torch.stack(places))[0, 1]


# %% 9.gains warm-up: What going on gains
def gains(success):
    """Success (4, N) at exits 1-4 -> (3, N): gained by going on to full depth."""
    ...


# %% solution
def gains(success):
    """Success (4, N) at exits 1-4 -> (3, N): gained by going on to full depth."""
    rows = [success[3] - success[k] for k in range(3)]
    return torch.stack(rows)


# %% wrong: one exit more
def gains(success):
    return success[1:] - success[:3]


# %% wrong: the other sign
def gains(success):
    return success[:3] - success[3]


# %% wrong: only hindsight knows
def gains(success):
    return torch.stack([success[k + 1 :].amax(dim=0) - success[k] for k in range(3)])


# %% wrong: may be negative
def gains(success):
    return (success[3] - success[:3]).clamp(min=0)


# %% 9.of_oracle stretch: How much of the oracle does a rule have?
def of_oracle(gain, scores, count):
    """Gain (N,), scores of leaving (N,), how many go on -> a share of the oracle."""
    ...


# %% solution
def of_oracle(gain, scores, count):
    """Gain (N,), scores of leaving (N,), how many go on -> a share of the oracle."""
    go_on = scores.argsort()[:count]  # the least sure
    rule = gain[go_on].sum()
    oracle = gain.sort(descending=True).values[:count].sum()
    lots = count * gain.mean()  # what any `count` images gain on average
    return (rule - lots) / (oracle - lots)


# %% wrong: highest scores go on
def of_oracle(gain, scores, count):
    go_on = scores.argsort(descending=True)[:count]
    lots = count * gain.mean()
    return (gain[go_on].sum() - lots) / (gain.topk(count).values.sum() - lots)


# %% wrong: subtract them from both
def of_oracle(gain, scores, count):
    return gain[scores.argsort()[:count]].sum() / gain.topk(count).values.sum()


# %% wrong: must be from the oracle
def of_oracle(gain, scores, count):
    rule = gain[scores.argsort()[:count]].sum()
    return (rule - count * gain.mean()) / gain.topk(count).values.sum()


# %% wrong: not all
def of_oracle(gain, scores, count):
    rule, oracle = gain[scores.argsort()[:count]].sum(), gain.topk(count).values.sum()
    return (rule - gain.sum()) / (oracle - gain.sum())
