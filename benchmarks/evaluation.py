"""Time of evaluating a detector whole: from one pass over the images, against one pass per setting and repeat.

    python benchmarks/evaluation.py [--data data/scenes-single] [--workers 2] [--json benchmarks/evaluation.json]

Whole means, for both fillers: 34 threshold settings, 10 random repeats of each, COCO's metrics, shares and accuracy.
The published protocol runs all images one by one for each of these and lets pycocotools judge each pass. That would
take hours, so it is timed in the same run on a sample: a few images at every setting, thresholds and random, and
pycocotools on one pass of all images. The sum is extrapolated from there, and divided by the number of processes
that the pass from records had: passes could be shared out as well. Thresholds are calibrated alike in both protocols
and not counted.
"""

import argparse
import itertools
import json
import os
import time

import numpy as np
import torch

import earlyexit
from earlyexit.data import CocoDataset, coco_split
from earlyexit.evaluation.coco import METRICS, coco_metrics, exit_confidences, to_coco
from earlyexit.evaluation.collect import collect_records
from earlyexit.evaluation.matching import match_records
from earlyexit.evaluation.policies import calibrate_thresholds, exit_proportions, random_exits, threshold_exits
from earlyexit.evaluation.scores import evaluate_exits, random_exit, sweep
from earlyexit.files import provenance
from earlyexit.model.heads import FILLERS


def evaluate_whole(
    model, dataset: CocoDataset, confidences: torch.Tensor, workers: int, repeats: int
) -> tuple[dict, dict]:
    """Seconds of each part of the evaluation from records, (clock, processor), and the records by filler."""
    marks = [now()]
    records = collect_records(model, dataset, fillers=FILLERS, workers=workers)
    marks.append(now())
    for of_filler in records.values():
        match_records(of_filler)
    marks.append(now())
    for of_filler in records.values():
        for row in sweep(of_filler, confidences):
            random_exit(of_filler, row["wanted"], repeats, seed=row["index"], metrics=METRICS)
    marks.append(now())
    parts = ("one pass, all exits", "matching", "metrics")
    return dict(zip(parts, np.diff(marks, axis=0).tolist(), strict=True)), records


def now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor in this process and in those that it started and that ended.

    Where a machine is busy with other work, too, the clock runs ahead.
    """
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def published_seconds_per_image(model, dataset: CocoDataset, confidences: torch.Tensor, sample: int) -> float:
    """Mean seconds of one image run alone, loading included, over all settings by threshold and at random."""
    generator, number = torch.Generator().manual_seed(0), itertools.cycle(range(0, len(dataset), 7))
    model.eval()
    start = time.perf_counter()
    with torch.inference_mode():
        for shares in exit_proportions():
            thresholds = calibrate_thresholds(confidences, shares)
            for exit in random_exits(sample, shares, generator).tolist():
                model([dataset[next(number)][0]], thresholds=thresholds)
                model([dataset[next(number)][0]], exit=exit)
    return (time.perf_counter() - start) / (2 * sample * len(exit_proportions()))


def judge(dataset: CocoDataset, records, chosen: torch.Tensor) -> float:
    """Seconds of pycocotools for one pass, whose metrics must be those from records."""
    detections = [records.detection(i, exit) for i, exit in enumerate(chosen.tolist())]
    start = time.perf_counter()
    found = [
        row
        for i, detection in zip(dataset.ids, detections, strict=True)
        for row in to_coco(detection, i, dataset.category_ids)
    ]
    metrics = coco_metrics(dataset, found)
    seconds = time.perf_counter() - start
    ours = evaluate_exits(records, chosen)
    assert all(ours[name] == value for name, value in metrics.items()), (ours, metrics)
    return seconds


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/scenes-single")
    parser.add_argument("--weights", default="scenes")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--sample", type=int, default=5, help="images at each setting, by threshold and at random")
    parser.add_argument("--repeats", type=int, default=10, help="random exits at each setting")
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small images keep two threads busy waiting for each other
    model, _ = earlyexit.load_detector(options.weights)
    dataset = coco_split(options.data, "test")
    confidences = exit_confidences(model, coco_split(options.data, "calibration"))
    parts, records = evaluate_whole(model, dataset, confidences, options.workers, options.repeats)
    chosen = threshold_exits(records[FILLERS[0]].confidence, calibrate_thresholds(confidences, exit_proportions()[19]))
    judging = judge(dataset, records[FILLERS[0]], chosen)
    per_image = published_seconds_per_image(model, dataset, confidences, options.sample)
    passes = len(FILLERS) * len(exit_proportions()) * (1 + options.repeats)
    published = passes * (len(dataset) * per_image + judging) / options.workers
    seconds = {name: clock for name, (clock, _) in parts.items()}
    processor = {name: used for name, (_, used) in parts.items()}
    result = {
        "images": len(dataset),
        "workers": options.workers,
        "seconds": {**seconds, "total": sum(seconds.values())},
        "processor_seconds": {**processor, "total": sum(processor.values())},
        "published": {
            "passes": passes,
            "seconds_per_image": per_image,
            "sampled_images": 2 * options.sample * len(exit_proportions()),
            "seconds_of_pycocotools_per_pass": judging,
            "seconds_extrapolated": published,
        },
        # A pass for each filler, although the backbone runs once for both.
        "passes_ratio": passes / len(FILLERS),
        "time_ratio": published / sum(seconds.values()),
    }
    for name, value in result["seconds"].items():
        print(f"{name:22} {value:8.1f} s ({result['processor_seconds'][name]:.1f} s of the processor)")
    print(
        f"{'published protocol':22} {published:8.0f} s = {passes} passes x ({len(dataset)} images x {per_image:.4f} s"
    )
    print(f"{'':33} + {judging:.1f} s of pycocotools) / {options.workers} processes, extrapolated")
    print(f"passes_ratio {result['passes_ratio']:.0f}, time_ratio {result['time_ratio']:.0f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**result, "weights": options.weights, "data": options.data, **provenance()}, file, indent=1)


if __name__ == "__main__":
    main()
