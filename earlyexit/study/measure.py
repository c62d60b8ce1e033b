"""All numbers of one trained model, from one pass over the images, into one JSON file; and the time that it takes.

    python -m earlyexit.study.measure RUN GROUP OUT [REPEATS]

is what the study starts for each model; it may be stopped at any point and started again. Whatever is chosen,
thresholds, router and the scales of scores, is chosen on the calibration split; numbers are of the test split.
Ablations are there to choose a recipe by, so they are measured on the calibration split. Each time is that of the whole
detector, from images to boxes. The file of a model is the unit in which the study is resumed, also on another machine.
"""

import functools
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from ..data.coco import SPLITS, CocoDataset, coco_split
from ..evaluation.coco import exit_confidences, is_single_object
from ..evaluation.collect import collect_records
from ..evaluation.cost import count_macs, measure_latency, one_thread, same_size, take_turns
from ..evaluation.policies import threshold_exits
from ..evaluation.records import ExitRecords
from ..evaluation.scores import fit_score_scales, rescale_records, skip_empty
from ..files import plain, provenance, read_table, write_whole
from ..model.backbone import EXITS, NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.export import OnnxDetector, export_onnx, for_inference
from ..model.factories import dyn_retinanet_regnet_y_800mf, load_detector
from ..model.inputs import network_size
from ..processes import pick_device
from ..training.settings import FREE_TO_CHANGE, TrainSettings, as_json, changes
from ..weights import refuse_removed
from . import findings
from .findings import estimate, limits
from .plan import BEYOND, GROUPS, Training, training_of

REPEATS = 100  # bootstrap samples: 34 settings of two fillers take a minute
LEAST = 3  # test images: one for each third
EMPTY = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # probabilities from which on an image is taken for empty
PAPER_SIZE = (800, 1216)  # a photo of 3:2, resized to 1333x800 at most and padded to a multiple of 32
NANO_SIZE = (128, 128)
_ELSEWHERE = FREE_TO_CHANGE | {"data", "out"}  # where things lie decides nothing
ROUNDS = 5  # of timing: what differs from round to round is noise of the machine


def measure(training: Training, out: str | Path, repeats: int = REPEATS) -> Path:
    """Measure a trained model and write its results into the folder `out`; returns the file.

    The group says what is measured. Grids: under their own filler, without random exits and difficulty; "joint" and
    "ablation": at each exit; "early" and "many": with thresholds for budgets, too, "early" under all rules of leaving,
    "many" with images skipped that are taken for empty. `ValueError` for an unknown one, and see `checked_split`.
    """
    if training.group not in (*GROUPS, *BEYOND):
        raise ValueError(f"the group must be one of {', '.join((*GROUPS, *BEYOND))}, got {training.group!r}")
    run = Path(training.settings.out)
    model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
    result = (_of_the_paper if training.group in GROUPS else _beyond)(training, model, repeats)
    story = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    about = {"name": training.name, "group": training.group, "settings": story["settings"]}
    path = model_path(out, training.name)
    write_model(path, {**about, "data": describe_data(training.settings.data), **provenance(), **result})
    return path


def _of_the_paper(training: Training, model: EarlyExitRetinaNet, repeats: int) -> dict:
    settings, started = training.settings, time.perf_counter()
    confidence, records = recorded(training, model)
    collected = time.perf_counter()
    own, test = records[settings.filler], coco_split(settings.data, "test")
    numbers = {
        name: {"sweep": findings.sweep_rows(r, confidence, repeats), "forced": findings.forced_rows(r, repeats)}
        for name, r in records.items()
    }
    result = {"fillers": numbers, "accuracy": findings.accuracy_rows(own, repeats)}
    if training.group != "grid":
        swept = numbers[settings.filler]["sweep"]
        numbers[settings.filler]["random"] = findings.random_rows(own, swept, repeats)
        chosen = threshold_exits(own.confidence, limits(swept[findings.SETTING - 1]["thresholds"]))
        result["difficulty"] = findings.difficulty_numbers(own, test, chosen, repeats)
    trained = float(sum(row["seconds"] for row in read_table(Path(settings.out) / "log.csv")))
    seconds = {"training": trained, "images": collected - started, "numbers": time.perf_counter() - collected}
    about = {"filler": settings.filler, "repeats": repeats, "classes": test.classes}
    return {**about, "seconds": {name: round(value, 1) for name, value in seconds.items()}, **result}


