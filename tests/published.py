"""Weights and inputs made from names and shapes, with which the figures in `parity/` were measured, and the figures."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from earlyexit import dyn_retinanet_regnet_y_800mf, load_published_weights

PARITY = Path(__file__).parent / "parity"
SHAPES = {"square": (2, 3, 224, 224), "wide": (1, 3, 256, 320)}


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
    values = tensor.detach().float().cpu().contiguous().flatten().numpy()
    positions = np.linspace(0, len(values) - 1, min(count, len(values)))
    return values[positions.astype(np.int64)]


def published_detector():
    """The paper's detector with the weights of the figures."""
    model = dyn_retinanet_regnet_y_800mf(80).eval()
    left = load_published_weights(model, **{part: make_state(part) for part in ("backbone", "neck", "head")})
    assert left == []
    return model


def figures_of(model, tag):
    """The figures of one image, by their keys in `figures.npz`, from a model on any device."""
    image = make_image(tag, *SHAPES[tag]).to(next(model.parameters()).device)
    for number, logits in enumerate(model.backbone(image), start=1):
        yield f"{tag}/logits/{number}", logits.float().cpu().numpy()
    for reached in model.backbone.exits(image):
        place = f"{tag}/exit{reached.index}"
        yield f"{place}/feature_shapes", np.array([f.shape for f in reached.features.values()])
        for name, feature in reached.features.items():
            yield f"{place}/{name}", probe(feature)
        yield from pyramid_of(model, reached.features, f"{place}/downsample")
        if reached.index <= 2:
            model.neck.filler = "zero"
            without_shapes = pyramid_of(model, reached.features, f"{place}/zero")
            yield from ((key, value) for key, value in without_shapes if not key.endswith("_shape"))
            model.neck.filler = "downsample"


def pyramid_of(model, features, place):
    classes, boxes = model.head.classification_head, model.head.regression_head
    for name, level in model.neck(features).items():
        yield f"{place}/{name}", probe(level)
        yield f"{place}/{name}_shape", np.array(level.shape)
        yield f"{place}/cls{name[1]}", probe(classes.cls_logits(classes.conv(level)))
        yield f"{place}/reg{name[1]}", probe(boxes.bbox_reg(boxes.conv(level)))
