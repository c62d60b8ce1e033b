"""What leaving early saves: multiply-adds by part and exit, and measured time beside them."""

import numpy as np
import torch

from ..backbone import NUM_EXITS
from ..compute import count_macs
from ..data.coco import CocoDataset
from ..detector import EarlyExitRetinaNet
from ..factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from ..neck import FILLERS
from ..records import measure_latency
from .estimates import estimate

PAPER_SIZE = (800, 1216)  # a photo of 3:2, resized to 1333x800 at most and padded to a multiple of 32
NANO_SIZE = (128, 128)
ROUNDS = 5
_SAME = ("repeats", "height", "width", "threads", "device")


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


def latency_table(
    model: EarlyExitRetinaNet, dataset: CocoDataset, *, rounds: int = ROUNDS, turns: int = 10
) -> list[dict]:
    """Time of an image at each exit: nano on test images, the paper's detector at 800x1216 with random weights.

    The paper's detector runs one image at a time on a CPU, where a batch of sixteen takes minutes and saves nothing.

    Args:
        model: a nano detector, on the device that is timed.
        dataset: its images.
        rounds: both detectors are timed so often, by turns: what differs from round to round is noise of the machine.
        turns: of nano in each round; the paper's detector takes a third of them on a CPU.

    Returns:
        Rows of "model", "batch_size", "exit", the medians over rounds of "median_ms" and "p95_ms" of an image, and the
        saving against exit 4 in percent: "gmacs_saved" of multiply-adds and "time_saved" of the median time, with the
        95 % interval "low" to "high" over rounds.
    """
    device = next(model.parameters()).device
    big, photo = paper_detector().to(device), [torch.rand(3, 800, 1200, generator=torch.Generator().manual_seed(0))]
    big_turns, batches = (max(1, turns // 3), (1,)) if device.type == "cpu" else (turns, (1, 16))
    found: dict[tuple, list[dict]] = {}
    for _ in range(rounds):
        timed = {"nano": measure_latency(model, same_size(dataset), repeats=turns, warmup=2)}
        timed["regnet_y_800mf"] = measure_latency(big, photo, batch_sizes=batches, repeats=big_turns, warmup=1)
        for name, rows in timed.items():
            for row in rows:
                found.setdefault((name, row["batch_size"], row["exit"]), []).append(row)
    return [_over_rounds(key, rows, found[(*key[:2], NUM_EXITS)]) for key, rows in found.items()]


def _over_rounds(key: tuple[str, int, int], rows: list[dict], full: list[dict]) -> dict:
    """A row of the table from those of a detector, batch size and exit, and those of its exit 4."""
    saved = [100 * (1 - a["median_ms"] / b["median_ms"]) for a, b in zip(rows, full, strict=True)]
    time = estimate(saved, [[value] for value in saved])  # no images are drawn, rounds take the place of seeds
    row = dict(zip(("model", "batch_size", "exit"), key, strict=True))
    row |= {name: round(float(np.median([r[name] for r in rows])), 3) for name in ("median_ms", "p95_ms")}
    row |= {"gmacs": round(rows[0]["gmacs"], 6)}
    row |= {"gmacs_saved": round(100 * (1 - rows[0]["gmacs"] / full[0]["gmacs"]), 2)}
    row |= {"time_saved": round(time.mean, 2), "low": round(time.low, 2), "high": round(time.high, 2)}
    return {**row, "rounds": len(rows), **{name: rows[0][name] for name in _SAME}}


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
