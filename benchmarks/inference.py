"""Time of one image of 800 x 1088 on the CPU: this detector against torchvision's RetinaNet, in one run.

    python benchmarks/inference.py [--size 800,1088] [--repeats 7] [--threads 2] [--json benchmarks/inference.json]

Each model is taken as its library gives it, with random weights, and both get the same image. The models take
turns, so that a machine that slows down slows all of them; the medians are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torchvision.models.detection import retinanet_resnet50_fpn_v2

import earlyexit
from earlyexit.files import provenance


def contestants(image: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the first is what the others are compared with."""
    torch.manual_seed(0)
    sides = {"min_size": min(image.shape[1:]), "max_size": max(image.shape[1:])}  # it is resized to its own size
    reference = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, **sides).eval()
    ours = earlyexit.dyn_retinanet_regnet_y_800mf(80, **sides).eval()
    # Anchors, boxes and scores stay in float32: only the network runs in bfloat16.
    half = earlyexit.dyn_retinanet_regnet_y_800mf(80, **sides).eval().bfloat16()

    return {
        "torchvision retinanet_resnet50_fpn_v2": lambda: reference([image]),
        "full depth": lambda: ours([image]),
        "full depth, bfloat16": lambda: half([image.bfloat16()]),
        "exit 1": lambda: ours([image], exit=1),
        "exit 1, bfloat16": lambda: half([image.bfloat16()], exit=1),
    }


def median_seconds(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each run; they take turns, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="800,1088", help="height,width of the image")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = median_seconds(contestants(torch.rand(3, *map(int, options.size.split(",")))), options.repeats)
    reference = next(iter(seconds.values()))
    print(f"{'':40} {'ms':>7} {'ratio':>6}")
    for name, value in seconds.items():
        print(f"{name:40} {1000 * value:7.0f} {value / reference:6.3f}")
    print(f"exit 1 takes {seconds['exit 1'] / seconds['full depth']:.3f} of full depth's time")
    if options.json:
        result = {"seconds": seconds, "ratio": {k: v / reference for k, v in seconds.items()}, **provenance()}
        with open(options.json, "w") as file:
            json.dump({**result, "size": options.size, "repeats": options.repeats}, file, indent=1)


if __name__ == "__main__":
    main()
