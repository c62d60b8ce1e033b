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
    logit of that class becomes logit + gain log p_c + bias, with p_c not below `FLOOR`. For improbable classes and a
    gain of 1 that would be Bayes' rule with the opinion as prior; the gain says how much to believe it. After exit 1 a
    second opinion is heard, that of the last latent classifier before (exit 3's own looks at the pooled feature map
    alone, and is right less often). A gain for each opinion and a bias are learned, for no compute worth counting. The
    gradient does not go back into the classifiers, whose confidence is to stay what the exits' loss makes it.

    Args:
        count: opinions, 1 or 2.
        exit_target: what the exits say, see `EarlyExitRetinaNet`.
    """

    def __init__(self, count: int = 1, exit_target: str = "single") -> None:
        super().__init__()
        self.exit_target = exit_target
        self.gain = nn.Parameter(torch.full((count,), FIRST_GAIN / count))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, cls_logits: Tensor, *said: Tensor) -> Tensor:
        """Class logits (N, anchors, classes) and the logits of each opinion (N, classes) give class logits."""
        logits = torch.stack(said, dim=-1).detach().float()
        opinion = F.logsigmoid(logits) if self.exit_target == "present" else logits.log_softmax(1)
        opinion = opinion.clamp(min=math.log(FLOOR)) @ self.gain.float()
        return cls_logits + opinion[:, None] + self.bias
