"""What an exit's classifier thinks of the image, told to the detection head."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 1e-3  # of a probability: no class is ruled out
FIRST_GAIN = 0.25


class ClassOpinion(nn.Module):
    """Moves the class logits of all anchors by the opinion of the exit's classifier.

    At an early exit the latents have read the whole image, while the maps of the head are still shallow. With p_c the
    exit's probability of class c (its softmax or, if it says which classes are present, its sigmoid), an anchor's
    logit of that class becomes logit + gain log p_c + bias: Bayes' rule with the opinion as prior, were gain 1. Two
    weights are learned, for no compute worth counting. The gradient does not go back into the classifier, whose
    confidence is to stay what the exit's loss makes it.
    """

    def __init__(self, exit_target: str = "single") -> None:
        super().__init__()
        self.exit_target = exit_target
        self.gain = nn.Parameter(torch.tensor(FIRST_GAIN))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, cls_logits: Tensor, exit_logits: Tensor) -> Tensor:
        """Class logits (N, anchors, classes) and the exit's logits (N, classes) give class logits."""
        said = exit_logits.detach().float()
        opinion = F.logsigmoid(said) if self.exit_target == "present" else said.log_softmax(1)
        opinion = opinion.clamp(min=math.log(FLOOR))
        return cls_logits + self.gain * opinion[:, None] + self.bias
