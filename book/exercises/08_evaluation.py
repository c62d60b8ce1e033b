"""Exercises of chapter 8: what the reader starts from, a solution, and wrong answers.

With each wrong answer stands a part of the message that it must get.
`tools/exercises.py` writes the stubs into the chapter and the solutions' page; the
tests try every answer.
"""

# %% setup
import torch


# %% 8.at_budget core: A sweep read at a budget
def at_budget(gmacs, maps, budget):
    """GMACs (S,) and mAPs (S,) of settings in any order, a budget -> mAP there."""
    ...


# %% solution
def at_budget(gmacs, maps, budget):
    """GMACs (S,) and mAPs (S,) of settings in any order, a budget -> mAP there."""
    order = gmacs.argsort()
    x, y = gmacs[order], maps[order]
    if budget <= x[0]:
        return y[0]
    for i in range(len(x) - 1):
        if budget <= x[i + 1]:
            way = (budget - x[i]) / (x[i + 1] - x[i])  # 0 at setting i, 1 at the next
            return (1 - way) * y[i] + way * y[i + 1]
    return y[-1]


# %% wrong: in any order
def at_budget(gmacs, maps, budget):
    import numpy as np

    return float(np.interp(budget, gmacs.numpy(), maps.numpy()))


# %% wrong: stays level
def at_budget(gmacs, maps, budget):
    order = gmacs.argsort()
    x, y = gmacs[order], maps[order]
    i = min(max(int((x <= budget).sum()) - 1, 0), len(x) - 2)
    return y[i] + (y[i + 1] - y[i]) * (budget - x[i]) / (x[i + 1] - x[i])


# %% wrong: nearest setting
def at_budget(gmacs, maps, budget):
    return maps[(gmacs - budget).abs().argmin()]


# %% wrong: can be paid for
def at_budget(gmacs, maps, budget):
    order = gmacs.argsort()
    x, y = gmacs[order], maps[order]
    return y[max(int((x <= budget).sum()) - 1, 0)]


# %% wrong: other way round
def at_budget(gmacs, maps, budget):
    order = gmacs.argsort()
    x, y = gmacs[order], maps[order]
    if budget <= x[0]:
        return y[0]
    for i in range(len(x) - 1):
        if budget <= x[i + 1]:
            way = (budget - x[i]) / (x[i + 1] - x[i])
            return way * y[i] + (1 - way) * y[i + 1]
    return y[-1]


# %% 8.gap stretch: A difference with its interval
def gap(ours, theirs, our_draws, their_draws):
    """Values (3,), draws (3, R) of two models -> (3,): difference, low, high."""
    ...


# %% solution
def gap(ours, theirs, our_draws, their_draws):
    """Values (3,), draws (3, R) of two models -> (3,): difference, low, high."""
    values = ours - theirs  # seed by seed
    draws = our_draws - their_draws  # and draw by draw
    images = 1.96 * draws.mean(dim=0).std()
    seeds = 4.303 * values.std() / 3**0.5
    half = (images**2 + seeds**2).sqrt()
    return torch.stack([values.mean(), values.mean() - half, values.mean() + half])


# %% wrong: cancels out
def gap(ours, theirs, our_draws, their_draws):
    parts = [1.96 * d.mean(dim=0).std() for d in (our_draws, their_draws)]
    parts += [4.303 * v.std() / 3**0.5 for v in (ours, theirs)]
    half, mean = torch.stack(parts).norm(), (ours - theirs).mean()
    return torch.stack([mean, mean - half, mean + half])


# %% wrong: added as squares
def gap(ours, theirs, our_draws, their_draws):
    values, draws = ours - theirs, our_draws - their_draws
    half = 1.96 * draws.mean(dim=0).std() + 4.303 * values.std() / 3**0.5
    return torch.stack([values.mean(), values.mean() - half, values.mean() + half])


# %% wrong: 4.303, not 1.96
def gap(ours, theirs, our_draws, their_draws):
    values, draws = ours - theirs, our_draws - their_draws
    half = 1.96 * torch.hypot(draws.mean(dim=0).std(), values.std() / 3**0.5)
    return torch.stack([values.mean(), values.mean() - half, values.mean() + half])


