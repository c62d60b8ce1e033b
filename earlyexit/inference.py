"""A trained detector made faster without being changed: normalisations folded away, and steps compiled."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from .detector import EarlyExitRetinaNet


def for_inference(model: EarlyExitRetinaNet, *, compiled: bool = False) -> EarlyExitRetinaNet:
    """A copy for inference, with the same detections up to rounding.

    Every batch normalisation behind a convolution becomes part of it: what is left of it after training is one
    multiplication and one addition for each channel, which the weights of the convolution can do.

    Args:
        model: a trained detector; it is left as it is.
        compiled: let `torch.compile` build the steps between two exits and the neck and head of each exit. For small
            images on one thread of a CPU that saves 5 to 12 % of the time, see `benchmarks/compiled.json`. The
            first images of a size take a minute or more, and on a CPU it needs a C++ compiler.
    """
    fast = copy.deepcopy(model).eval()
    for block in [module for module in fast.modules() if isinstance(module, nn.Sequential)]:
        for (first, conv), (second, norm) in pairwise(list(block.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block._modules[first], block._modules[second] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    if compiled:
        fast.backbone.begin = torch.compile(fast.backbone.begin, dynamic=True)
        fast.backbone.advance = torch.compile(fast.backbone.advance, dynamic=True)
        fast.predict = torch.compile(fast.predict, dynamic=True)
    return fast
