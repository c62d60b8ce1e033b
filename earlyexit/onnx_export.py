"""A detector as ONNX graphs, one for each part between two exits, so that early exit saves time outside PyTorch, too.

For each exit K there are two graphs: `backbone_to_exit_K.onnx` goes on from the exit before, `detect_at_exit_K.onnx` is
the neck and the head there. `card.json` says what goes in and comes out. Resizing and post-processing are not in the
graphs, see `OnnxDetector`. A batch may have any number of images; their height and width are those of the export.
"""

import copy
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from .backbone import DynPerceiver, Exit, State
from .detector import EarlyExitRetinaNet
from .files import write_whole

EXITS = (1, 2, 4)
_MAPS = {0: 0, 1: 1, 2: 2, 4: 3}  # how many of C3-C5 are there at an exit; 0 is the start


class _ToExit(nn.Module):
    """The backbone from the exit `start` (0: from the images) to `stop`: its new maps, the latents and the logits."""

    def __init__(self, backbone: DynPerceiver, start: int, stop: int, maps: Sequence[str]):
        super().__init__()
        self.backbone, self.start, self.stop = backbone, start, stop
        self.inputs = ("images",) if start == 0 else (maps[_MAPS[start] - 1], f"latents_{start}", f"logits_{start}")
        self.maps = tuple(maps[_MAPS[start] : _MAPS[stop]])
        self.outputs = (*self.maps, *([f"latents_{stop}"] if stop < 4 else []), f"logits_{stop}")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.start == 0:
            state = self.backbone.begin(*inputs)
        else:
            x, latents, logits = inputs
            state = State(x, latents, {}, logits)
        for index in range(self.start + 1, self.stop + 1):
            reached, state = self.backbone.advance(state, index)
        made = [reached.features[name] for name in self.maps]
        return (*made, *([state.latents] if self.stop < 4 else []), reached.logits)


class _AtExit(nn.Module):
    """Neck and head at an exit, on the maps and, where there is a class opinion, the logits of that exit."""

    outputs = ("cls_logits", "bbox_regression")

    def __init__(self, model: EarlyExitRetinaNet, exit: int):
        super().__init__()
        self.model, self.exit, self.maps = model, exit, model.neck.names[: _MAPS[exit]]
        self.inputs = (*self.maps, *([f"logits_{exit}"] if str(exit) in model.opinions else []))

    def reached(self, *inputs: Tensor) -> Exit:
        """The exit with these inputs; without an opinion its logits are not looked at."""
        return Exit(self.exit, inputs[-1], dict(zip(self.maps, inputs, strict=False)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, _ = self.model.predict(self.reached(*inputs))
        return tuple(outputs[name] for name in self.outputs)


@torch.no_grad()
def export_onnx(
    model: EarlyExitRetinaNet,
    folder: str | Path,
    image_size: tuple[int, int] | None = None,
    exits: Iterable[int] = EXITS,
    *,
    classes: Sequence[str] | None = None,
) -> list[Path]:
    """Write the graphs of a detector and their card; takes about a minute. The model is left as it is.

    Args:
        model: the detector.
        folder: made if it is not there.
        image_size: height and width of the images that the backbone sees, after resizing and padding; by default
            those of a square photo.
        exits: some of 1, 2 and 4, and 4 always. Nobody can leave at the others.
        classes: names for the card; by default the numbers of the classes.

    Returns:
        The files, the card last.

    Raises:
        ValueError: if a package is missing, or `image_size` or `exits` are not as described.
    """
    exits = tuple(exits)
    if exits not in ((4,), (1, 4), (2, 4), EXITS):
        raise ValueError(f"exits must be some of 1, 2 and 4 in this order, 4 among them, got {exits}")
    height, width = _checked_size(model, image_size)
    check_installed("onnx", "onnxscript")
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    known = {"images": torch.zeros(2, 3, height, width)}  # an example of every tensor between two graphs
    graphs, programs, levels = {}, {}, {}
    for name, part in _parts(model, exits):
        example = tuple(known[name] for name in part.inputs)
        known.update(zip(part.outputs, part(*example), strict=True))
        if isinstance(part, _AtExit):
            levels[part.exit] = [list(level.shape[-2:]) for level in model.predict(part.reached(*example))[1]]
        programs[name] = _program(part, example)
        graphs[name] = {"inputs": part.inputs, "outputs": part.outputs}
    names = list(classes or map(str, range(model.num_classes)))
    card = {"classes": names, "image_size": (height, width), "exits": exits, "graphs": graphs, "levels": levels}
    return _write(Path(folder), programs, card)


def check_installed(*packages: str) -> None:
    """`ValueError` that says what to install unless all `packages` are there."""
    for package in packages:
        if find_spec(package) is None:
            raise ValueError(f'the package {package} is missing: pip install "earlyexit[onnx]"')


def _parts(model: EarlyExitRetinaNet, exits: Sequence[int]) -> Iterator[tuple[str, nn.Module]]:
    for start, stop in zip((0, *exits), exits, strict=False):
        yield f"backbone_to_exit_{stop}.onnx", _ToExit(model.backbone, start, stop, model.neck.names).eval()
        yield f"detect_at_exit_{stop}.onnx", _AtExit(model, stop).eval()


def _checked_size(model: EarlyExitRetinaNet, image_size: tuple[int, int] | None) -> tuple[int, int]:
    step, side = model.transform.size_divisible, min(model.transform.min_size[-1], model.transform.max_size)
    size = (math.ceil(side / step) * step,) * 2 if image_size is None else tuple(image_size)
    if len(size) != 2 or any(type(n) is not int or n < step or n % step for n in size):
        raise ValueError(f"image_size must be (height, width), multiples of {step}, got {image_size}")
    return size


def _program(part: nn.Module, example: tuple[Tensor, ...]):
    batch = torch.export.Dim("batch")
    shapes = (tuple({0: batch} for _ in example),)
    names = {"input_names": part.inputs, "output_names": part.outputs}
    with warnings.catch_warnings():
        # All inputs have the same batch size, and it has one name: that is what is wanted.
        warnings.filterwarnings("ignore", ".*axis name: batch will not be used", UserWarning)
        # The older exporter (dynamo=False) cannot pool to 7 x 7 where 7 does not divide the map.
        return torch.onnx.export(part, example, dynamo=True, verbose=False, dynamic_shapes=shapes, **names)


def _write(folder: Path, programs: dict, card: dict) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # it is written last: a folder with a card is whole
    paths = [write_whole(folder / name, program.save) for name, program in programs.items()]
    text = json.dumps(card, indent=1) + "\n"
    return [*paths, write_whole(folder / "card.json", lambda temporary: temporary.write_text(text))]
