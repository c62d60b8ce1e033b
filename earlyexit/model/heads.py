"""What looks at a pyramid: RetinaNet's anchors and heads, lean ones for early exits, and the classifier's opinion."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead

from .necks import GROUPS

ASPECT_RATIOS = (0.5, 1.0, 2.0)
STRIDES = (8, 16, 32, 64, 128)
FLOOR = 1e-3  # of a probability: no class is ruled out
FIRST_GAIN = 0.25


def retinanet_anchors(scale: float) -> AnchorGenerator:
    """RetinaNet's nine anchors per cell: three shapes, each in three sizes from `scale` strides up."""
    if not 0 < scale < math.inf:
        raise ValueError(f"anchor_scale must be a finite number above 0, got {scale}")
    sizes = tuple(tuple(stride * scale * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(STRIDES))


def anchors_without_finest(anchors: AnchorGenerator) -> AnchorGenerator:
    """The anchors of a pyramid without its finest level: each level has the sizes of the one below it, too.

    Without P3 nobody would look for the smallest objects, although P4 can see many of them: an object is not lost
    because its cell is large, but because no anchor fits it. Twice the anchors cost little, since the towers of the
    head, which are most of it, stay the same.
    """
    sizes = tuple(below + own for below, own in zip(anchors.sizes, anchors.sizes[1:], strict=False))
    return AnchorGenerator(sizes, anchors.aspect_ratios[1:])


class AnchorsBySize:
    """All anchors of an image, kept for the next images of its size.

    At 128 pixels, to make them anew takes a twentieth of the time of exit 1.

    Args:
        generator: gives the anchors.
        most: sizes that are kept.
    """

    def __init__(self, generator: AnchorGenerator, most: int = 16):
        self.generator, self.most = generator, most
        self._kept: dict[tuple, Tensor] = {}

    def __call__(self, size: tuple[int, int], levels: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        """(A, 4) float32, on `device`, of an image of this height and width on levels of these heights and widths."""
        # Another stream of a GPU might read them before they are written.
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None
        key = size, levels, device, stream
        anchors = self._kept.get(key)
        if anchors is None:
            while len(self._kept) >= self.most:
                self._kept.pop(next(iter(self._kept)), None)
            anchors = self._kept[key] = self._make(size, levels, device)
        return anchors

    def _make(self, size: tuple[int, int], levels: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be trained with later
            maps = [torch.empty((1, 1, *level), device=device) for level in levels]
            return self.generator(ImageList(torch.empty((1, 1, *size), device=device), [size]), maps)[0]


class ClassOpinion(nn.Module):
    """Moves the class logits of all anchors by the opinion of the exit's classifier.

    At an early exit the latents have read the whole image, while the maps of the head are still shallow. With p_c
    the exit's probability of class c (its softmax or, if it says which classes are present or knows only one, its
    sigmoid), an anchor's logit of that class becomes logit + gain log p_c + bias, with p_c not below `FLOOR`. For
    improbable classes and a gain of 1 that would be Bayes' rule with the opinion as prior; the gain says how much
    to believe it. After exit 1 a second opinion is heard, that of the last latent classifier before (exit 3's own
    looks at the pooled feature map alone, and is right less often). A gain for each opinion and a bias are learned,
    for no compute worth counting. The gradient does not go back into the classifiers, whose confidence is to stay
    what the exits' loss makes it.

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
        present = self.exit_target == "present" or logits.shape[1] == 1
        opinion = F.logsigmoid(logits) if present else logits.log_softmax(1)
        opinion = opinion.clamp(min=math.log(FLOOR)) @ self.gain.float()
        return cls_logits + opinion[:, None] + self.bias


def retinanet_head(channels: int, num_classes: int, *, convs: int = 4) -> RetinaNetHead:
    """torchvision's head with `convs` of its four 3x3 convolutions in each of the two towers."""
    head = RetinaNetHead(channels, 9, num_classes)
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:convs]
    return head


def early_head(channels: int, num_classes: int, *, convs: int = 4, anchors: int = 18) -> RetinaNetHead:
    """A leaner head for an early exit: group normalisation, and predictions by 1 x 1 instead of 3 x 3 convolutions.

    With few channels, the 3 x 3 convolutions to nine boxes of all classes cost more than the towers before them.
    """
    head = RetinaNetHead(channels, anchors, num_classes, norm_layer=partial(nn.GroupNorm, GROUPS))
    for tower, name in ((head.classification_head, "cls_logits"), (head.regression_head, "bbox_reg")):
        tower.conv = tower.conv[:convs]
        wide = getattr(tower, name)
        lean = nn.Conv2d(channels, wide.out_channels, 1)
        nn.init.normal_(lean.weight, std=0.01)
        lean.bias.data.copy_(wide.bias.data)  # the prior that nearly all anchors are background
        setattr(tower, name, lean)
    return head
