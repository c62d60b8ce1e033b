"""What can be watched while a training runs: validation, a picture of detections an epoch, TensorBoard."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from .data.coco import CocoDataset
from .evaluation import coco_metrics, detect_all
from .plots import TRUTH_COLOUR, draw_boxes, draw_detection, image_grid, save_figure
from .processes import process_state

PICTURED = 8  # images in the picture of an epoch


class Watcher:
    """The callbacks of one training; see `earlyexit.fitting.fit`.

    Args:
        out: the run's folder; pictures go to `pictures/`, TensorBoard's files to `tensorboard/`.
        shown: images to draw; None: no pictures.
        validation: measured after each epoch at full depth, over all processes; None: not measured.
        tensorboard: write losses, metrics and pictures for TensorBoard, too.
    """

    def __init__(
        self,
        out: Path,
        *,
        shown: CocoDataset | None = None,
        validation: CocoDataset | None = None,
        tensorboard: bool = False,
    ):
        self.out, self.shown, self.validation = out, shown, validation
        self.board, self.steps = None, 0
        self._writer = _tensorboard() if tensorboard else None

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Metrics of the epoch for its row in the log; draws the picture on the way."""
        if self.shown is not None and process_state().is_main_process:
            path = self.out / "pictures" / f"epoch-{epoch:03}.png"
            path.parent.mkdir(exist_ok=True)
            draw_examples(model, self.shown, path)
            if self.board:
                self.board.add_image("detections", plt.imread(path)[..., :3], self.steps, dataformats="HWC")
        if self.validation is None:
            return {}
        rows = detect_all(model, self.validation, None, None, batch_size=8)
        metrics = coco_metrics(self.validation, [d for row in rows for d in row.found])
        return {name: value for name, value in metrics.items() if value is not None}

    def on_step(self, step: int, losses: dict[str, float]) -> None:
        """Losses of a step; TensorBoard has all it gets at the number of steps that are done."""
        if self._writer is None:
            return
        self.steps = step + 1
        if self.board is None:  # purge_step: a resumed run takes the place of what came after its checkpoint
            self.board = self._writer(str(self.out / "tensorboard"), purge_step=self.steps)
        for name, value in losses.items():
            self.board.add_scalar(f"step/{name}", value, self.steps)

    def on_epoch(self, row: dict[str, float]) -> None:
        """Means of an epoch."""
        if self.board:
            for name, value in row.items():
                self.board.add_scalar(f"epoch/{name}", value, self.steps)
            self.board.flush()


def draw_examples(model: nn.Module, dataset: CocoDataset, path: Path, *, min_score: float = 0.3) -> None:
    """Draw the first images of `dataset` with what the model finds (solid) and what is there (dashed)."""
    device = next(model.parameters()).device
    samples = [dataset[i] for i in range(min(PICTURED, len(dataset)))]
    model.eval()
    figure, axes = image_grid(len(samples), columns=4, size=3)
    for ax, (image, target) in zip(axes, samples, strict=True):
        with torch.inference_mode():
            detection = model([image.to(device)])[0]
        on_cpu = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in detection.items()}
        draw_detection(ax, image, on_cpu, dataset.classes, min_score=min_score)
        draw_boxes(ax, target["boxes"], [""] * len(target["boxes"]), colour=TRUTH_COLOUR, dashed=True)
    try:
        save_figure(figure, path, format="png", dpi=80)
    finally:
        plt.close(figure)


def _tensorboard():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter
