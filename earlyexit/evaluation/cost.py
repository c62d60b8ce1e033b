"""What an image costs at each exit: multiply-adds counted by fvcore, and time measured on this machine."""

import contextlib
import functools
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..data.coco import CocoDataset
from ..model.backbone import EXITS, Exit
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import Rule, asked_at
from ..model.inputs import network_size


class _Function(nn.Module):
    """A function of tensors and the weights that it uses, as a module that fvcore can trace."""

    def __init__(self, weights: nn.Module, run: Callable[..., Iterable[Tensor]]):
        super().__init__()
        self.weights, self.run = weights, run

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Whatever the function makes of the inputs."""
        return tuple(self.run(*inputs))


def _tensors(reached: Exit) -> tuple[Tensor, ...]:
    """All that an exit holds: as the output of a part, for fvcore does not count what no output needs."""
    return reached.latents, *reached.so_far, *reached.features.values()


def _with(reached: Exit, tensors: tuple[Tensor, ...]) -> Exit:
    """The exit with other tensors, in the order of `_tensors`."""
    so_far, maps = tensors[1 : reached.index + 1], tensors[reached.index + 1 :]
    features = dict(zip(reached.features, maps, strict=True))
    return replace(reached, so_far=so_far, features=features, latents=tensors[0])


def count_macs(model: nn.Module, image_size: tuple[int, int]) -> dict[int, dict[str, float]]:
    """GMACs (10^9 multiply-adds) of one image at each exit of an `EarlyExitRetinaNet`, by part.

    Args:
        image_size: height and width in pixels of what the backbone sees, after resizing and padding.

    Returns:
        {exit: {"backbone": g, "neck": g, "head p3": g, ... "head p7": g, "total": g}} for exits 1-4.
    """
    sides = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 32 for side in sides):
        raise ValueError(f"image_size must be (height, width) in whole pixels of at least 32, got {image_size!r}")
    modes = {module: module.training for module in model.modules()}
    weight = next(model.parameters())
    image = torch.zeros(1, 3, *sides, dtype=weight.dtype, device=weight.device)
    model.eval()
    try:
        with torch.no_grad():
            return _by_exit(model, image)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _by_exit(model: nn.Module, image: Tensor) -> dict[int, dict[str, float]]:
    found, levels = {}, {}  # the head costs the same on maps of the same shape
    backbone, reached = model.backbone, model.backbone.begin(image)
    passed = _count(_Function(backbone, lambda x: _tensors(backbone.begin(x))), image)
    for exit in EXITS:
        advance = _Function(backbone, lambda *x, at=reached: _tensors(backbone.advance(_with(at, x))))
        passed += _count(advance, *_tensors(reached))
        reached = backbone.advance(reached)
        neck = _Function(model, lambda *x, at=reached: model.pyramid_at(_with(at, x)).values())
        macs = {"backbone": passed, "neck": _count(neck, *_tensors(reached))}
        head = model.head_at(exit)
        for name, level in model.pyramid_at(reached).items():
            key = (id(head), *level.shape)
            if key not in levels:
                levels[key] = _count(_Function(head, lambda x, head=head: head([x]).values()), level)
            macs[f"head {name}"] = levels[key]
        macs = {part: count / 1e9 for part, count in macs.items()}
        found[exit] = {**macs, "total": sum(macs.values())}
    return found


def gmacs_of(by_exit: dict[int, dict[str, float]]) -> Tensor:
    """(2, 4) of `count_macs`: what exits 1 to 4 cost, and of that neck and head."""
    ahead = ("backbone", "total")
    looks = [sum(value for part, value in by_exit[k].items() if part not in ahead) for k in EXITS]
    return torch.tensor([[by_exit[k]["total"] for k in EXITS], looks], dtype=torch.float64)


def spent_at(gmacs: Tensor, looks: Tensor, rule: Rule | None, limits: Sequence[float]) -> Tensor:
    """(5, ...) GMACs of an image that leaves at exit 0, without neck and head, or at exits 1 to 4.

    A rule that needs detections has neck and head run wherever it is asked, at the exits that an image passes, too.

    Args:
        gmacs, looks: (4, ...) what exits 1 to 4 cost, and of that neck and head, see `gmacs_of`.
        rule: None needs no detections.
        limits: see `exit_limits`.
    """
    seen = torch.tensor(asked_at(rule, limits)) & bool(getattr(rule, "needs", ()))
    seen = looks * seen.view(-1, *[1] * (looks.ndim - 1))
    before = seen.cumsum(0) - seen
    skipped = max(getattr(rule, "skips", ()), default=1) - 1
    return torch.cat([(gmacs - looks + before + seen)[skipped, None], gmacs + before])


def _count(module: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a function of its own while it is imported
        from fvcore.nn import FlopCountAnalysis
    analysis = FlopCountAnalysis(module.eval(), inputs)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.total()


def _attention_macs(inputs: list, outputs: list) -> Counter:
    """Multiply-adds of softmax(q k^T) v from the shapes of q (.., Lq, D), k (.., Lk, D) and v (.., Lk, E)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return Counter({"attention": math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])})


