"""A detector whose network runs in onnxruntime; the rest of it is the PyTorch detector's own code."""

import json
import math
from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .backbone import Exit
from .detector import EarlyExitRetinaNet
from .onnx_export import check_installed
from .onnx_parts import exit_of, tensors_of
from .thresholds import exit_limits


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
            known = {name: value for name, value in known.items() if name in self.read_after[exit]}
            if keep is not None:
                known = {name: value[keep] for name, value in known.items()}


class OnnxDetector(EarlyExitRetinaNet):
    """The detections of a detector that `export_onnx` wrote, with its network in onnxruntime on the CPU.

    It holds graphs instead of weights, runs as many threads as PyTorch does, and cannot be trained.

    Args:
        folder: what `export_onnx` wrote.
        model: the same detector in PyTorch. Its resizing, its anchors and its settings of the post-processing are
            used; its network is not.

    Raises:
        ValueError: if onnxruntime is missing, `folder` holds no export, or it is of another kind of detector.
    """

    def __init__(self, folder: str | Path, model: EarlyExitRetinaNet):
        nn.Module.__init__(self)
        check_installed("onnxruntime")
        card = _read_card(Path(folder))
        if len(card["classes"]) != model.num_classes:
            raise ValueError(f"{str(folder)!r} has {len(card['classes'])} classes, the model has {model.num_classes}")
        for name, value in vars(model).items():
            # The settings; nn.Module's own begin with "_", and a model may hold compiled versions of its methods.
            if not name.startswith("_") and not hasattr(type(self), name):
                setattr(self, name, value)
        self.transform, self.anchor_generator = model.transform, model.anchor_generator
        self.eval()
        self.classes, self.exported, self.levels = card["classes"], card["exits"], card["levels"]
        self.heads = {exit: _Graph(Path(folder) / f"detect_at_exit_{exit}.onnx") for exit in self.exported}
        self.backbone = _Backbone(Path(folder), card, self.heads)

    def forward(
        self, images: Sequence[Tensor], *, thresholds: Sequence[float] | None = None, exit: int | None = None, **more
    ) -> list[dict]:
        """Detections, as those of `EarlyExitRetinaNet.forward` in eval mode, which takes all arguments.

        Raises:
            ValueError: if an image could leave at an exit that was not exported, or has another size than those of
                the export after resizing and padding.
        """
        for index, limit in enumerate(exit_limits(thresholds, exit), start=1):
            if not math.isinf(limit) and index not in self.exported:
                raise ValueError(
                    f"exit {index} was not exported, only {self.exported}: its threshold must be infinity, "
                    f"got thresholds={thresholds} and exit={exit}"
                )
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
