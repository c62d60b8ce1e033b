"""The two detectors of the course: the paper's, and one small enough to train on a laptop."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import RegNet, RegNet_Y_800MF_Weights, regnet_y_800mf
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.regnet import BlockParams

from .anchors import retinanet_anchors
from .backbone import DynPerceiver
from .detector import EarlyExitRetinaNet
from .exit_neck import GROUPS, EarlyPyramid
from .neck import EarlyExitFPN
from .weights import load_weights


def dyn_retinanet_regnet_y_800mf(
    num_classes: int,
    *,
    weights: str | Path | None = None,
    trunk_weights: RegNet_Y_800MF_Weights | str | None = None,
    filler: str = "downsample",
    **detector,
) -> EarlyExitRetinaNet:
    """The paper's detector: RegNetY-800MF, 128 latents, a 256-channel pyramid, images of 800 to 1333 pixels.

    Args:
        num_classes: number of classes, labelled from 0; no background class.
        weights: a safetensors file of this model's weights.
        trunk_weights: torchvision's ImageNet weights for the convolutional trunk, e.g. "IMAGENET1K_V2".
        filler: "downsample" or "zero", see `EarlyExitFPN`; "learned": early exits have a pyramid and a head of their
            own, see `EarlyPyramid`.
        **detector: passed to `EarlyExitRetinaNet`.
    """
    backbone = DynPerceiver(_trunk(trunk_weights), num_classes)
    sizes = {"head_convs": 4, "anchor_scale": 4, "early_levels": {1: (128, "p4"), 2: (128, "p4"), 3: (128, "p3")}}
    return _assemble(backbone, weights, 256, filler=filler, **{**sizes, **detector})


def dyn_retinanet_nano(
    num_classes: int = 20,
    *,
    weights: str | Path | None = None,
    filler: str = "downsample",
    **detector,
) -> EarlyExitRetinaNet:
    """The same detector at 1.6 M parameters for images of 128 pixels: it learns on two CPU cores in minutes.

    Args:
        num_classes: number of classes, labelled from 0; 20 for the scenes.
        weights: the name of weights that come with the package ("scenes", "scenes-baseline") or a file. For those of a
            detector with other options, as "scenes-early", `load_detector` makes the detector that they fit.
        filler: "downsample" or "zero", see `EarlyExitFPN`; "learned": early exits have a pyramid and a head of their
            own, see `EarlyPyramid`.
        **detector: passed to `EarlyExitRetinaNet`.
    """
    detector = {"min_size": 128, "max_size": 256, **detector}
    backbone = nano_backbone(num_classes)
    sizes = {"head_convs": 2, "anchor_scale": 3, "early_levels": {1: (48, "p4"), 2: (24, "p4"), 3: (40, "p3")}}
    return _assemble(backbone, weights, 64, filler=filler, **{**sizes, **detector})


def nano_backbone(num_classes: int = 20) -> DynPerceiver:
    """The backbone of `dyn_retinanet_nano`: a RegNetY of depths 1, 1, 2, 1 and 32 latents."""
    blocks = BlockParams(
        depths=[1, 1, 2, 1],
        widths=[32, 64, 128, 192],
        group_widths=[16] * 4,
        bottleneck_multipliers=[1.0] * 4,
        strides=[2] * 4,
        se_ratio=0.25,
    )
    trunk = RegNet(blocks, num_classes=1, stem_width=32)
    return DynPerceiver(trunk, num_classes, num_latents=32, depths=(1, 1, 2, 2), heads=(1, 2, 4, 4))


def _trunk(weights: RegNet_Y_800MF_Weights | str | None) -> RegNet:
    try:
        return regnet_y_800mf(weights=weights)
    except KeyError:
        names = list(RegNet_Y_800MF_Weights.__members__)
        raise ValueError(f"trunk_weights must be one of torchvision's {names}, got {weights!r}") from None
    except URLError as error:
        url = RegNet_Y_800MF_Weights[weights].url if isinstance(weights, str) else weights.url
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"cannot fetch torchvision's weights ({error.reason}): put {url} into {str(folder)!r}"
        ) from None


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


def _assemble(
    backbone: DynPerceiver,
    weights: str | Path | None,
    channels: int,
    *,
    filler: str,
    head_convs: int,
    anchor_scale: float,
    early_levels: Mapping[int, tuple[int, str]],
    **detector,
) -> EarlyExitRetinaNet:
    if head_convs not in range(1, 5):
        raise ValueError(f"head_convs must be 1 to 4 convolutions, got {head_convs!r}")
    in_channels = [backbone.out_channels[name] for name in ("c3", "c4", "c5")]
    learned, early = filler == "learned", {}
    for exit, (width, finest) in early_levels.items() if learned else ():
        pyramid = EarlyPyramid(in_channels[:exit], backbone.latent_dims[exit], width, finest)
        anchors = 9 if finest == "p3" else 18  # see `anchors_without_finest`
        early[exit] = pyramid, early_head(width, backbone.num_classes, convs=head_convs, anchors=anchors)
    model = EarlyExitRetinaNet(
        backbone,
        EarlyExitFPN(in_channels, channels, filler="downsample" if learned else filler),
        retinanet_head(channels, backbone.num_classes, convs=head_convs),
        early=early,
        anchor_generator=retinanet_anchors(anchor_scale),
        **detector,
    )
    if weights is not None:
        load_weights(model, weights)
    return _channels_last(model)


def _channels_last(model: nn.Module) -> nn.Module:
    """Convolutions on CPU and GPU are faster with the channels last; results are the same."""
    return model.to(memory_format=torch.channels_last)