def recorded(training: Training, model: EarlyExitRetinaNet) -> tuple[Tensor, dict[str, ExitRecords]]:
    """The confidences (4, images) of the calibration split, and records of the test split under each filler."""
    test, calibration = (checked_split(training.settings.data, split) for split in ("test", "calibration"))
    path = Path(training.settings.out) / "records.safetensors"
    confidences = exit_confidences(model, calibration, progress=True)
    return confidences, collect_records(model, test, fillers=training.fillers, path=path, progress=True)


def checked_split(folder: str | Path, split: str) -> CocoDataset:
    """A split for the study; `ValueError` unless each image has exactly one object and there are enough of them."""
    dataset = coco_split(folder, split)
    least = LEAST if split == "test" else 1
    if len(dataset) < least:
        raise ValueError(f"the study needs at least {least} images in {split!r}, {str(folder)!r} has {len(dataset)}")
    if not is_single_object(dataset):
        remedy = "data_prep/single_object.py leaves out the others"
        raise ValueError(f"the study needs images with exactly one object: {remedy} of {split!r} in {str(folder)!r}")
    dataset.check_photos()
    return dataset


def _beyond(training: Training, model: EarlyExitRetinaNet, repeats: int) -> dict:
    settings, group, started = training.settings, training.group, time.perf_counter()

    def of(split: str) -> ExitRecords:
        path = Path(settings.out) / f"records-{split}.safetensors"
        return collect_records(model, coco_split(settings.data, split), path=path, progress=True)

    split = "calibration" if group == "ablation" else "test"
    records = of(split)
    result: dict = {"split": split, "forced": findings.forced(records)}
    if group in ("early", "many"):
        calibration = of("calibration")
        scales = fit_score_scales(calibration)
        result |= {"score_scales": scales, "budgets_unscaled": findings.budgets(records, calibration, repeats=2)}
        records, calibration = (rescale_records(r, scales) for r in (records, calibration))
        result["budgets"] = findings.budgets(records, calibration, repeats)
    if group == "early":
        result["rules"] = findings.rules(records, calibration)
    if group == "many":
        size, full = network_size(model, coco_split(settings.data, "test")[0][0]), records.all_at(NUM_EXITS)
        result["empty"] = skip_empty(records, full, EMPTY, count_macs(model, size)[1]["backbone"])
    return {"seconds": round(time.perf_counter() - started, 1), **result}


def model_path(out: str | Path, name: str) -> Path:
    """The file with all numbers of one model."""
    return Path(out) / "models" / f"{name}.json"


def load_models(out: str | Path) -> dict[str, dict]:
    """All models that have been measured, by name; `ValueError` names a file that holds something else."""
    return {path.stem: _read_model(path) for path in sorted((Path(out) / "models").glob("*.json"))}


