"""Does choosing who leaves pay in time, too? Mixtures of exits against detectors that do not choose, in one run.

    python benchmarks/choosing_clock.py RUN [RUN ...] --static RUN [--static RUN ...] --out FOLDER

after `earlyexit choosing` with the same runs and folder, whose records it reads. RUNs are of one seed, for images of
several sizes; at each budget the best of them on the calibration split counts. All detectors take turns on the same
test images, in batches of 1 and of 16, in PyTorch on one thread of the CPU. The images are few, and chosen so that
every mixture costs on them what it does on the whole split. Written into the summary there:

- "time_gain" of the data: mAP above lots between the detectors that do not choose at the same measured time, the mean
  over the budgets; the interval knows of other images and of other rounds;
- "time_ratio": time at 62 % of the GMACs of full depth as a share of its time, "small" for the first RUN one image at a
  time ("small batch16", and with --onnx "small onnx"), "large" for the paper's detector at 800 x 1216 with learned
  necks and random weights. There the early exits have the shares among each other that RUN's images gave them at
  62 %, and as many images leave early as makes 62 % of that detector's GMACs.

Beside it a table of all times, `choosing_clock.csv`. Some minutes on an idle core.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from earlyexit.data import coco_split
from earlyexit.evaluation.cost import count_macs, one_thread, take_turns
from earlyexit.evaluation.policies import rule_exits
from earlyexit.evaluation.records import at_exits
from earlyexit.files import write_json, write_table
from earlyexit.model import load_detector
from earlyexit.model.backbone import EXITS, NUM_EXITS
from earlyexit.model.export import OnnxDetector, export_onnx, for_inference
from earlyexit.model.inputs import network_size
from earlyexit.study.choosing import of_any_size, worth_for
from earlyexit.study.findings import around, difference, estimate, seed_half
from earlyexit.study.measure import PAPER_SIZE, paper_detector, time_ratio
from earlyexit.study.opponents import (
    PAPER,
    Choosing,
    frontier,
    lots_between,
    open_run,
    row_of,
    static_exit,
    upper_hull,
)

SHARE = 0.62  # of full depth's GMACs, in "time_ratio"
DRAWS = 500  # of images to choose from
ANY = (0.5, 0.5, 0.5)  # thresholds of scores that are 0 or 1


def fast_detector(run: str | Path):
    """The detector of a run, for inference."""
    return for_inference(load_detector(run)[0])


@dataclass(frozen=True)
class Mixture:
    """A detector, what it is told so that it keeps a budget, and the exits (N,) that its test images then take."""

    run: Choosing
    told: dict
    exits: Tensor


def mixture(run: Choosing, budget: float) -> Mixture:
    """The one of a budget in GMACs."""
    rule, thresholds = worth_for(run.calibration, "worth", budget)
    exits = rule_exits(run.test, rule, thresholds)
    return Mixture(run, {"rule": rule, "thresholds": thresholds}, exits)


def mixtures(runs: Sequence[Choosing]) -> dict[float | str, Mixture]:
    """By share of the paper's full depth, and the "own" one of the first detector, for `SHARE` of its full depth."""
    found = {share: mixture(*of_any_size(runs, "worth", share * runs[0].unit)) for share in PAPER}
    return {**found, "own": mixture(runs[0], SHARE * float(runs[0].calibration.gmacs[-1].mean()))}


def images_like_all(mixed: Sequence[Mixture], images: int) -> list[int]:
    """Test images on which each mixture costs nearly what it does on all, the best of many draws."""
    costs = torch.stack([at_exits(one.run.test.gmacs, one.exits) for one in mixed])
    draw = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(costs.shape[1], generator=draw)[:images] for _ in range(DRAWS)]
    return min(drawn, key=lambda some: float((costs[:, some].mean(1) / costs.mean(1) - 1).abs().max())).tolist()


def times(calls: Sequence[Callable], images: Sequence[Tensor], batch: int, rounds: int) -> np.ndarray:
    """(calls, rounds) milliseconds of an image."""
    batches = [list(images[i : i + batch]) for i in range(0, len(images), batch)]
    taken = take_turns(calls, batches[:1] + batches * rounds, images[0].device, warmup=1)
    return 1000 * taken.reshape(len(calls), rounds, -1).sum(2) / len(images)


def time_gain(mixed: Sequence[Mixture], ours: np.ndarray, own: list, theirs: np.ndarray, repeats: int) -> dict:
    """mAP of mixtures above lots between static detectors at the same time, the mean over the mixtures.

    Args:
        mixed: the mixtures.
        ours: (mixtures, rounds) times.
        own: detectors that do not choose, and the exit of each.
        theirs: (detectors, rounds) times.
        repeats: bootstrap samples.
    """
    maps = [frontier(static.calibration)[exit - 1][1] for static, exit in own]
    points = list(zip(np.median(theirs, 1).tolist(), maps, strict=True))
    tests = [(static.test, exit) for static, exit in own]
    mine = [row_of(one.run.test, [one.exits], repeats) for one in mixed]
    lots = [lots_between(tests, points, float(np.median(t)), repeats) for t in ours]
    mean = [{key: np.mean([row[key] for row in rows], 0) for key in ("mAP", "samples")} for rows in (mine, lots)]
    gain, hull = difference(*([row] for row in mean)), upper_hull(points)
    by_round = [
        np.mean([np.interp(t[k], theirs[hull, k], [maps[i] for i in hull]) for t in ours]) for k in range(ours.shape[1])
    ]
    return around(gain.mean, float(np.hypot(gain.half, seed_half(by_round))), 1).rounded()