def measure_latency(
    model: EarlyExitRetinaNet,
    images: Sequence[Tensor],
    *,
    batch_sizes: Sequence[int] = (1, 16),
    repeats: int = 50,
    warmup: int = 3,
) -> list[dict]:
    """Time of the whole detector, from images to boxes, if all images leave at one exit.

    The exits take turns, so that a machine that slows down slows all of them. Each turn takes the next images.

    Args:
        model: put in eval mode; it runs on its own device with the threads that torch has now.
        images: (3, H, W) floats in [0, 1], RGB, of one size, e.g. from the test split: how many boxes
            post-processing has to sort depends on them.
        batch_sizes: images in a call.
        repeats, warmup: turns that are timed, and turns before them.

    Returns:
        A row for each batch size and exit: "batch_size", "exit", "median_ms" and "p95_ms" (per image: the time of a
        call divided by its images), "gmacs" (of one image), "height", "width" (inside the network), "repeats",
        "threads", "device".
    """
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) != 1:
        raise ValueError(f"images must be at least one, all of one size, got sizes {sorted(sizes)[:5]}")
    if repeats < 1 or warmup < 0 or min(batch_sizes, default=0) < 1:
        raise ValueError(f"cannot time batches of {batch_sizes}, {repeats} repeats and {warmup} to warm up")
    model.eval()
    height, width = network_size(model, images[0])
    macs = count_macs(model, (height, width))
    device = next(model.parameters()).device
    same = {"height": height, "width": width, "repeats": repeats}
    same |= {"threads": torch.get_num_threads(), "device": str(device)}
    rows = []
    images = [image.to(device) for image in images]
    at_exits = [functools.partial(model, exit=exit) for exit in EXITS]
    for size in batch_sizes:
        batches = [[images[(turn * size + i) % len(images)] for i in range(size)] for turn in range(warmup + repeats)]
        found = take_turns(at_exits, batches, device, warmup=warmup)
        for exit, values in zip(EXITS, 1000 * found / size, strict=True):
            times = {"median_ms": float(np.median(values)), "p95_ms": float(np.quantile(values, 0.95))}
            rows.append({"batch_size": size, "exit": exit, **times, "gmacs": macs[exit]["total"], **same})
    return rows


def time_exits(model: EarlyExitRetinaNet, dataset: CocoDataset) -> list[float]:
    """Milliseconds of an image at exits 1 to 4, one at a time, with the device and threads of now: medians of 20."""
    rows = measure_latency(model, same_size(dataset, 16), batch_sizes=(1,), repeats=20)
    return [row["median_ms"] for row in rows]


def same_size(dataset: CocoDataset, most: int = 64) -> list[Tensor]:
    """Up to `most` images of the most common size, in the order of their ids."""
    sizes = [(dataset.coco.imgs[i]["height"], dataset.coco.imgs[i]["width"]) for i in dataset.ids]
    common = max(sizes, key=sizes.count)
    return [dataset[number][0] for number in [n for n, size in enumerate(sizes) if size == common][:most]]


@torch.inference_mode()
def take_turns(runs: Sequence[Callable], inputs: Sequence, device: torch.device, *, warmup: int = 0) -> np.ndarray:
    """Seconds of several calls on the same inputs, (calls, inputs) without the first `warmup` inputs.

    All calls get one input after the other, so that a machine that slows down slows all of them.
    """
    times = [[seconds(functools.partial(run, given), device) for run in runs] for given in inputs]
    return np.array(times[warmup:]).T


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
    """PyTorch with one thread while it lasts, as a server runs one process on each core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
