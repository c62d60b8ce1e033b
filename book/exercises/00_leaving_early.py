"""Exercises of chapter 0: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch


# %% 0.confidence warm-up: How sure is an exit?
def confidence(logits):
    """Logits (N, C) of an exit -> how sure it is of each image, (N,)."""
    ...


# %% solution
def confidence(logits):
    """Logits (N, C) of an exit -> how sure it is of each image, (N,)."""
    return logits.softmax(dim=1).amax(dim=1)


# %% wrong: take the softmax first
def confidence(logits):
    return logits.amax(dim=1)


# %% wrong: each image has its own
def confidence(logits):
    return logits.softmax(dim=0).amax(dim=1)


# %% wrong: this is the class that is said
def confidence(logits):
    return logits.softmax(dim=1).argmax(dim=1)


# %% wrong: should have shape
def confidence(logits):
    return logits.softmax(dim=1).max()


# %% 0.macs core: Multiply-adds of any convolution
def macs(conv, height, width):
    """Multiply-adds of an nn.Conv2d on one picture of height x width pixels.

    Its padding is half its kernel (rounded down), and the stride divides both sides.
    """
    ...


# %% solution
def macs(conv, height, width):
    """Multiply-adds of an nn.Conv2d on one picture of height x width pixels.

    Its padding is half its kernel (rounded down), and the stride divides both sides.
    """
    down, right = conv.stride
    kernel_height, kernel_width = conv.kernel_size
    places = (height // down) * (width // right)
    reads = conv.in_channels // conv.groups * kernel_height * kernel_width
    return places * conv.out_channels * reads


# %% wrong: count those of the output
def macs(conv, height, width):
    return height * width * conv.weight.numel()


# %% wrong: a channel reads only its own group
def macs(conv, height, width):
    places = (height // conv.stride[0]) * (width // conv.stride[1])
    return places * conv.out_channels * conv.in_channels * conv.kernel_size[0] ** 2


# %% wrong: counted as two
def macs(conv, height, width):
    places = (height // conv.stride[0]) * (width // conv.stride[1])
    return 2 * places * conv.weight.numel()


# %% wrong: the kernel has two sides
def macs(conv, height, width):
    places = (height // conv.stride[0]) * (width // conv.stride[1])
    return (
        places
        * conv.out_channels
        * conv.in_channels
        // conv.groups
        * conv.kernel_size[0]
    )


# %% 0.leave core: Who answers where?
def leave(first, second, threshold):
    """Logits (N, C) of exits 1 and 2 -> the class that each image is given, (N,)."""
    ...


# %% solution
def leave(first, second, threshold):
    """Logits (N, C) of exits 1 and 2 -> the class that each image is given, (N,)."""
    leaves = first.softmax(dim=1).amax(dim=1) >= threshold
    return torch.where(leaves, first.argmax(dim=1), second.argmax(dim=1))


# %% wrong: the unsure ones leave
def leave(first, second, threshold):
    leaves = first.softmax(dim=1).amax(dim=1) < threshold
    return torch.where(leaves, first.argmax(dim=1), second.argmax(dim=1))


# %% wrong: the surer of both exits
def leave(first, second, threshold):
    sure, other = (logits.softmax(dim=1).amax(dim=1) for logits in (first, second))
    return torch.where(sure >= other, first.argmax(dim=1), second.argmax(dim=1))


# %% wrong: a logit is no confidence
def leave(first, second, threshold):
    leaves = first.amax(dim=1) >= threshold
    return torch.where(leaves, first.argmax(dim=1), second.argmax(dim=1))


# %% 0.threshold_for stretch: A threshold for a wanted share
def threshold_for(confidence, share):
    """Confidence (N,), share 0 to 1 -> the threshold at which so many images leave."""
    ...


# %% solution
def threshold_for(confidence, share):
    """Confidence (N,), share 0 to 1 -> the threshold at which so many images leave."""
    count = round(share * len(confidence))
    if count == 0:
        return float("inf")  # nobody is sure enough
    return float(confidence.sort(descending=True).values[count - 1])


# %% wrong: the unsure ones were counted
def threshold_for(confidence, share):
    return float(confidence.quantile(share))


# %% wrong: one image too many
def threshold_for(confidence, share):
    count = round(share * len(confidence))
    return float(confidence.sort(descending=True).values[count])


# %% wrong: one image too few
def threshold_for(confidence, share):
    count = round(share * len(confidence))
    return float(confidence.sort(descending=True).values[count - 2])
