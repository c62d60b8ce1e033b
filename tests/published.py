"""Weights and inputs made from names and shapes, with which the figures in `parity/` were measured."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARITY = Path(__file__).parent / "parity"


def normal(text: str, shape) -> np.ndarray:
    """Standard normal float32 numbers that depend on `text` and `shape` alone."""
    generator = np.random.RandomState(zlib.crc32(text.encode()))
    return generator.standard_normal(tuple(shape)).astype(np.float32)


def make_weight(name: str, shape: list[int]) -> Tensor:
    """The weight called `name` (with its module in front), of a size at which activations stay near 1."""
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    noise = normal(name, shape)
    if last == "running_var":
        noise = 1 + 0.1 * np.abs(noise)
    elif last == "running_mean":
        noise = 0.1 * noise
    elif last in ("latent", "relative_position_bias"):
        noise = 0.2 * noise
    elif len(shape) > 1:  # of a linear layer or a convolution: divided by the root of its fan-in
        noise = noise / np.sqrt(np.prod(shape[1:]))
    elif last == "weight":  # of a normalisation layer
        noise = 1 + 0.1 * noise
    else:  # a bias
        noise = 0.1 * noise
    return torch.from_numpy(np.asarray(noise, dtype=np.float32, order="C"))


def make_state(module: str) -> dict[str, Tensor]:
    """A state dict for "backbone", "neck" or "head" under the published names."""
    shapes = json.loads((PARITY / "manifest.json").read_text())[module]
    return {name: make_weight(f"{module}.{name}", shape) for name, shape in shapes.items()}


def make_image(tag: str, *shape: int) -> Tensor:
    """A batch (N, 3, H, W) as the backbone sees it, after normalisation."""
    return torch.from_numpy(normal(tag, shape))


def probe(tensor: Tensor, count: int = 256) -> np.ndarray:
    """At most `count` values of a tensor, evenly spread from its first to its last."""
    values = tensor.detach().contiguous().flatten().numpy()
    positions = np.linspace(0, len(values) - 1, min(count, len(values)))
    return values[positions.astype(np.int64)]
