"""A detector as ONNX graphs, one for each part between two exits, so that early exit saves time outside PyTorch, too.

For each exit K there are two graphs: `backbone_to_exit_K.onnx` goes on from the exit before, `detect_at_exit_K.onnx` is
the neck and the head there. `card.json` says what goes in and comes out; a name stands for the same tensor in all
graphs. Resizing and post-processing are not in the graphs, see `OnnxDetector`. A batch may have any number of images;
their height and width are those of the export.
"""

import copy
import json
import math
import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from .detector import EarlyExitRetinaNet
from .files import write_whole
from .onnx_parts import AtExit, MatrixPool, parts

EXITS = (1, 2, 3, 4)


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
        exits: some of 1-4 in increasing order, and 4 always. Nobody can leave at the others.
        classes: names for the card; by default the numbers of the classes.

    Returns:
        The files, the card last.

    Raises:
        ValueError: if a package is missing, or `image_size` or `exits` are not as described.
    """
    exits = tuple(exits)
    if 4 not in exits or exits != tuple(k for k in EXITS if k in exits):
        raise ValueError(f"exits must be some of 1-4 in increasing order, 4 among them, got {exits}")
    height, width = _checked_size(model, image_size)
    check_installed("onnx", "onnxscript")
    model = _exportable(model)
    known = {"images": torch.zeros(2, 3, height, width)}  # an example of every tensor between two graphs
    graphs, programs, levels = {}, {}, {}
    for name, part in parts(model, exits).items():
        example = tuple(known[name] for name in part.inputs)
        known.update(zip(part.outputs, part(*example), strict=True))
        if isinstance(part, AtExit):
            levels[part.exit] = [list(level.shape[-2:]) for level in model.predict(part.reached(*example))[1]]
        programs[f"{name}.onnx"] = _program(part, example)
        graphs[f"{name}.onnx"] = {"inputs": part.inputs, "outputs": part.outputs}
    names = list(classes or map(str, range(model.num_classes)))
    card = {"classes": names, "image_size": (height, width), "exits": exits, "graphs": graphs, "levels": levels}
    return _write(Path(folder), programs, card)


def check_installed(*packages: str) -> None:
    """`ValueError` that says what to install unless all `packages` are there."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ValueError(f"not installed: {', '.join(missing)}; try: pip install {' '.join(missing)}")


def _checked_size(model: EarlyExitRetinaNet, image_size: tuple[int, int] | None) -> tuple[int, int]:
    step, side = model.transform.size_divisible, min(model.transform.min_size[-1], model.transform.max_size)
    size = (math.ceil(side / step) * step,) * 2 if image_size is None else tuple(image_size)
    if len(size) != 2 or any(type(n) is not int or n < step or n % step for n in size):
        raise ValueError(f"image_size must be (height, width), multiples of {step}, got {image_size}")
    return size


def _exportable(model: EarlyExitRetinaNet) -> EarlyExitRetinaNet:
    """A copy with the same results whose graphs are simple; in channels last, strides would be computed in them."""
    model = copy.deepcopy(model).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval()
    for read in model.backbone.reads:
        read.pool = MatrixPool(read.pool.output_size)
    return model


def _program(part: nn.Module, example: tuple[Tensor, ...]):
    batch = torch.export.Dim("batch")
    shapes = (tuple({0: batch} for _ in example),)
    names = {"input_names": part.inputs, "output_names": part.outputs}
    with warnings.catch_warnings():
        # All inputs have the same batch size, and it has one name: that is what is wanted.
        warnings.filterwarnings("ignore", ".*axis name: batch will not be used", UserWarning)
        return torch.onnx.export(part, example, dynamo=True, verbose=False, dynamic_shapes=shapes, **names)


def _write(folder: Path, programs: dict, card: dict) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # it is written last: a folder with a card is whole
    for old in (*folder.glob("backbone_to_exit_?.onnx"), *folder.glob("detect_at_exit_?.onnx")):
        old.unlink()  # of exits that are not exported any more
    paths = [write_whole(folder / name, program.save) for name, program in programs.items()]
    text = json.dumps(card, indent=1) + "\n"
    return [*paths, write_whole(folder / "card.json", lambda temporary: temporary.write_text(text))]
