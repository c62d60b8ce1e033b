"""Time of each exit of the small detector, folded and compiled, one image at a time and sixteen, on one thread.

    python benchmarks/compiled.py [--batch 16] [--repeats 20] [--json benchmarks/compiled.json]

The two versions take turns. Compiling takes minutes and is measured, too: the first call of each exit and batch size.
"""

import argparse
import json
import statistics
import time

import torch

import earlyexit
from earlyexit.data.scenes import scene_dataset
from earlyexit.files import provenance
from earlyexit.model.backbone import EXITS
from earlyexit.model.export import for_inference


def seconds(model, images: list[torch.Tensor], exit: int) -> float:
    """Of one call with all images leaving at an exit."""
    started = time.perf_counter()
    model(images, exit=exit)
    return time.perf_counter() - started


@torch.inference_mode()
def measure(repeats: int, most: int) -> dict:
    """Median milliseconds of an image by version, batch size and exit, and the seconds of all first calls."""
    model, _ = earlyexit.load_detector("scenes-early")
    versions = {"folded": for_inference(model), "compiled": for_inference(model, compiled=True)}
    data = scene_dataset("test", 4 * most)  # more than half of them have a single object
    images = [data[i][0] for i in range(most)]
    batches = {1: images[:1], most: images}
    first = {
        name: round(sum(seconds(version, batch, exit) for exit in EXITS for batch in batches.values()), 1)
        for name, version in versions.items()
    }
    found: dict = {name: {} for name in versions}
    for size, batch in batches.items():
        for exit in EXITS:
            taken = [[seconds(version, batch, exit) for version in versions.values()] for _ in range(repeats)]
            for name, values in zip(versions, zip(*taken, strict=True), strict=True):
                row = found[name].setdefault(f"batch{size}", {})
                row[f"exit {exit}"] = round(1000 * statistics.median(values) / size, 3)
    return {"first_calls_seconds": first, "milliseconds": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images of the larger batch")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {**measure(arguments.repeats, arguments.batch), "repeats": arguments.repeats, "threads": 1, **provenance()}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
