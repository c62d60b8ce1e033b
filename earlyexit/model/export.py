"""A trained detector made fast: normalisations folded, steps compiled, or as ONNX graphs between its exits."""

import copy
import json
import math
import warnings
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from ..files import write_json, write_whole
from .backbone import EXITS, DynPerceiver, Exit
from .detector import EarlyExitRetinaNet
from .exits import check_thresholds, exit_limits, kind_of_rule


def for_inference(model: EarlyExitRetinaNet, *, compiled: bool = False) -> EarlyExitRetinaNet:
    """A copy for inference, with the same detections up to rounding.

    Every batch normalisation behind a convolution becomes part of it: what is left of it after training is one
    multiplication and one addition for each channel, which the weights of the convolution can do.
    Those inside timm's blocks stay: in which order a block runs its parts is its own affair.

    Args:
        compiled: let `torch.compile` build the steps between two exits and the neck and head of each exit. For small
            images on one thread of a CPU that saves 5 to 12 % of the time, see `benchmarks/compiled.json`. The
            first images of a size take a minute or more, and on a CPU it needs a C++ compiler.
    """
    fast = copy.deepcopy(model).eval()
    for block in [module for module in fast.modules() if isinstance(module, nn.Sequential)]:
        for (first, conv), (second, norm) in pairwise(list(block.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block._modules[first] = fuse_conv_bn_eval(conv, norm)
                # Those of timm hold an activation, which is left.
                left = nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity()
                block._modules[second] = left
    if compiled:
        fast.backbone.begin = torch.compile(fast.backbone.begin, dynamic=True)
        fast.backbone.advance = torch.compile(fast.backbone.advance, dynamic=True)
        fast.predict = torch.compile(fast.predict, dynamic=True)
    return fast


@torch.no_grad()
def export_onnx(
    model: EarlyExitRetinaNet,
    folder: str | Path,
    image_size: tuple[int, int] | None = None,
    exits: Iterable[int] = EXITS,
    *,
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> list[Path]:
    """Write the graphs of a detector and their card; takes about a minute. The model is left as it is.

    Args:
        folder: made if it is not there.
        image_size: height and width of the images that the backbone sees, after resizing and padding; by default
            those of a square photo.
        exits: some of 1-4 in increasing order, and 4 always. Nobody can leave at the others.
        classes: names for the card; by default the numbers of the classes.
        thresholds: of the model's rule, for the card: an `OnnxDetector` uses them unless it is told others.

    Returns:
        The files, the card last.

    Raises:
        ValueError: if a package is missing, or `image_size` or `exits` are not as described.
    """
    exits = tuple(exits)
    if 4 not in exits or exits != tuple(k for k in EXITS if k in exits):
        raise ValueError(f"exits must be some of 1-4 in increasing order, 4 among them, got {exits}")
    thresholds = None if thresholds is None else check_thresholds(thresholds)
    _check_exported(exits, exit_limits(thresholds, None))
    height, width = _checked_size(model, image_size)
    check_installed("onnx", "onnxscript")
    # A copy whose graphs are simple: in channels last, strides would be computed in them.
    model = copy.deepcopy(model).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval()
    for read in model.backbone.reads:
        read.pool = MatrixPool(read.pool.output_size)
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
    limits = thresholds and [None if math.isinf(t) else t for t in thresholds]  # None: infinity is no JSON
    return _write(Path(folder), programs, {**card, **_kind_of(model), "thresholds": limits})


def _kind_of(model: EarlyExitRetinaNet) -> dict:
    """What has to be the same in a detector and in that whose graphs it uses; all else is in the graphs."""
    same = {"early": sorted(model.early_necks), "opinions": sorted(model.opinions)}
    return {**same, "exit_target": model.exit_target, "rule": kind_of_rule(model.rule)}


def _check_exported(exported: Collection[int], limits: Sequence[float]) -> None:
    for index, limit in enumerate(limits, start=1):
        if not math.isinf(limit) and index not in exported:
            raise ValueError(
                f"exit {index} was not exported, only {exported}: its threshold must be infinity, got {limits}"
            )


class OnnxDetector(EarlyExitRetinaNet):
    """The detections of a detector that `export_onnx` wrote, with its network in onnxruntime on the CPU.

    It holds graphs instead of weights, runs as many threads as PyTorch does, and cannot be trained.

    Args:
        folder: what `export_onnx` wrote.
        model: the same detector in PyTorch; its resizing, anchors, post-processing and rule are used, its network is
            not.

    Attributes:
        thresholds: those that were exported, None without any.

    Raises:
        ValueError: if onnxruntime is missing, `folder` holds no export, or it is of another kind of detector.
    """

    def __init__(self, folder: str | Path, model: EarlyExitRetinaNet):
        nn.Module.__init__(self)
        check_installed("onnxruntime")
        card = _read_card(Path(folder))
        if len(card["classes"]) != model.num_classes:
            raise ValueError(f"{str(folder)!r} has {len(card['classes'])} classes, the model has {model.num_classes}")
        for name, has in _kind_of(model).items():
            if card.get(name, has) != has:  # older exports do not say it
                raise ValueError(f"{str(folder)!r} is of another detector: its {name} is {card[name]!r}, not {has!r}")
        for name, value in vars(model).items():
            # The settings; nn.Module's own begin with "_", and a model may hold compiled versions of its methods.
            if not name.startswith("_") and not hasattr(type(self), name):
                setattr(self, name, value)
        self.transform, self.anchor_generator, self.rule = model.transform, model.anchor_generator, model.rule
        self.eval()
        self.classes, self.exported, self.levels = card["classes"], card["exits"], card["levels"]
        self.thresholds = card.get("thresholds") and [math.inf if t is None else t for t in card["thresholds"]]
        self.heads = {exit: _Graph(Path(folder) / f"detect_at_exit_{exit}.onnx") for exit in self.exported}
        self.backbone = _Backbone(Path(folder), card, self.heads)

    def forward(
        self, images: Sequence[Tensor], *, thresholds: Sequence[float] | None = None, exit: int | None = None, **more
    ) -> list[dict]:
        """Detections, as those of `EarlyExitRetinaNet.forward` in eval mode, which takes all arguments.

        Without thresholds, an exit or a rule images leave by the thresholds that were exported, if there are some.

        Raises:
            ValueError: if an image could leave at an exit that was not exported, or has another size than those of
                the export after resizing and padding.
        """
        if thresholds is exit is more.get("rule") is None:  # they are of the model's own rule
            thresholds = self.thresholds
        _check_exported(self.exported, exit_limits(thresholds, exit))
        return super().forward(images, thresholds=thresholds, exit=exit, **more)

    def predict(self, reached: Exit) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What the head says at an exit; of the pyramid, of which no more is needed, only the sizes."""
        outputs = self.heads[reached.index](tensors_of(reached))
        return outputs, [torch.empty(0, 1, *size) for size in self.levels[reached.index]]

    def train(self, mode: bool = True) -> "OnnxDetector":
        """Stay in eval mode: graphs cannot be trained."""
        if mode:
            raise ValueError("graphs cannot be trained: train the PyTorch detector and export it, got train(True)")
        return super().train(False)


def check_installed(*packages: str) -> None:
    """`ValueError` that says what to install unless all `packages` are there."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ValueError(f"not installed: {', '.join(missing)}; try: pip install {' '.join(missing)}")


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
        known = dict(zip(self.inputs, inputs, strict=True))
        reached = exit_of(self.start, known) if self.start else self.backbone.begin(*inputs)
        for k in range(self.start + 1, self.stop + 1):
            reached = self.backbone.advance(reached)
            known |= {_maps(k)[-1]: reached.deepest, f"latents_{k}": reached.latents, f"logits_{k}": reached.logits}
        return tuple(known[name] for name in self.outputs)


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


def parts(model: EarlyExitRetinaNet, exits: Sequence[int]) -> dict[str, ToExit | AtExit]:
    """The parts of a detector by name, in the order in which they run; `exits` in increasing order, the last is 4."""
    found, wanted = {}, {f"logits_{k}" for k in EXITS}  # a rule may look at those of exits at which nobody leaves, too
    for start, stop in reversed(list(zip((0, *exits), exits, strict=False))):  # the last first: it says what it reads
        head = AtExit(model, stop).eval()
        wanted |= {*head.inputs}
        step = ToExit(model.backbone, start, stop, wanted).eval()
        wanted |= {*step.inputs}
        found |= {f"detect_at_exit_{stop}": head, f"backbone_to_exit_{stop}": step}
    return dict(reversed(found.items()))


def exit_of(exit: int, known: Mapping[str, Tensor]) -> Exit:
    """An exit from the tensors there, by name; those that nobody looks at may be missing."""
    features = {name[:2]: known[name] for name in _maps(exit) if name in known}
    so_far = tuple(known.get(f"logits_{k}") for k in range(1, exit + 1))
    return Exit(exit, so_far, features, known.get(_told(exit)[0]))


def tensors_of(reached: Exit) -> dict[str, Tensor]:
    """The tensors of an exit by name: what `exit_of` was given."""
    logits = {f"logits_{k}": value for k, value in enumerate(reached.so_far, 1)}
    named = dict(zip(_maps(reached.index), reached.features.values(), strict=True)) | logits
    named[_told(reached.index)[0]] = reached.latents
    return {name: value for name, value in named.items() if value is not None}


def _maps(exit: int) -> tuple[str, ...]:
    """Names of the feature maps at an exit. Exit 4's C5 is made from exit 3's, which has a name of its own, then."""
    return ("c3", "c4", "c5_3" if exit == 3 else "c5")[: min(exit, 3)]


def _told(exit: int) -> tuple[str, str, str]:
    """Names of an exit's latents, of its logits and of those of the last latent classifier before it.

    Exits 1 and 2 have one; the latents stay the same after it. At exit 1 the last of the names is nobody's.
    """
    return f"latents_{min(exit, 2)}", f"logits_{exit}", f"logits_{min(exit - 1, 2)}"


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


def _checked_size(model: EarlyExitRetinaNet, image_size: tuple[int, int] | None) -> tuple[int, int]:
    step, side = model.transform.size_divisible, min(model.transform.min_size[-1], model.transform.max_size)
    given = image_size if isinstance(image_size, Sequence) else (image_size,)
    size = (math.ceil(side / step) * step,) * 2 if image_size is None else tuple(given)
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
        return torch.onnx.export(part, example, dynamo=True, verbose=False, dynamic_shapes=shapes, **names)


def _write(folder: Path, programs: dict, card: dict) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # it is written last: a folder with a card is whole
    for old in (*folder.glob("backbone_to_exit_?.onnx"), *folder.glob("detect_at_exit_?.onnx")):
        old.unlink()  # of exits that are not exported any more
    paths = [write_whole(folder / name, program.save) for name, program in programs.items()]
    return [*paths, write_json(folder / "card.json", card)]


def _read_card(folder: Path) -> dict:
    path = folder / "card.json"
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no card.json: write one with export_onnx")
    try:
        card = json.loads(path.read_text())
        exits, levels = card["exits"], {int(exit): sizes for exit, sizes in card["levels"].items()}
        whole = {**card, "exits": tuple(exits), "levels": {exit: levels[exit] for exit in exits}}
        return {**whole, "classes": list(card["classes"]), "image_size": tuple(card["image_size"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{str(path)!r} is damaged ({said}): write the graphs again with export_onnx") from error


class _Graph:
    """A graph as a function from named tensors to named tensors, on the CPU."""

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Every graph has threads of its own. When it is done, they are not to keep the cores from the next graph.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a kind of its own for every way to be no graph
            what = " ".join(str(error).split())
            raise ValueError(f"{str(path)!r} is no graph that onnxruntime can run: {what:.200}") from error
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, known: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.session.run(self.outputs, {name: known[name].numpy() for name in self.inputs})
        return dict(zip(self.outputs, map(torch.from_numpy, outputs), strict=True))


class _Backbone:
    """The graphs between the exits, with the `exits` of a `DynPerceiver`."""

    def __init__(self, folder: Path, card: dict, heads: dict[int, _Graph]):
        self.image_size = card["image_size"]
        self.graphs = {exit: _Graph(folder / f"backbone_to_exit_{exit}.onnx") for exit in heads}
        self.read_after = {  # by exit: what images that run on take with them
            exit: {name for k in heads if k > exit for graph in (self.graphs[k], heads[k]) for name in graph.inputs}
            for exit in heads
        }

    def exits(self, images: Tensor) -> Generator[Exit, Tensor | None, None]:
        """The exits that were exported, lazily; takes what `DynPerceiver.exits` takes."""
        if images.shape[-2:] != self.image_size:
            raise ValueError(
                f"these graphs are for images of {self.image_size} pixels (height, width) after resizing and padding, "
                f"got {tuple(images.shape[-2:])}: export with this image_size"
            )
        known = {"images": images.float().cpu()}
        for exit, graph in self.graphs.items():
            known |= graph(known)
            keep = yield exit_of(exit, known)
            # Logits stay for rules that look at those of earlier exits.
            kept = {name for name in known if name.startswith("logits")} | self.read_after[exit]
            known = {name: value for name, value in known.items() if name in kept}
            if keep is not None:
                known = {name: value[keep] for name, value in known.items()}
