"""Exercises of chapter 11: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch


# %% 11.chance warm-up: A lottery for a budget
def chance(budget, cheap, dear):
    """Mean GMACs wanted, and those of two exits -> the chance to go to the dear one."""
    ...


# %% solution
def chance(budget, cheap, dear):
    """Mean GMACs wanted, and those of two exits -> the chance to go to the dear one."""
    return (budget - cheap) / (dear - cheap)


# %% wrong: chance to stay
def chance(budget, cheap, dear):
    return (dear - budget) / (dear - cheap)


# %% wrong: share of the dear exit's GMACs
def chance(budget, cheap, dear):
    return budget / dear


# %% wrong: pay for the cheap exit, too
def chance(budget, cheap, dear):
    return (budget - cheap) / dear


# %% 11.alike core: Scores that mean the same
def alike(scores, exits, scales):
    """Scores (D,), the exit of each, 1 to 4, and (gain, shift) of each exit, (4, 2).

    Returns the scores (D,) after Platt's scaling.
    """
    ...


# %% solution
def alike(scores, exits, scales):
    """Scores (D,), the exit of each, 1 to 4, and (gain, shift) of each exit, (4, 2).

    Returns the scores (D,) after Platt's scaling.
    """
    gain, shift = scales[exits - 1].unbind(dim=1)
    return torch.sigmoid(gain * scores.logit() + shift)


# %% wrong: count from 1
def alike(scores, exits, scales):
    gain, shift = scales[exits % 4].unbind(dim=1)
    return torch.sigmoid(gain * scores.logit() + shift)


# %% wrong: logit of the score
def alike(scores, exits, scales):
    gain, shift = scales[exits - 1].unbind(dim=1)
    return torch.sigmoid(gain * scores + shift)


# %% wrong: still logits
def alike(scores, exits, scales):
    gain, shift = scales[exits - 1].unbind(dim=1)
    return gain * scores.logit() + shift


# %% wrong: after the gain
def alike(scores, exits, scales):
    gain, shift = scales[exits - 1].unbind(dim=1)
    return torch.sigmoid(gain * (scores.logit() + shift))


# %% 11.leaves core: Worth against its price
def leaves(gains, gmacs, price):
    """Where each image leaves, (N,) exits 1 to 4.

    `gains` has a tensor for each of exits 1-3: at exit k what each later exit would
    add, (N, 4 - k). `gmacs` (4,) are those of the exits, `price` is that of one.
    """
    ...


# %% solution
def leaves(gains, gmacs, price):
    """Where each image leaves, (N,) exits 1 to 4.

    `gains` has a tensor for each of exits 1-3: at exit k what each later exit would
    add, (N, 4 - k). `gmacs` (4,) are those of the exits, `price` is that of one.
    """
    taken = torch.full((len(gains[0]),), 4)
    for k in (3, 2, 1):  # what an earlier exit decides comes last
        extra = gmacs[k:] - gmacs[k - 1]
        best = (gains[k - 1] - price * extra).amax(dim=1)
        taken[best <= 0] = k
    return taken


# %% wrong: the next exit alone
def leaves(gains, gmacs, price):
    taken = torch.full((len(gains[0]),), 4)
    for k in (3, 2, 1):
        extra = gmacs[k] - gmacs[k - 1]
        taken[gains[k - 1][:, 0] - price * extra <= 0] = k
    return taken


# %% wrong: what the image has paid already
def leaves(gains, gmacs, price):
    taken = torch.full((len(gains[0]),), 4)
    for k in (3, 2, 1):
        taken[(gains[k - 1] - price * gmacs[k:]).amax(dim=1) <= 0] = k
    return taken


# %% wrong: the price is missing
def leaves(gains, gmacs, price):
    taken = torch.full((len(gains[0]),), 4)
    for k in (3, 2, 1):
        taken[gains[k - 1].amax(dim=1) <= 0] = k
    return taken


# %% wrong: never comes to exit 3
def leaves(gains, gmacs, price):
    taken = torch.full((len(gains[0]),), 4)
    for k in (1, 2, 3):
        extra = gmacs[k:] - gmacs[k - 1]
        best = (gains[k - 1] - price * extra).amax(dim=1)
        taken[best <= 0] = k
    return taken


# %% 11.price_for stretch: The price that keeps a budget
def price_for(gain, extra, share):
    """Predicted gains (N,) of going on, which costs `extra` -> the lowest price.

    With it at most `share` of the images go on, those with gain > price * extra.
    """
    ...


# %% solution
def price_for(gain, extra, share):
    """Predicted gains (N,) of going on, which costs `extra` -> the lowest price.

    With it at most `share` of the images go on, those with gain > price * extra.
    """
    first_to_stay = gain.sort(descending=True).values[int(share * len(gain))]
    return max(float(first_to_stay) / extra, 0.0)


# %% wrong: for one GMAC
def price_for(gain, extra, share):
    return max(float(gain.sort(descending=True).values[int(share * len(gain))]), 0.0)


# %% wrong: below 0
def price_for(gain, extra, share):
    return float(gain.sort(descending=True).values[int(share * len(gain))]) / extra


# %% wrong: gain least
def price_for(gain, extra, share):
    return max(float(gain.sort().values[int(share * len(gain))]) / extra, 0.0)


# %% wrong: one image more could go on
def price_for(gain, extra, share):
    least = gain.sort(descending=True).values[int(share * len(gain)) - 1]
    return max(float(least) / extra, 0.0)


# %% 11.mixture_time core: The time of a mixture
def mixture_time(g, t, share):
    """What an exit takes of full depth's GMACs and time, and the mean GMACs wanted.

    All three are shares. Returns the mean time of images that leave there or at exit 4.
    """
    ...


# %% solution
def mixture_time(g, t, share):
    """What an exit takes of full depth's GMACs and time, and the mean GMACs wanted.

    All three are shares. Returns the mean time of images that leave there or at exit 4.
    """
    leave = (1 - share) / (1 - g)
    return leave * t + (1 - leave)


# %% wrong: more images must leave
def mixture_time(g, t, share):
    return 1 - (1 - share) * (1 - t)


# %% wrong: multiply-adds again
def mixture_time(g, t, share):
    leave = (1 - share) / (1 - g)
    return leave * g + (1 - leave)


# %% wrong: who stays takes time
def mixture_time(g, t, share):
    return (1 - share) / (1 - g) * t


# %% wrong: how many images leave
def mixture_time(g, t, share):
    return (1 - share) / (1 - g)
