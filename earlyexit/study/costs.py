"""What leaving early saves: multiply-adds by part and exit, and measured time beside them."""

import torch

from ..compute import count_macs
from ..data.coco import CocoDataset
from ..detector import EarlyExitRetinaNet
from ..factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from ..neck import FILLERS
from ..records import measure_latency

PAPER_SIZE = (800, 1216)  # a photo of 3:2, resized to 1333x800 at most and padded to a multiple of 32
NANO_SIZE = (128, 128)
_PAPER_TURNS = {"cpu": 5, "cuda": 30}


def compute_table(model: EarlyExitRetinaNet) -> list[dict]:
    """GMACs by part and exit of the nano detector and of the paper's at 800x1216, under both fillers.

    Args:
        model: a nano detector, of the classes of the study.

    Returns:
        Rows of "model", "height", "width", "filler", "exit", "part" ("backbone", "neck", "head p3", ..., "total") and
        "gmacs".
    """
    rows = []
    for name, detector, size in (("nano", model, NANO_SIZE), ("regnet_y_800mf", paper_detector(), PAPER_SIZE)):
        before = detector.neck.filler
        for filler in FILLERS:
            detector.neck.filler = filler
            for exit, parts in count_macs(detector, size).items():
                kept = {"model": name, "height": size[0], "width": size[1], "filler": filler, "exit": exit}
                rows += [{**kept, "part": part, "gmacs": round(gmacs, 6)} for part, gmacs in parts.items()]
        detector.neck.filler = before
    return rows


def latency_table(model: EarlyExitRetinaNet, dataset: CocoDataset, *, turns: int = 50) -> list[dict]:
    """Time of an image at each exit: nano on test images, the paper's detector at 800x1216 with random weights.

    The paper's detector runs one image at a time on a CPU, where a batch of sixteen takes minutes and saves nothing.

    Returns:
        Rows of `records.measure_latency` with "model" and the saving against exit 4, in percent, of multiply-adds
        ("gmacs_saved") and of the median time ("time_saved").
    """
    device = next(model.parameters()).device
    torch.manual_seed(0)
    photo = [torch.rand(3, 800, 1200)]
    big, batches = paper_detector().to(device), (1,) if device.type == "cpu" else (1, 16)
    repeats = min(turns, _PAPER_TURNS[device.type])
    rows = [{"model": "nano", **row} for row in measure_latency(model, same_size(dataset), repeats=turns)]
    found = measure_latency(big, photo, batch_sizes=batches, repeats=repeats, warmup=1)
    rows += [{"model": "regnet_y_800mf", **row} for row in found]
    full = {(row["model"], row["batch_size"]): row for row in rows if row["exit"] == 4}
    for row in rows:
        last = full[row["model"], row["batch_size"]]
        row["gmacs_saved"] = round(100 * (1 - row["gmacs"] / last["gmacs"]), 2)
        row["time_saved"] = round(100 * (1 - row["median_ms"] / last["median_ms"]), 2)
    for row, name, digits in ((row, *what) for row in rows for what in (("median_ms", 3), ("p95_ms", 3), ("gmacs", 6))):
        row[name] = round(row[name], digits)
    return rows


def nano_detector(num_classes: int, weights: str | None = None) -> EarlyExitRetinaNet:
    """The detector that is timed beside the paper's, in eval mode."""
    torch.manual_seed(0)
    return dyn_retinanet_nano(num_classes, weights=weights).eval()


def paper_detector() -> EarlyExitRetinaNet:
    """The paper's detector for COCO with random weights, in eval mode."""
    torch.manual_seed(0)
    return dyn_retinanet_regnet_y_800mf(80).eval()


def same_size(dataset: CocoDataset, most: int = 64) -> list[torch.Tensor]:
    """Up to `most` images of the most common size, in the order of their ids."""
    sizes = [(dataset.coco.imgs[i]["height"], dataset.coco.imgs[i]["width"]) for i in dataset.ids]
    common = max(sizes, key=sizes.count)
    positions = [number for number, size in enumerate(sizes) if size == common][:most]
    return [dataset[number][0] for number in positions]
