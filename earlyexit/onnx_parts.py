"""A detector cut at its exits: the backbone between two of them, and neck and head at each, as functions of tensors.

Every tensor between two parts has a name, which stands for the same tensor in all of them.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from .backbone import DynPerceiver, Exit, State
from .detector import EarlyExitRetinaNet


class ToExit(nn.Module):
    """The backbone from the exit `start` (0: from the images) to `stop`; of all that it makes, what is `wanted`."""

    def __init__(self, backbone: DynPerceiver, start: int, stop: int, wanted: Collection[str]):
        super().__init__()
        self.backbone, self.start, self.stop = backbone, start, stop
        last = min(start, 2)  # the last exit with a latent classifier
        self.inputs = (_maps(start)[-1], f"latents_{last}", f"logits_{last}") if start else ("images",)
        if (start, stop) == (2, 3):
            self.inputs = self.inputs[:1]  # no latents take part in this step
        made = [name for k in range(start + 1, stop + 1) for name in (_maps(k)[-1], f"latents_{k}", f"logits_{k}")]
        self.outputs = tuple(name for name in made if name in wanted)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors `inputs` give the tensors `outputs`."""
        if self.start == 0:
            state = self.backbone.begin(*inputs)
        else:
            x, latents, logits = (*inputs, None, None)[:3]
            state = State(x, latents, {}, logits)
        made = {}
        for k in range(self.start + 1, self.stop + 1):
            reached, state = self.backbone.advance(state, k)
            made |= {_maps(k)[-1]: state.x, f"latents_{k}": state.latents, f"logits_{k}": reached.logits}
        return tuple(made[name] for name in self.outputs)


class AtExit(nn.Module):
    """Neck and head at an exit, on its maps, on the latents (a neck of its own) and on logits (a class opinion)."""

    outputs = ("cls_logits", "bbox_regression")

    def __init__(self, model: EarlyExitRetinaNet, exit: int):
        super().__init__()
        self.model, self.exit = model, exit
        latents, *said = _told(exit)
        said = said[: min(exit, 2)] if str(exit) in model.opinions else []
        self.inputs = (*_maps(exit), *([latents] if str(exit) in model.early_necks else []), *said)

    def reached(self, *inputs: Tensor) -> Exit:
        """The exit, from the tensors `inputs`."""
        return exit_of(self.exit, dict(zip(self.inputs, inputs, strict=True)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors `inputs` give the tensors `outputs`."""
        outputs, _ = self.model.predict(self.reached(*inputs))
        return tuple(outputs[name] for name in self.outputs)


class MatrixPool(nn.Module):
    """`AdaptiveAvgPool2d` as two matrix products.

    ONNX has no such pooling. What the exporter makes of it gathers every pixel of every cell, which took 28% of
    the nano backbone's time up to exit 1 at 128 pixels.
    """

    def __init__(self, cells: int):
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, cells, cells)."""
        height, width = (self._means(size).to(x) for size in x.shape[-2:])
        return height @ x @ width.T

    def _means(self, size: int) -> Tensor:
        """(cells, size), each row the mean over its cell; cells overlap where `size` is no multiple of `cells`."""
        limits = [(i * size // self.cells, -(-(i + 1) * size // self.cells)) for i in range(self.cells)]
        return torch.tensor([[(a <= k < b) / (b - a) for k in range(size)] for a, b in limits])


def parts(model: EarlyExitRetinaNet, exits: Sequence[int]) -> dict[str, ToExit | AtExit]:
    """The parts of a detector by name, in the order in which they run; `exits` in increasing order, the last is 4."""
    found, wanted = {}, set()
    for start, stop in reversed(list(zip((0, *exits), exits, strict=False))):  # the last first: it says what it reads
        head = AtExit(model, stop).eval()
        wanted |= {f"logits_{stop}", *head.inputs}
        step = ToExit(model.backbone, start, stop, wanted).eval()
        wanted |= {*step.inputs}
        found |= {f"detect_at_exit_{stop}": head, f"backbone_to_exit_{stop}": step}
    return dict(reversed(found.items()))


def exit_of(exit: int, known: Mapping[str, Tensor]) -> Exit:
    """An exit from the tensors there, by name; latents and logits that nobody looks at may be missing."""
    features = {name[:2]: known[name] for name in _maps(exit)}
    latents, logits, before = map(known.get, _told(exit))
    return Exit(exit, logits, features, before=before, latents=latents)


def tensors_of(reached: Exit) -> dict[str, Tensor]:
    """The tensors of an exit by name: what `exit_of` was given."""
    names = (*_maps(reached.index), *_told(reached.index))
    values = (*reached.features.values(), reached.latents, reached.logits, reached.before)
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _maps(exit: int) -> tuple[str, ...]:
    """Names of the feature maps at an exit. Exit 4's C5 is made from exit 3's, which has a name of its own, then."""
    return ("c3", "c4", "c5_3" if exit == 3 else "c5")[: min(exit, 3)]


def _told(exit: int) -> tuple[str, str, str]:
    """Names of an exit's latents, of its logits and of those of the last latent classifier before it.

    Exits 1 and 2 have one; the latents stay the same after it. At exit 1 the last of the names is nobody's.
    """
    return f"latents_{min(exit, 2)}", f"logits_{exit}", f"logits_{min(exit - 1, 2)}"
