"""Time on a GPU: exits 1-4 and mixtures of them, against full depth and torchvision's RetinaNet, in one run.

    python benchmarks/gpu.py [--commit HASH] [--json earlyexit/study/results/gpu/times.json]

Two detectors: nano with the weights "scenes-early" on scenes of 128 x 128, and the paper's at 800 x 1216 with random
weights, as published and with learned necks ("regnet_y_800mf learned"). Random weights find nothing, so that there is
no post-processing to speak of; that holds for torchvision's `retinanet_resnet50_fpn_v2` at both sizes, too. float32 is
what PyTorch makes of it unless told: TF32 in convolutions, not in matrix products (the JSON says so). In bfloat16
weights and images are; boxes and scores stay float32.

The mixtures take a share of full depth's GMACs and take turns with full depth. Nano leaves by thresholds that were
chosen on calibration scenes for that share. Of the paper's detector, whose random weights are sure of nothing, every
so-many-th image leaves at one exit.
"""

import argparse
import copy
import functools
import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import retinanet_resnet50_fpn_v2

import earlyexit
from earlyexit.data import scene_dataset
from earlyexit.evaluation import collect_records, measure_latency, thresholds_for_budget
from earlyexit.evaluation.cost import seconds
from earlyexit.files import provenance, write_json
from earlyexit.model import NUM_EXITS, Exit
from earlyexit.study.measure import PAPER_SIZE, time_ratio

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHARES = (0.62, 0.5)  # of full depth's GMACs
LEAVES_AT = 2  # in the paper's detector
PEER = "torchvision retinanet_resnet50_fpn_v2"


class InTurn:
    """A rule by which a fixed share of the images leaves at one exit, evenly spread over those that come."""

    def __init__(self, exit: int, share: float):
        self.exit, self.share, self.seen = exit, share, 0

    def __call__(self, reached: Exit) -> Tensor:
        n = len(reached.logits)
        if reached.index != self.exit:
            return torch.ones(n, device=reached.logits.device)
        steps = [math.floor((self.seen + i) * self.share + 1e-9) for i in range(n + 1)]
        self.seen += n
        leaves = [float(b > a) for a, b in zip(steps, steps[1:], strict=False)]
        return torch.tensor(leaves).to(reached.logits.device, non_blocking=True)


def limits_at(exit: int) -> list[float]:
    """Thresholds of exits 1-3 by which images with a score of 1 leave at `exit` alone."""
    return [0.5 if k == exit else math.inf for k in (1, 2, 3)]


def latency(name: str, model, images: Sequence[Tensor], batches: Sequence[int], repeats: int) -> Iterator[dict]:
    """A row for each precision, batch size and exit."""
    for dtype, kind in DTYPES.items():
        ready, other = [image.to(kind) for image in images], copy.deepcopy(model).to(kind)
        for row in measure_latency(other, ready, batch_sizes=batches, repeats=repeats):
            yield {"model": name, "dtype": dtype, **rounded(row)}


@torch.inference_mode()
def peer_latency(images: Sequence[Tensor], batches: Sequence[int], repeats: int) -> Iterator[dict]:
    """The same of torchvision's detector, which has one exit; its suppression takes bfloat16 under autocast alone."""
    device, (height, width) = images[0].device, images[0].shape[1:]
    sides = {"min_size": min(height, width), "max_size": max(height, width)}  # it is resized to its own size
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn_v2(num_classes=80, weights=None, weights_backbone=None, **sides)
    model = model.eval().to(device, memory_format=torch.channels_last)
    for name, dtype in DTYPES.items():
        ready = [image.to(dtype) for image in images]
        model.to(dtype)
        for size in batches:
            batch = [ready[i % len(ready)] for i in range(size)]
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                taken = [seconds(lambda b=batch: model(b), device) for _ in range(repeats + 3)][3:]
            times = {"median_ms": float(np.median(taken)), "p95_ms": float(np.quantile(taken, 0.95))}
            times = {key: 1000 * value / size for key, value in times.items()}
            about = {"batch_size": size, **times, "height": height, "width": width, "repeats": repeats}
            yield {"model": PEER, "dtype": name, **rounded(about)}


def rounded(row: dict) -> dict:
    """Times and GMACs with as many digits as they deserve."""
    digits = {"median_ms": 4, "p95_ms": 4, "gmacs": 6}
    return {key: round(value, digits[key]) if key in digits else value for key, value in row.items()}


