"""Does choosing who leaves pay in time, too? Mixtures of exits against detectors that do not choose, in one run.

    python benchmarks/choosing_clock.py RUN --static RUN [--static RUN ...] --out earlyexit/study/results/scenes

after `earlyexit choosing` with the same runs and folder, whose records it reads. All detectors take turns on the same
test images, in batches of 1 and of 16, in PyTorch on one thread of the CPU. The images are few, and chosen so that
every mixture costs on them what it does on the whole split. Written into the summary there:

- "time_gain" of the data: mAP above lots between the detectors that do not choose at the same measured time, the mean
  over the budgets; the interval knows of other images and of other rounds;
- "time_ratio": time at 62 % of the GMACs of full depth as a share of its time, "small" for RUN one image at a time
  ("small batch16", and with --onnx "small onnx"), "large" for the paper's detector at 800 x 1216 with learned necks and
  random weights. There the early exits have the shares among each other that RUN's images gave them at 62 %, and as
  many images leave early as makes 62 % of that detector's GMACs.

Beside it a table of all times, `choosing_clock.csv`. Some seven minutes on an idle core.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from earlyexit.data import coco_split
from earlyexit.evaluation.cost import count_macs, one_thread, take_turns
from earlyexit.evaluation.fitting import fit_worth
from earlyexit.evaluation.policies import rule_scores, threshold_exits
from earlyexit.evaluation.records import at_exits
from earlyexit.files import write_json, write_table
from earlyexit.model import load_detector
from earlyexit.model.backbone import EXITS, NUM_EXITS
from earlyexit.model.export import OnnxDetector, export_onnx, for_inference
from earlyexit.model.inputs import network_size
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


def mixtures(run: Choosing) -> dict[float, tuple[dict, Tensor]]:
    """By share of the paper's full depth, or "own" for `SHARE` of its own: what the model is told, and the exits."""
    calibration, found = run.calibration, {}
    least, full = (float(calibration.gmacs[k].mean()) for k in (0, -1))
    for share, budget in {**{s: s * run.unit for s in PAPER}, "own": SHARE * full}.items():
        rule, thresholds = fit_worth(calibration, budget=min(max(budget, least * 1.001) / full, 1.0))
        exits = threshold_exits(rule_scores(run.test, rule), thresholds)
        found[share] = {"rule": rule, "thresholds": thresholds}, exits
    return found


def images_like_all(run: Choosing, choices: Sequence[Tensor], images: int) -> list[int]:
    """Test images on which each choice of exits costs nearly what it does on all, the best of many draws."""
    costs = torch.stack([at_exits(run.test.gmacs, exits) for exits in choices])
    draw = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(len(run.test), generator=draw)[:images] for _ in range(DRAWS)]
    return min(drawn, key=lambda some: float((costs[:, some].mean(1) / costs.mean(1) - 1).abs().max())).tolist()


def times(calls: Sequence[Callable], images: Sequence[Tensor], batch: int, rounds: int) -> np.ndarray:
    """(calls, rounds) milliseconds of an image."""
    batches = [list(images[i : i + batch]) for i in range(0, len(images), batch)]
    taken = take_turns(calls, batches[:1] + batches * rounds, images[0].device, warmup=1)
    return 1000 * taken.reshape(len(calls), rounds, -1).sum(2) / len(images)


def time_gain(run: Choosing, exits: Sequence[Tensor], ours: np.ndarray, own: list, theirs: np.ndarray, repeats: int):
    """mAP of mixtures above lots between static detectors at the same time, the mean over the mixtures.

    Args:
        run: the detector that chooses.
        exits: of its test images, for each mixture.
        ours: (mixtures, rounds) times.
        own: detectors that do not choose, and the exit of each.
        theirs: (detectors, rounds) times.
        repeats: bootstrap samples.
    """
    maps = [frontier(static.calibration)[exit - 1][1] for static, exit in own]
    points = list(zip(np.median(theirs, 1).tolist(), maps, strict=True))
    tests = [(static.test, exit) for static, exit in own]
    mine = [row_of(run.test, [chosen], repeats) for chosen in exits]
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
    run, *statics = (open_run(run, options.data, options.out / "records") for run in (options.run, *options.static))
    own = list(zip(statics, map(static_exit, options.static), strict=True))
    mixed, dataset = mixtures(run), coco_split(options.data, "test")
    chosen = images_like_all(run, [exits for _, exits in mixed.values()], options.images)
    images, model = [dataset[i][0] for i in chosen], fast_detector(options.run)
    ways = {f"{run.name} {share}": functools.partial(model, **told) for share, (told, _) in mixed.items()}
    ways |= {f"{run.name} full": model}
    ways |= {s.name: functools.partial(fast_detector(r), exit=k) for r, (s, k) in zip(options.static, own, strict=True)}
    gains, ratios, rows = {}, {}, []
    for batch in (1, 16):
        taken = times(list(ways.values()), images, batch, options.rounds)
        ours, half, full, theirs = np.split(taken, [len(PAPER), len(PAPER) + 1, len(PAPER) + 2])
        exits = [mixed[share][1] for share in PAPER]
        gains[f"batch{batch}"] = time_gain(run, exits, ours, own, theirs, options.repeats)
        ratios["small" if batch == 1 else f"small batch{batch}"] = estimate((half / full)[0].tolist()).rounded(4)
        ms = np.median(taken, 1).round(3).tolist()
        rows += [{"batch": batch, "detector": way, "ms": t} for way, t in zip(ways, ms, strict=True)]
    if options.onnx:
        ratios["small onnx"] = onnx_ratio(model, mixed["own"][0], images, options.rounds)
    shares = [float((mixed["own"][1] == k).double().mean()) for k in EXITS]
    ratios["large"] = time_of_large(shares, options.size, options.photos, options.rounds)
    return gains, ratios, rows


def main() -> None:
    """Measure, and add to the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run that chooses")
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