def _read_model(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no result of the study ({error}): remove it to measure again") from None


def write_model(path: Path, value: dict) -> None:
    """Write compact JSON, whole or not at all; NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line for each kind of numbers, so that a change shows where it is.
    text = text.replace('},"', '},\n"').replace('],"', '],\n"')
    write_whole(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def describe_data(folder: str | Path) -> dict[str, dict]:
    """The splits by what decides results: {"train": {"images": n, "annotations": hash}, "calibration": ..., ...}.

    The bytes of the images are left out: another JPEG library writes other bytes for the same scene.
    """
    described = {}
    for split in SPLITS:
        dataset = coco_split(folder, split)
        digest = hashlib.sha256(json.dumps([dataset.classes, dataset.category_ids]).encode())
        for image_id in dataset.ids:
            info = dataset.coco.imgs[image_id]
            boxes = [[a["category_id"], a["bbox"]] for a in dataset.objects(image_id)]
            digest.update(json.dumps([image_id, info["width"], info["height"], boxes]).encode())
        described[split] = {"images": len(dataset), "annotations": digest.hexdigest()[:16]}
    return described


def deciding(settings: TrainSettings | dict) -> dict:
    """Settings without those that decide nothing, as JSON gives them back; what a dict lacks has its default."""
    return as_json(settings if isinstance(settings, dict) else asdict(settings), _ELSEWHERE)


def check_model(path: Path, settings: TrainSettings, data: dict, repeats: int) -> bool:
    """Whether a model has been measured already; `ValueError` if with other settings or data: none is replaced."""
    if not path.exists():
        return False
    found = _read_model(path)
    refuse_removed(found["settings"], path)
    before = {**deciding(found["settings"]), **found["data"], "repeats": found["repeats"]}
    changed = changes(before, {**deciding(settings), **data, "repeats": repeats})
    if changed:
        what = ", ".join(changed.values())
        raise ValueError(f"{str(path)!r} was made with other settings: {what}. Choose another --out, or remove it")
    return True


def paper_detector(**options) -> EarlyExitRetinaNet:
    """The paper's detector for COCO with random weights, in eval mode."""
    torch.manual_seed(0)
    return dyn_retinanet_regnet_y_800mf(80, **options).eval()


def latency_table(model: EarlyExitRetinaNet, dataset: CocoDataset, *, rounds: int = ROUNDS) -> list[dict]:
    """Time of an image at each exit, over rounds: nano on test images, the paper's with random weights at 800x1216.

    The nano `model` takes ten turns in each round, on its own device. On a CPU the paper's detector takes three, and
    runs one image at a time: a batch of sixteen takes minutes and saves nothing. Rows of "model",
    "batch_size", "exit", the medians over rounds of "median_ms" and "p95_ms" of an image, and the saving against exit 4
    in percent: "gmacs_saved" of multiply-adds, "time_saved" of the median time with its interval, "low" to "high".
    """
    device = next(model.parameters()).device
    big, photo = paper_detector().to(device), [torch.rand(3, 800, 1200, generator=torch.Generator().manual_seed(0))]
    turns, sizes = (3, (1,)) if device.type == "cpu" else (10, (1, 16))
    found: dict[tuple, list[dict]] = {}
    for _ in range(rounds):
        timed = {"nano": measure_latency(model, same_size(dataset), repeats=10, warmup=2)}
        timed["regnet_y_800mf"] = measure_latency(big, photo, batch_sizes=sizes, repeats=turns, warmup=1)
        for name, rows in timed.items():
            for row in rows:
                found.setdefault((name, row["batch_size"], row["exit"]), []).append(row)
    return [_over_rounds(key, rows, found[(*key[:2], NUM_EXITS)]) for key, rows in found.items()]


def _over_rounds(key: tuple[str, int, int], rows: list[dict], full: list[dict]) -> dict:
    """A row of the table from those of a detector, batch size and exit, and those of its exit 4."""
    time = estimate([100 * (1 - a["median_ms"] / b["median_ms"]) for a, b in zip(rows, full, strict=True)]).rounded()
    row = dict(zip(("model", "batch_size", "exit"), key, strict=True))
    row |= {name: round(float(np.median([r[name] for r in rows])), 3) for name in ("median_ms", "p95_ms")}
    row |= {"gmacs": round(rows[0]["gmacs"], 6)}
    row |= {"gmacs_saved": round(100 * (1 - rows[0]["gmacs"] / full[0]["gmacs"]), 2)}
    row |= {"time_saved": time["mean"], "low": time["low"], "high": time["high"], "rounds": len(rows)}
    return {**row, **{name: rows[0][name] for name in ("repeats", "height", "width", "threads", "device")}}


def time_ratio(
    early: Callable, full: Callable, images: Sequence[Tensor], batch_size: int, *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Time with thresholds divided by time at full depth, the two detectors taking turns on the same images.

    Images lie where they are needed; what is left over by whole batches is not used. Each round is a pass over them.
    Gives "mean", "low" and "high" of the ratio over rounds, and "ms" and "ms_full", medians of an image.
    """
    batches = [list(images[i : i + batch_size]) for i in range(0, len(images) - batch_size + 1, batch_size)]
    if not batches or rounds < 1:
        raise ValueError(f"one batch of {batch_size} images and one round are needed, got {len(images)} and {rounds}")
    times = take_turns((early, full), batches[:1] * 2 + batches * rounds, images[0].device, warmup=2)
    sums = times.reshape(2, rounds, -1).sum(2)
    ms, ms_full = 1000 * np.median(sums, axis=1) / (len(batches) * batch_size)
    ratio = estimate((sums[0] / sums[1]).tolist()).rounded(4)
    return {**ratio, "ms": round(float(ms), 3), "ms_full": round(float(ms_full), 3)}


def times_of_budgets(
    model: EarlyExitRetinaNet, images: Sequence[Tensor], budgets: Sequence[dict], *, rounds: int = ROUNDS
) -> list[dict]:
    """Time of the thresholds for several budgets against full depth, beside what they keep of the mAP.

    On a CPU it is measured with one thread, since the threads of PyTorch and of onnxruntime in one process would take
    the cores from one another.

    Args:
        model: in eval mode, on the device that is timed; onnxruntime is timed too if that is a CPU.
        images: of one size, a multiple of 16, so many that the exits taken are those of the split.
        budgets: rows of "budget", "thresholds" (None for never), "share" and "kept", as `measure` finds them; given
            back without thresholds and with "times": `time_ratio` for "batch1", "batch16" and, of onnxruntime, "onnx
            batch1" and "onnx batch16".
    """
    device = next(model.parameters()).device
    ready = [image.to(device) for image in images]
    rows = []
    with tempfile.TemporaryDirectory() as folder, one_thread():
        ways: dict[str, Callable] = {"": for_inference(model)}
        if device.type == "cpu":
            export_onnx(model, folder, tuple(model.transform([ready[0]])[0].tensors.shape[-2:]))
            ways["onnx "] = OnnxDetector(folder, model)
        for budget in budgets:
            times = {}
            for (name, run), size in itertools.product(ways.items(), (1, 16)):
                early = functools.partial(run, thresholds=limits(budget["thresholds"]))
                times[f"{name}batch{size}"] = time_ratio(early, run, ready, size, rounds=rounds)
            rows.append({**{name: budget[name] for name in ("budget", "share", "kept")}, "times": times})
    return rows


def times_of_exits(model: EarlyExitRetinaNet, size: tuple[int, int], *, rounds: int = 3) -> list[dict]:
    """Time of each forced exit for one image of noise, (height, width) in the network, beside its compute.

    Untrained weights find nothing, so that there is next to no post-processing. On a CPU there is one thread. Rows of
    "exit", "height", "width", "share", "time" (both of full depth) and "ms".
    """
    macs, fast = count_macs(model, size), for_inference(model)
    fast.transform.min_size, fast.transform.max_size = (min(size),), max(size)
    image = torch.rand(3, *size, device=next(model.parameters()).device)
    rows = []
    with one_thread():
        for exit in EXITS:
            found = time_ratio(functools.partial(fast, exit=exit), fast, [image], 1, rounds=rounds)
            about = {"exit": exit, "height": size[0], "width": size[1]}
            share = macs[exit]["total"] / macs[NUM_EXITS]["total"]
            rows.append({**about, "share": share, "time": found["mean"], "ms": found["ms"]})
    return rows


def main(run: Path, group: str, out: Path, repeats: int = REPEATS) -> None:
    """Measure one model."""
    try:
        typer.echo(f"wrote {measure(training_of(run, group), out, repeats)}")
    except (ValueError, OSError) as error:
        typer.echo(f"earlyexit: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
