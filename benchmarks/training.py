"""Images a second of nano training at 128 x 128, loading included.

    python benchmarks/training.py [--images 960] [--threads 2] [--json benchmarks/training.json]

Trains on scenes that are drawn first (not counted) for two epochs and counts the second.
"""

import argparse
import json
import tempfile

import torch

from earlyexit.data import scene_dataset, train_transforms
from earlyexit.files import provenance
from earlyexit.model.factories import dyn_retinanet_nano
from earlyexit.training.loop import fit
from earlyexit.training.settings import TrainSettings


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = scene_dataset("train", int(options.images / 0.6), transforms=train_transforms())
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as out:
        rows = fit(dyn_retinanet_nano(20), dataset, TrainSettings(out=out, epochs=2, progress=False))
    speed = rows[1]["images_per_second"]
    print(f"{speed:.1f} images a second ({len(dataset)} images, batches of {TrainSettings.batch_size})")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"images_per_second": speed, "images": len(dataset), **provenance()}, file, indent=1)


if __name__ == "__main__":
    main()