@torch.inference_mode()
def mixture(
    name: str, model, gmacs: dict[int, float], images: Sequence[Tensor], batches: Sequence[int], how: dict, rounds: int
) -> Iterator[dict]:
    """Time of images that leave early, divided by that of full depth, for each precision and batch size.

    Args:
        name: of the detector.
        model: the detector.
        gmacs: of an image at exits 1-4.
        images: of one size; half of them one by one, all in batches.
        batches: images in a call.
        how: "share" that was asked for, "policy" in words, "thresholds", and "rule", which makes a rule or None.
        rounds: see `time_ratio`.
    """
    for dtype, kind in DTYPES.items():
        ready, other = [image.to(kind) for image in images], copy.deepcopy(model).to(kind)
        for size in batches:
            some = ready[: len(ready) // 2 if size == 1 else len(ready) // size * size]
            early = functools.partial(other, thresholds=how["thresholds"], rule=how["rule"]())
            found = [early(some[i : i + size]) for i in range(0, len(some), size)]
            exits = Counter(detection["exit"] for batch in found for detection in batch)
            mean = sum(gmacs[exit] * count for exit, count in exits.items()) / len(some)
            timed = time_ratio(early, other, some, size, rounds=rounds)
            row = {"model": name, "dtype": dtype, "batch_size": size, "asked": how["share"]}
            row |= {"share": round(mean / gmacs[NUM_EXITS], 4), "time": timed["mean"]}
            row |= {key: timed[key] for key in ("low", "high", "ms", "ms_full")}
            row |= {"exits": {str(k): exits[k] for k in range(1, NUM_EXITS + 1)}, "images": len(some)}
            thresholds = [None if math.isinf(t) else t for t in how["thresholds"]]
            yield {**row, "policy": how["policy"], "thresholds": thresholds, "rounds": rounds}


def nano_policies(model, scenes: int) -> list[dict]:
    """Thresholds for each share of the GMACs, chosen on calibration scenes, see `mixture`."""
    records = collect_records(model, scene_dataset("calibration", scenes))
    full = float(records.gmacs[-1].mean())
    found = []
    for share in SHARES:
        limits = thresholds_for_budget(records, gmacs=share * full, repeats=2).thresholds
        text = f"largest softmax value; thresholds chosen on {len(records)} calibration scenes"
        found.append({"share": share, "policy": text, "thresholds": limits, "rule": lambda: None})
    return found


def paper_policies(gmacs: dict[int, float]) -> list[dict]:
    """The share of images that leaves in turn at one exit for each share of the GMACs, see `mixture`."""
    early, found = gmacs[LEAVES_AT] / gmacs[NUM_EXITS], []
    for share in SHARES:
        leave = (1 - share) / (1 - early)
        text = f"random weights: {leave:.1%} of the images leave at exit {LEAVES_AT}, in turn"
        make: Callable = lambda leave=leave: InTurn(LEAVES_AT, leave)  # noqa: E731
        found.append({"share": share, "policy": text, "thresholds": limits_at(LEAVES_AT), "rule": make})
    return found


def measure(options: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """All rows, as they come: those of mixtures have a "policy"."""
    torch.manual_seed(0)
    batches, repeats = options.batches, options.repeats
    size, most = options.size, max(options.images, *batches)
    data = scene_dataset("test", options.scenes)
    scenes = [data[i % len(data)][0].to(device) for i in range(2 * most)]
    photos = [torch.rand(3, *size, device=device) for _ in range(most)]
    nano = earlyexit.load_detector("scenes-early")[0].eval().to(device)
    sides = {"min_size": min(size), "max_size": max(size)}
    make = earlyexit.dyn_retinanet_regnet_y_800mf
    paper = {
        "regnet_y_800mf": make(80, **sides).eval().to(device),
        "regnet_y_800mf learned": make(80, filler="learned", **sides).eval().to(device),
    }
    yield from (rows := list(latency("nano", nano, scenes, batches, repeats)))
    yield from peer_latency(scenes, batches, repeats)
    gmacs = {row["exit"]: row["gmacs"] for row in rows}
    for how in nano_policies(nano, options.scenes):
        yield from mixture("nano", nano, gmacs, scenes, batches, how, options.rounds)
    for name, model in paper.items():
        yield from (rows := list(latency(name, model, photos, batches, repeats)))
    yield from peer_latency(photos, batches, repeats)
    gmacs = {row["exit"]: row["gmacs"] for row in rows}  # with learned necks: as published, no exit takes half
    for how in paper_policies(gmacs):
        yield from mixture(name, model, gmacs, photos, batches, how, options.rounds)


def say(row: dict) -> dict:
    """Print a row; give it back."""
    start = f"{row['model']:40} {row['dtype']:9} batch {row['batch_size']:3}"
    if "policy" in row:
        between = f"({row['low']:.3f} to {row['high']:.3f})"
        print(f"{start} {row['share']:6.1%} of the GMACs, {row['time']:6.1%} of the time {between}", flush=True)
    else:
        print(f"{start} exit {row.get('exit', '-')} {row['median_ms']:9.3f} ms", flush=True)
    return row


def about(device: torch.device) -> dict:
    """Which device, and what float32 means on it."""
    tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "cuda": torch.version.cuda, "tf32": tf32, "seed": 0}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    numbers = lambda text: tuple(map(int, text.split(",")))  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=numbers, default=(1, 16, 64), help="images of a call")
    parser.add_argument("--size", type=numbers, default=PAPER_SIZE, help="height,width of the paper's images")
    parser.add_argument("--images", type=int, default=32, help="of the mixtures, at least; of nano twice as many")
    parser.add_argument("--scenes", type=int, default=600, help="drawn for each split; most have one object")
    parser.add_argument("--repeats", type=int, default=8, help="timed calls")
    parser.add_argument("--rounds", type=int, default=3, help="of mixtures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--commit", help="if there is no git where this runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu times this computer")
    result = {**about(device), "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]), **provenance()}
    rows = [say(row) for row in measure(options, device)]
    result["commit"] = options.commit or result["commit"]
    result["latency"] = [row for row in rows if "policy" not in row]
    result["policies"] = [row for row in rows if "policy" in row]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, result)


if __name__ == "__main__":
    main()
