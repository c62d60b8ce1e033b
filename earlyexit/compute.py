"""Where the compute goes: multiply-adds by exit and by part, counted by fvcore."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .backbone import NUM_EXITS, Exit


class _ToExit(nn.Module):
    """The backbone up to one exit. All that was computed is an output: fvcore drops what no output needs."""

    def __init__(self, backbone: nn.Module, index: int):
        super().__init__()
        self.backbone, self.index = backbone, index

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits: list[Tensor] = []
        for reached in self.backbone.exits(images):
            logits.append(reached.logits)
            if reached.index == self.index:
                break
        return (*logits, *reached.features.values())


class _Neck(nn.Module):
    """The neck of an exit on latents and a tuple of maps, because a trace takes tensors alone."""

    def __init__(self, model: nn.Module, reached: Exit):
        super().__init__()
        self.model, self.reached = model, reached

    def forward(self, latents: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        features = dict(zip(self.reached.features, maps, strict=True))
        return tuple(self.model.pyramid_at(replace(self.reached, features=features, latents=latents)).values())


class _Head(nn.Module):
    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, level: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head([level]).values())


def count_macs(model: nn.Module, image_size: tuple[int, int]) -> dict[int, dict[str, float]]:
    """GMACs (10^9 multiply-adds) of one image at each exit, by part.

    Args:
        model: an `EarlyExitRetinaNet`.
        image_size: height and width in pixels of what the backbone sees, after resizing and padding.

    Returns:
        {exit: {"backbone": g, "neck": g, "head p3": g, ... "head p7": g, "total": g}} for exits 1-4.
    """
    sides = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 32 for side in sides):
        raise ValueError(f"image_size must be (height, width) in whole pixels of at least 32, got {image_size!r}")
    modes = {module: module.training for module in model.modules()}
    weight = next(model.parameters())
    image = torch.zeros(1, 3, *sides, dtype=weight.dtype, device=weight.device)
    model.eval()
    try:
        with torch.no_grad():
            levels: dict[tuple[int, ...], float] = {}  # the head costs the same on maps of the same shape
            return {exit: _macs_at(model, image, exit, levels) for exit in range(1, NUM_EXITS + 1)}
    finally:
        for module, mode in modes.items():
            module.training = mode


def _macs_at(model: nn.Module, image: Tensor, exit: int, levels: dict) -> dict[str, float]:
    macs = {"backbone": _count(_ToExit(model.backbone, exit), image)}
    reached = next(e for e in model.backbone.exits(image) if e.index == exit)
    macs["neck"] = _count(_Neck(model, reached), reached.latents, *reached.features.values())
    head = model.head_at(exit)
    for name, level in model.pyramid_at(reached).items():
        key = (id(head), *level.shape)
        if key not in levels:
            levels[key] = _count(_Head(head), level)
        macs[f"head {name}"] = levels[key]
    macs["total"] = sum(macs.values())
    return macs


def _count(module: nn.Module, *inputs: Tensor) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a function of its own while it is imported
        from fvcore.nn import FlopCountAnalysis
    analysis = FlopCountAnalysis(module.eval(), inputs)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.total() / 1e9


def _attention_macs(inputs: list, outputs: list) -> Counter:
    """Multiply-adds of softmax(q k^T) v from the shapes of q (.., Lq, D), k (.., Lk, D) and v (.., Lk, E)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    batch = 1
    for size in q[:-2]:
        batch *= size
    return Counter({"attention": batch * q[-2] * k[-2] * (q[-1] + v[-1])})
