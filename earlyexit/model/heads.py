"""What is made of the feature maps that exist when an image leaves (paper, section 3.2): a pyramid, and heads on it.

RetinaNet's anchors and heads, lean ones for early exits, and the classifier's opinion.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .backbone import Write

FILLERS = ("downsample", "zero")  # the paper's
NORM_GROUPS = 8  # of the normalisation
MAPS = ("c3", "c4", "c5")
LEVELS = ("p3", "p4", "p5", "p6", "p7")
FINEST = LEVELS[:2]
ASPECT_RATIOS = (0.5, 1.0, 2.0)
STRIDES = (8, 16, 32, 64, 128)
FLOOR = 1e-3  # of a probability: no class is ruled out
FIRST_GAIN = 0.25


class EarlyExitFPN(nn.Module):
    """An FPN over C3-C5 that also works when C4 and C5 never came to be; all its levels have `out_channels`.

    Args:
        in_channels: channels of C3, C4 and C5.
        filler: how missing levels are made. "zero": zero feature maps take their place and the ordinary pyramid
            runs. "downsample": the last lateral map is halved until P5 exists; as in the published code this path
            has no top-down additions at all, not even between levels that do exist.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int = 256, *, filler: str = "downsample"):
        super().__init__()
        if len(in_channels) != 3:
            raise ValueError(f"in_channels must be those of C3, C4 and C5, got {list(in_channels)}")
        self.filler = filler
        self.names = MAPS
        self.in_channels = tuple(in_channels)
        self.fpn = FeaturePyramidNetwork(list(in_channels), out_channels, extra_blocks=P6P7(out_channels, out_channels))

    @property
    def filler(self) -> str:
        """The filler in use. It has no weights of its own, so a trained model may change it."""
        return self._filler

    @filler.setter
    def filler(self, filler: str) -> None:
        if filler not in FILLERS:
            raise ValueError(f"filler must be one of {FILLERS}, got {filler!r}")
        self._filler = filler

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Feature maps "c3" to at most "c5", each (N, C, H, W), give "p3" to "p7", each (N, out_channels, h, w)."""
        names = tuple(name for name in MAPS if name in features)
        maps = [features[name] for name in names]
        if not maps or names != MAPS[: len(maps)]:
            raise ValueError(f"the pyramid needs C3, then C4, then C5; got {sorted(features)}")
        if len(maps) < 3 and self.filler != "zero":
            return self._downsampled(maps)
        while len(maps) < 3:
            n, _, h, w = maps[-1].shape
            maps.append(maps[-1].new_zeros(n, self.in_channels[len(maps)], *_half(h, w)))
        return dict(zip(LEVELS, self.fpn(dict(zip(MAPS, maps, strict=True))).values(), strict=True))

    def _downsampled(self, maps: list[Tensor]) -> dict[str, Tensor]:
        laterals = [self.fpn.get_result_from_inner_blocks(m, i) for i, m in enumerate(maps)]
        while len(laterals) < 3:
            laterals.append(F.interpolate(laterals[-1], size=_half(*laterals[-1].shape[-2:]), mode="nearest"))
        levels = [self.fpn.get_result_from_layer_blocks(lateral, i) for i, lateral in enumerate(laterals)]
        return dict(zip(LEVELS, self.fpn.extra_blocks(levels, maps, list(MAPS))[0], strict=True))


class EarlyPyramid(nn.Module):
    """P4-P7, or P3-P7, from C3 alone, from C3 and C4, or from all three.

    P4 is the sum of a stride-2 convolution of C3 and of 1 x 1 convolutions of C4 and C5 where they exist. Then it reads
    the latents, which at an early exit know more than they have told any map: it is the write (Z2X) that the backbone
    has not reached yet, on a quarter of the cells. Then it is refined. Each coarser level is a stride-2 convolution of
    the one below. P3 costs 3/4 of a head's compute. Where it is wanted, it is the sum of a 1 x 1 convolution of C3 and
    of P4, as in an FPN.

    Args:
        in_channels: channels of the maps that are there, C3 first.
        latent_dim: width of the latents.
        channels: channels of every level, a multiple of 8.
        finest: "p4" or "p3".
    """

    def __init__(self, in_channels: Sequence[int], latent_dim: int, channels: int, finest: str = "p4"):
        super().__init__()
        if channels < 1 or channels % NORM_GROUPS:
            raise ValueError(f"the channels of an early exit must be a multiple of {NORM_GROUPS}, got {channels}")
        if finest not in FINEST or not 1 <= len(in_channels) <= len(MAPS):
            raise ValueError(f"finest must be one of {FINEST} and maps 1-3, got {finest!r} and {list(in_channels)}")
        self.names, self.finest = MAPS[: len(in_channels)], finest
        self.from_c3 = nn.Conv2d(in_channels[0], channels, 3, stride=2, padding=1)
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels[1:])
        self.write = Write(channels, latent_dim)
        self.refine = Refine(channels)
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in LEVELS[2:])
        self.to_p3 = nn.Conv2d(in_channels[0], channels, 1) if finest == "p3" else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, features: Mapping[str, Tensor], latents: Tensor) -> dict[str, Tensor]:
        """Feature maps "c3" ..., latents (N, L, latent_dim): "p4" (or "p3") to "p7", each (N, channels, h, w)."""
        if self.names != tuple(name for name in MAPS if name in features):
            raise ValueError(f"this pyramid is made from {self.names}, got {sorted(features)}")
        c3, *deeper = (features[name] for name in self.names)
        p4 = self.from_c3(c3)
        for conv, x in zip(self.laterals, deeper, strict=True):
            p4 = p4 + _resized(conv(x), p4)
        levels = [self.refine(self.write(p4, latents))]
        for conv in self.down:
            levels.append(conv(F.relu(levels[-1])))
        if self.to_p3 is not None:
            levels.insert(0, self.to_p3(c3) + _resized(levels[0], c3))
        return dict(zip(LEVELS[-len(levels) :], levels, strict=True))


class P6P7(LastLevelP6P7):
    """P6 and P7 by stride-2 convolutions on P5; torchvision has a ReLU between the two, the published detector none."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append P6 and P7 to the pyramid `results`."""
        p6 = self.p6(results[-1])
        return [*results, p6, self.p7(p6)], [*names, "p6", "p7"]


