"""How sure an exit is: what decides whether an image leaves there."""

import torch
from torch import Tensor


def exit_confidence(logits: Tensor, exit_target: str = "single") -> Tensor:
    """(..., classes) logits give (...) confidences in [0, 1].

    With one class per image it is the largest softmax value, as in the paper. If the exits say which classes are
    present, it is the probability that all of the classes are told rightly, were they independent: with one class
    that is there and all others surely absent, the probability of that one, as before.

    Args:
        logits: of an exit's classifier.
        exit_target: what the exits were trained to say, see `EarlyExitRetinaNet`.
    """
    if exit_target != "present":
        return logits.float().softmax(-1).amax(-1)
    p = logits.float().sigmoid()
    return torch.maximum(p, 1 - p).prod(-1)


def emptiness(logits: Tensor) -> Tensor:
    """The probability that no class is present, of logits (..., classes) trained to say which classes are."""
    return (1 - logits.float().sigmoid()).prod(-1)
