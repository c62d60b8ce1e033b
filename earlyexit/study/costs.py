"""What leaving early costs and saves: multiply-adds by part and exit, and measured time beside them.

Each time is that of the whole detector, from images to boxes, unless it is said by part.
"""

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.coco import CocoDataset
from ..evaluation.cost import count_macs, measure_latency
from ..model.backbone import NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.export import OnnxDetector, export_onnx, for_inference
from ..model.factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from ..model.inputs import same_size_batches
from ..model.necks import FILLERS
from .estimates import estimate

PAPER_SIZE = (800, 1216)  # a photo of 3:2, resized to 1333x800 at most and padded to a multiple of 32
NANO_SIZE = (128, 128)
ROUNDS = 5
_SAME = ("repeats", "height", "width", "threads", "device")
Detect = Callable[[list[Tensor]], object]


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


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """The time of a call; a GPU runs behind, so it finishes what came before first, and then the call's own work."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - started


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread while it lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def time_ratio(
    early: Detect, full: Detect, images: Sequence[Tensor], batch_size: int, *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Time with thresholds divided by time at full depth, the two taking turns batch by batch on the same images.

    Args:
        early, full: detectors to call with a list of images.
        images: where they are needed; what is left over by whole batches is not used.
        batch_size: images in a call.
        rounds: passes over the images; the ratio of each is one value, and what differs is noise of the machine.

    Returns:
        "mean", "low" and "high" of the ratio over rounds, and "ms" and "ms_full", medians of an image.
    """
    batches = [list(images[i : i + batch_size]) for i in range(0, len(images) - batch_size + 1, batch_size)]
    if not batches or rounds < 1:
        raise ValueError(
            f"at least one batch of {batch_size} images and one round are needed, got {len(images)} images"
        )
    for _ in range(2):
        early(batches[0])
        full(batches[0])
    sums = np.zeros((rounds, 2))
    for row in sums:
        for batch in batches:
            row += [seconds(lambda r=run, b=batch: r(b), batch[0].device) for run in (early, full)]
    ratios = (sums[:, 0] / sums[:, 1]).tolist()
    found = estimate(ratios, [[value] for value in ratios]).rounded(4)
    ms, ms_full = 1000 * np.median(sums, axis=0) / (len(batches) * batch_size)
    return {**found, "ms": round(float(ms), 3), "ms_full": round(float(ms_full), 3)}


@torch.inference_mode()
def times_of_budgets(
    model: EarlyExitRetinaNet, images: Sequence[Tensor], budgets: Sequence[dict], *, rounds: int = ROUNDS
) -> list[dict]:
    """Time of the thresholds for several budgets against full depth, beside what they keep of the mAP.

    On a CPU it is measured with one thread, as a server runs one process on each core: the threads of PyTorch and of
    onnxruntime in one process would take the cores from one another.

    Args:
        model: in eval mode, on the device that is timed; onnxruntime is timed too if that is a CPU.
        images: of one size, a multiple of 16, so many that the exits taken are those of the split.
        budgets: rows of "budget", "thresholds" (None for never), "share" and "kept", as `measure` finds them.
        rounds: see `time_ratio`.

    Returns:
        Rows of "budget", "share", "kept" and "times", what `time_ratio` gave for "batch1", "batch16", "onnx batch1" and
        "onnx batch16".
    """
    device = next(model.parameters()).device
    ready = [image.to(device) for image in images]
    with tempfile.TemporaryDirectory() as folder, one_thread():
        ways: dict[str, Callable] = {"": for_inference(model)}
        if device.type == "cpu":
            export_onnx(model, folder, tuple(model.transform([ready[0]])[0].tensors.shape[-2:]))
            ways["onnx "] = OnnxDetector(folder, model)
        rows = []
        for budget in budgets:
            thresholds = [math.inf if t is None else t for t in budget["thresholds"]]
            times = {}
            for name, run in ways.items():
                early = lambda batch, run=run, t=thresholds: run(batch, thresholds=t)  # noqa: E731
                for size in (1, 16):
                    times[f"{name}batch{size}"] = time_ratio(early, run, ready, size, rounds=rounds)
            rows.append({**{name: budget[name] for name in ("budget", "share", "kept")}, "times": times})
    return rows


@torch.inference_mode()
def times_of_exits(model: EarlyExitRetinaNet, size: tuple[int, int], *, rounds: int = 3) -> list[dict]:
    """Time of each forced exit for one image of noise, beside its compute.

    What the weights are does not matter to the time of the network. It does to post-processing: untrained weights find
    nothing, so that there is next to none.

    Args:
        model: its weights may be random; it is timed on its device, on a CPU with one thread.
        size: height and width of the image in the network.
        rounds: see `time_ratio`.

    Returns:
        Rows of "exit", "height", "width", "share", "time" (both of full depth) and "ms".
    """
    macs, fast = count_macs(model, size), for_inference(model)
    fast.transform.min_size, fast.transform.max_size = (min(size),), max(size)
    image = torch.rand(3, *size, device=next(model.parameters()).device)
    rows = []
    with one_thread():
        for exit in (1, 2, 3, 4):
            found = time_ratio(lambda batch, e=exit: fast(batch, exit=e), fast, [image], 1, rounds=rounds)
            share = macs[exit]["total"] / macs[4]["total"]
            about = {"exit": exit, "height": size[0], "width": size[1]}
            rows.append({**about, "share": share, "time": found["mean"], "ms": found["ms"]})
    return rows


@torch.inference_mode()
def profile_exits(
    model: EarlyExitRetinaNet, images: Sequence[Tensor], *, exits: Sequence[int] = (1, 2, 4), repeats: int = 20
) -> list[dict]:
    """Median milliseconds of a batch at each exit, by part.

    Args:
        model: in eval mode.
        images: of one size, on the model's device.
        exits: at which all images leave.
        repeats: of each part, after a first one that is not counted.

    Returns:
        Rows of "exit", "resize", "backbone", "neck and head" and "post-processing".
    """
    sizes = [tuple(image.shape[-2:]) for image in images]
    (_, batch) = next(same_size_batches(model.transform, images))
    group = range(len(images))
    rows, median = [], lambda run: _median_ms(run, batch.tensors.device, repeats)
    for exit in exits:
        reached = _run_to(model, batch.tensors, exit)
        whole = median(lambda r=reached: model.detect_from(r, group, batch, sizes))
        head = median(lambda r=reached: model.predict(r))
        resize = median(lambda: next(same_size_batches(model.transform, images)))
        backbone = median(lambda k=exit: _run_to(model, batch.tensors, k))
        row = {"exit": exit, "resize": resize, "backbone": backbone, "neck and head": head}
        rows.append({**row, "post-processing": max(whole - head, 0.0)})
    return rows


def _run_to(model: EarlyExitRetinaNet, images: Tensor, exit: int):
    return next(reached for reached in model.backbone.exits(images) if reached.index == exit)


def _median_ms(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    return 1000 * float(np.median([seconds(run, device) for _ in range(repeats + 1)][1:]))