class Refine(nn.Module):
    """A residual block with group normalisation: the depth that the backbone had no time for, on a coarse map."""

    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(NORM_GROUPS, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) gives the same shape."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return x + y


def _half(height: int, width: int) -> tuple[int, int]:
    """The size that a stride-2 stage gives: half, rounded up."""
    return (height + 1) // 2, (width + 1) // 2


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return x if x.shape[-2:] == like.shape[-2:] else F.interpolate(x, size=like.shape[-2:], mode="nearest")


def retinanet_anchors(scale: float) -> AnchorGenerator:
    """RetinaNet's nine anchors per cell: three shapes, each in three sizes from `scale` strides up."""
    if not 0 < scale < math.inf:
        raise ValueError(f"anchor_scale must be a finite number above 0, got {scale}")
    sizes = tuple(tuple(stride * scale * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(STRIDES))


def anchors_without_finest(anchors: AnchorGenerator) -> AnchorGenerator:
    """The anchors of a pyramid without its finest level: each level has the sizes of the one below it, too.

    Without P3 no anchor would fit the smallest objects, so that nothing could be learnt of them. Twice the anchors cost
    little, since the towers of the head, which are most of it, stay the same. Small objects stay harder than with P3.
    """
    sizes = tuple(below + own for below, own in zip(anchors.sizes, anchors.sizes[1:], strict=False))
    return AnchorGenerator(sizes, anchors.aspect_ratios[1:])


class AnchorsBySize:
    """All anchors of an image, kept for the next images of its size, of the last `most` sizes.

    At 128 pixels, to make them anew takes a twentieth of the time of exit 1.
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
            with torch.inference_mode(False), torch.no_grad():  # a tensor of that mode could not be trained with later
                maps = [torch.empty((1, 1, *level), device=device) for level in levels]
                image = ImageList(torch.empty((1, 1, *size), device=device), [size])
                anchors = self._kept[key] = self.generator(image, maps)[0]
        return anchors


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
    head = RetinaNetHead(channels, anchors, num_classes, norm_layer=partial(nn.GroupNorm, NORM_GROUPS))
    for tower, name in ((head.classification_head, "cls_logits"), (head.regression_head, "bbox_reg")):
        tower.conv = tower.conv[:convs]
        wide = getattr(tower, name)
        lean = nn.Conv2d(channels, wide.out_channels, 1)
        nn.init.normal_(lean.weight, std=0.01)
        lean.bias.data.copy_(wide.bias.data)  # the prior that nearly all anchors are background
        setattr(tower, name, lean)
    return head
