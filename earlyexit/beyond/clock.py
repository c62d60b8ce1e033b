"""Time against compute: of every budget, and of each exit at any image size."""

import math
import tempfile
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..compute import count_macs
from ..detector import EarlyExitRetinaNet
from ..inference import for_inference
from ..onnx_detector import OnnxDetector
from ..onnx_export import export_onnx
from .times import ROUNDS, one_thread, time_ratio


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
        budgets: rows of "budget", "thresholds" (None for never), "share" and "kept", as `measure_beyond` finds them.
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