# %% wrong: mean over seeds, then the deviation
def gap(ours, theirs, our_draws, their_draws):
    values, draws = ours - theirs, our_draws - their_draws
    images, seeds = 1.96 * draws.std(dim=1).mean(), 4.303 * values.std() / 3**0.5
    half = torch.hypot(images, seeds)
    return torch.stack([values.mean(), values.mean() - half, values.mean() + half])


# %% 8.saved warm-up: What is saved on photos of any size
def saved(gmacs, exits):
    """GMACs (4, N) of each image at exits 1-4, exits (N,) taken -> percent saved."""
    ...


# %% solution
def saved(gmacs, exits):
    """GMACs (4, N) of each image at exits 1-4, exits (N,) taken -> percent saved."""
    spent = 0.0
    for image, exit in enumerate(exits.tolist()):
        spent += gmacs[exit - 1, image]
    return 100 * (1 - spent / gmacs[3].sum())


# %% wrong: counts as much as a small one
def saved(gmacs, exits):
    taken = gmacs[exits - 1, torch.arange(len(exits))]
    return 100 * (1 - taken / gmacs[3]).mean()


# %% wrong: what is saved was asked for
def saved(gmacs, exits):
    taken = gmacs[exits - 1, torch.arange(len(exits))]
    return 100 * taken.sum() / gmacs[3].sum()


# %% wrong: percent
def saved(gmacs, exits):
    taken = gmacs[exits - 1, torch.arange(len(exits))]
    return 1 - taken.sum() / gmacs[3].sum()


# %% wrong: mean of a row
def saved(gmacs, exits):
    row = gmacs.mean(dim=1)
    return 100 * (1 - row[exits - 1].mean() / row[3])


# %% 8.two_maps core: One list, two measures
def two_maps(hits, objects):
    """Hits (10, D) by falling score, number of objects -> (2,): AP50, mAP."""
    ...


# %% solution
def two_maps(hits, objects):
    """Hits (10, D) by falling score, number of objects -> (2,): AP50, mAP."""
    found = hits.double().cumsum(dim=1)
    recall, precision = found / objects, found / torch.arange(1, hits.shape[1] + 1)
    best = precision.flip(1).cummax(dim=1).values.flip(1)  # still to come

    area, last = 0.0, 0.0
    for r, p in zip(recall[0], best[0]):
        area, last = area + (r - last) * p, r

    heights = torch.zeros(10, 101)
    for step in range(101):
        reached = recall >= step / 100 - 1e-9
        heights[:, step] = (best * reached).amax(dim=1)
    return torch.stack([area, heights.mean()])


# %% wrong: exact area
def two_maps(hits, objects):
    found = hits.double().cumsum(dim=1)
    recall, precision = found / objects, found / torch.arange(1, hits.shape[1] + 1)
    steps = torch.arange(101) / 100 - 1e-9
    heights = (precision[:, :, None] * (recall[:, :, None] >= steps)).amax(dim=1)
    return torch.stack([heights[0].mean(), heights.mean()])


# %% wrong: all ten limits
def two_maps(hits, objects):
    found = hits[0].double().cumsum(dim=0)
    recall, precision = found / objects, found / torch.arange(1, len(found) + 1)
    best = precision.flip(0).cummax(dim=0).values.flip(0)
    area = (recall.diff(prepend=torch.zeros(1)) * best).sum()
    steps = torch.arange(101) / 100 - 1e-9
    heights = (best[:, None] * (recall[:, None] >= steps)).amax(dim=0)
    return torch.stack([area, heights.mean()])


# %% wrong: still to come
def two_maps(hits, objects):
    found = hits.double().cumsum(dim=1)
    recall, precision = found / objects, found / torch.arange(1, hits.shape[1] + 1)
    area = (recall[0].diff(prepend=torch.zeros(1)) * precision[0]).sum()
    steps = torch.arange(101) / 100 - 1e-9
    heights = (precision[:, :, None] * (recall[:, :, None] >= steps)).amax(dim=1)
    return torch.stack([area, heights.mean()])