def planned_exits(shares: Sequence[float], gmacs: Sequence[float], images: int) -> list[int]:
    """Exits of so many images: early ones as `shares` have them among each other, all at `SHARE` of the GMACs."""
    early, costs = np.array(shares[:3]), np.array(gmacs) / gmacs[-1]
    early = early / early.sum()
    leave = min((1 - SHARE) / (1 - early @ costs[:3]), 1.0)
    places = (np.arange(images) + 0.5) / images  # evenly spread over the exits
    found = np.searchsorted(np.cumsum([*(leave * early), 1 - leave]), places) + 1
    return np.minimum(found, NUM_EXITS).tolist()


def time_of_large(shares: Sequence[float], size: tuple[int, int], images: int, rounds: int) -> dict:
    """The ratio of the paper's detector, and the "share" of its GMACs that the images took."""
    model = paper_detector(filler="learned", first_read="merged")
    model.transform.min_size, model.transform.max_size = (min(size),), max(size)
    macs = [part["total"] for part in count_macs(model, size).values()]
    plan, fast = planned_exits(shares, macs, images), for_inference(model)
    draw = torch.Generator().manual_seed(0)
    given = [([torch.rand(3, *size, generator=draw)], exit) for exit in plan]

    def early(photo: tuple[list[Tensor], int]) -> list[dict]:
        leaves = lambda reached: torch.full((len(reached.logits),), float(reached.index >= photo[1]))  # noqa: E731
        return fast(photo[0], thresholds=ANY, rule=leaves)

    taken = take_turns((early, lambda photo: fast(photo[0])), given[:1] + given * rounds, torch.device("cpu"), warmup=1)
    sums = taken.reshape(2, rounds, -1).sum(2)
    ratio = estimate((sums[0] / sums[1]).tolist()).rounded(4)
    return {**ratio, "gmacs_share": round(sum(macs[k - 1] for k in plan) / (len(plan) * macs[-1]), 4)}


def onnx_ratio(model, told: dict, images: Sequence[Tensor], rounds: int) -> dict:
    """The ratio in onnxruntime, one image at a time."""
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, folder, network_size(model, images[0]))
        fast = OnnxDetector(folder, model)
        found = time_ratio(functools.partial(fast, **told), fast, images, 1, rounds=rounds)
    return {key: found[key] for key in ("mean", "low", "high")}


def measure(options: argparse.Namespace) -> tuple[dict, dict, list[dict]]:
    """The time gains, the time ratios and the table."""
    given = [*options.runs, *options.static]
    opened = [open_run(run, options.data, options.out / "records") for run in given]
    runs, statics = opened[: len(options.runs)], opened[len(options.runs) :]
    own = list(zip(statics, map(static_exit, options.static), strict=True))
    mixed, dataset = mixtures(runs), coco_split(options.data, "test")
    images = [dataset[i][0] for i in images_like_all(list(mixed.values()), options.images)]
    models = {run.name: fast_detector(path) for run, path in zip(opened, given, strict=True)}
    told = {f"{one.run.name} {share}": (one.run.name, one.told) for share, one in mixed.items()}
    ways = {name: functools.partial(models[run], **asked) for name, (run, asked) in told.items()}
    ways |= {f"{runs[0].name} full": models[runs[0].name]}
    ways |= {s.name: functools.partial(models[s.name], exit=k) for s, k in own}
    gains, ratios, rows = {}, {}, []
    for batch in (1, 16):
        taken = times(list(ways.values()), images, batch, options.rounds)
        ours, half, full, theirs = np.split(taken, [len(PAPER), len(PAPER) + 1, len(PAPER) + 2])
        gains[f"batch{batch}"] = time_gain([mixed[share] for share in PAPER], ours, own, theirs, options.repeats)
        ratios["small" if batch == 1 else f"small batch{batch}"] = estimate((half / full)[0].tolist()).rounded(4)
        ms = np.median(taken, 1).round(3).tolist()
        rows += [{"batch": batch, "detector": way, "ms": t} for way, t in zip(ways, ms, strict=True)]
    if options.onnx:
        ratios["small onnx"] = onnx_ratio(models[runs[0].name], mixed["own"].told, images, options.rounds)
    shares = [float((mixed["own"].exits == k).double().mean()) for k in EXITS]
    ratios["large"] = time_of_large(shares, options.size, options.photos, options.rounds)
    return gains, ratios, rows


def main() -> None:
    """Measure, and add to the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="runs that choose, of one seed, for images of several sizes")
    parser.add_argument("--static", action="append", default=[], help="a run whose images leave at its last exit")
    parser.add_argument("--data", default="data/scenes")
    parser.add_argument("--out", type=Path, default=Path("results/choosing"), help="folder of the comparison")
    parser.add_argument("--name", default="scenes_many", help="of the data, in the summary")
    parser.add_argument("--images", type=int, default=64, help="test images, a multiple of 16")
    parser.add_argument("--photos", type=int, default=12, help="large ones")
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split(","))), default=PAPER_SIZE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=100, help="bootstrap samples")
    parser.add_argument("--onnx", action="store_true", help="time RUN in onnxruntime, too")
    options = parser.parse_args()
    with one_thread():
        gains, ratios, rows = measure(options)
    path = options.out / "choosing_summary.json"
    summary = json.loads(path.read_text())
    summary[options.name]["time_gain"] = gains
    write_table(options.out / "choosing_clock.csv", rows)
    print(write_json(path, {**summary, "time_ratio": ratios}))


if __name__ == "__main__":
    main()
