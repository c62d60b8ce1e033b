"""Exercises of chapter 10: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch
from torch import nn


# %% 10.tower_macs warm-up: What a head costs
def tower_macs(levels, channels, convs):
    """Sizes [(h, w), ...] of the levels -> multiply-adds of `convs` 3 x 3 convolutions.

    Each has `channels` channels in and out, and runs on every level.
    """
    ...


# %% solution
def tower_macs(levels, channels, convs):
    """Sizes [(h, w), ...] of the levels -> multiply-adds of `convs` 3 x 3 convolutions.

    Each has `channels` channels in and out, and runs on every level.
    """
    cells = sum(height * width for height, width in levels)
    return cells * convs * 9 * channels * channels


# %% wrong: nine neighbours
def tower_macs(levels, channels, convs):
    cells = sum(height * width for height, width in levels)
    return cells * convs * channels * channels


# %% wrong: every channel in
def tower_macs(levels, channels, convs):
    cells = sum(height * width for height, width in levels)
    return cells * convs * 9 * channels


# %% wrong: one convolution
def tower_macs(levels, channels, convs):
    cells = sum(height * width for height, width in levels)
    return cells * 9 * channels * channels


# %% wrong: the finest level alone
def tower_macs(levels, channels, convs):
    height, width = levels[0]
    return height * width * convs * 9 * channels * channels


# %% 10.opinion core: The head hears the classifier
def opinion(logits, heard, gain, bias):
    """Logits (N, A, K) of anchors, class logits (N, K) -> (N, A, K) moved logits."""
    ...


# %% solution
def opinion(logits, heard, gain, bias):
    """Logits (N, A, K) of anchors, class logits (N, K) -> (N, A, K) moved logits."""
    p = heard.softmax(dim=1).clamp(min=0.001)
    return logits + gain * p.log()[:, None] + bias


# %% wrong: the floor
def opinion(logits, heard, gain, bias):
    return logits + gain * heard.log_softmax(dim=1)[:, None] + bias


# %% wrong: the logarithm
def opinion(logits, heard, gain, bias):
    return logits + gain * heard.softmax(dim=1).clamp(min=0.001)[:, None] + bias


# %% wrong: over the images
def opinion(logits, heard, gain, bias):
    p = heard.softmax(dim=0).clamp(min=0.001)
    return logits + gain * p.log()[:, None] + bias


# %% wrong: the gain weighs
def opinion(logits, heard, gain, bias):
    p = heard.softmax(dim=1).clamp(min=0.001)
    return logits + gain * (p.log()[:, None] + bias)


# %% wrong: raw class logits
def opinion(logits, heard, gain, bias):
    return logits + gain * heard[:, None] + bias


# %% 10.only_early stretch: Let some parts learn, and change nothing else
def only_early(model, parts):
    """Prepare `model` for training in which only `parts`, names of children, change.

    Returns the names of the parameters that learn.
    """
    ...


# %% solution
def only_early(model, parts):
    """Prepare `model` for training in which only `parts`, names of children, change.

    Returns the names of the parameters that learn.
    """
    for name, child in model.named_children():
        child.train(name in parts)
        child.requires_grad_(name in parts)
    return [name for name, p in model.named_parameters() if p.requires_grad]


# %% wrong: statistics
def only_early(model, parts):
    model.train()
    for name, child in model.named_children():
        child.requires_grad_(name in parts)
    return [name for name, p in model.named_parameters() if p.requires_grad]


# %% wrong: eval mode
def only_early(model, parts):
    model.eval()
    for name, child in model.named_children():
        child.requires_grad_(name in parts)
    return [name for name, p in model.named_parameters() if p.requires_grad]


# %% wrong: still learns
def only_early(model, parts):
    for name, child in model.named_children():
        child.train(name in parts)
    return [name for name, p in model.named_parameters() if name.split(".")[0] in parts]


# %% wrong: the other way round
def only_early(model, parts):
    for name, child in model.named_children():
        child.train(name not in parts)
        child.requires_grad_(name not in parts)
    return [name for name, p in model.named_parameters() if p.requires_grad]
