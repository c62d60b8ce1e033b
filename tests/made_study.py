"""Results of a study, made up: every number is known, so that tables and verdicts can be checked by hand."""

from dataclasses import asdict

from earlyexit.evaluation.coco import METRICS
from earlyexit.evaluation.policies import exit_proportions
from earlyexit.study.plan import plan

FULL_GMACS = (1.0, 1.5, 1.8, 2.0)  # of an image at exits 1-4
SHARES = exit_proportions().tolist()
NOISE = (-1.0, 1.0)  # what two bootstrap samples deviate by


def made_models(gain=10.0, per_seed=0.0, zero=4.0, random=6.0, grid=None, seeds=(0, 1, 2), own=0.0) -> dict[str, dict]:
    """Models by name.

    Args:
        gain: mAP of proposed minus baseline, at each setting.
        per_seed: what each further seed adds to the mAP of proposed.
        zero: mAP of downsampling minus zero-filling.
        random: mAP of the sweep minus random exits.
        grid: mAP at full depth of the pairs (theta, lambda) of the grid that differ from 20.
        seeds: of baseline and proposed.
        own: deviation of the first bootstrap sample of each proposed model, which baselines do not share.
    """
    models = {}
    for training in plan("scenes", "data", "runs", seeds=seeds):
        s = training.settings
        level = {"baseline": 0.0, "proposed": gain + per_seed * s.seed, "fair": 5.0}.get(training.group)
        if level is None:
            level = (grid or {}).get((s.theta, s.lambda_), 20.0) - 20.0
        deviation = own if training.group == "proposed" else 0.0
        models[training.name] = _model(training, level, zero, random, deviation)
    return models


def _model(training, level: float, zero: float, random: float, own: float) -> dict:
    fillers = {}
    for filler in training.fillers:
        down = level - (zero if filler == "zero" else 0.0)
        sweep = [_row(down, index, own) for index in range(1, 35)]
        forced = [{"exit": k, **_reached(20 + down - 4 + k, FULL_GMACS[k - 1])} for k in (1, 2, 3, 4)]
        fillers[filler] = {"sweep": sweep, "forced": forced}
    own_rows = fillers[training.settings.filler]
    own_rows["random"] = [{**row, "low": row["mAP"] - 1, "high": row["mAP"] + 1} for row in _shifted(own_rows, random)]
    accuracy = [{"exit": k, **_spread(50 + level + k, "accuracy")} for k in (1, 2, 3, 4)]
    return {
        "name": training.name,
        "group": training.group,
        "filler": training.settings.filler,
        "repeats": 2,
        "classes": [str(c) for c in range(20)],
        "settings": asdict(training.settings),
        "data": {split: {"images": 1000, "annotations": split} for split in ("train", "calibration", "test")},
        "seconds": {"training": 100.0, "images": 10.0, "numbers": 5.0},
        "commit": "abc",
        "date": "2026-01-01",
        "machine": "made up",
        "fillers": fillers,
        "accuracy": accuracy,
        "difficulty": _difficulty(training.settings.seed),
    }


def _row(level: float, index: int, own: float) -> dict:
    """A setting: the mAP falls by 0.5 with each index below 34 (17 and 18 are the same); shares are as wanted."""
    shares = SHARES[index - 1]
    gmacs = sum(share * cost for share, cost in zip(shares, FULL_GMACS, strict=True))
    values = _reached(20 + level - 0.5 * (34 - (18 if index == 17 else index)), gmacs)
    values["samples"] = [values["samples"][0] + own, values["samples"][1]]
    return {"index": index, "thresholds": [0.9, 0.8, 0.7], "wanted": shares, "realised": shares, **values}


def _reached(value: float, gmacs: float) -> dict:
    return {"gmacs": gmacs, "gmacs_full": 2.0, "accuracy": 50.0, **dict.fromkeys(METRICS, value), **_spread(value)}


def _spread(value: float, key: str = "mAP") -> dict:
    return {key: value, "low": value - 1, "high": value + 1, "samples": [value + n for n in NOISE]}


def _shifted(rows: dict, by: float) -> list[dict]:
    return [
        {"index": r["index"], "gmacs": r["gmacs"], "mAP": r["mAP"] - by, "samples": [x - by for x in r["samples"]]}
        for r in rows["sweep"]
    ]


def _difficulty(seed: int) -> dict:
    signs = {"size": -1, "occlusion": 1, "clutter": 1, "contrast": -1, "difficulty": 1}
    correlations = [
        {"of": of, "with": trait, "value": 0.5 * sign, "low": 0.5 * sign - 0.1, "high": 0.5 * sign + 0.1}
        for of in ("exit taken", "confidence 1")
        for trait, sign in signs.items()
    ]
    thirds = []
    for number, third in enumerate(("easy", "middle", "hard")):
        for exit in (1, 2, 3, 4, "taken"):
            row = {"third": third, "by": "difficulty", "images": 333, "exit": exit}
            row |= {"mAP": 60.0 - 10 * number + seed, "low": 50.0, "high": 70.0, "accuracy": 80.0}
            thirds.append(row | ({"shares": [0.1, 0.2, 0.3, 0.4]} if exit == "taken" else {}))
    taken = {0: "1111", 1: "1112", 2: "1122"}.get(seed, "1111")
    return {"setting": 20, "exits_taken": taken, "correlations": correlations, "thirds": thirds}


def made_early(name="early-0", full=60.0, kept=(0.99, 0.97, 0.91), **more) -> dict:
    """The results of a model beyond the paper."""
    metrics = dict.fromkeys(("AP50", "AP75", "AP small", "AP medium", "AP large"), 1.0)
    forced = [
        {"exit": k, "mAP": m, "gmacs": g, "gmacs_full": 2.0, **metrics}
        for k, m, g in ((1, 48.0, 0.6), (2, 57.0, 0.8), (3, 59.0, 1.9), (4, full, 2.0))
    ]
    budgets = [
        {"budget": b, "share": b - 0.01, "kept": k, "mAP": full * k, "loss_at_most": 1.0, "exits": {1: 5}, **metrics}
        for b, k in zip((0.62, 0.5, 0.35), kept, strict=True)
    ]
    return {
        "name": name,
        "group": "early",
        "split": "test",
        "settings": {"epochs": 4, "seed": 0, "data": "made up"},
        "data": {},
        **dict.fromkeys(("commit", "date", "machine", "seconds"), "made up"),
        "forced": forced,
        "budgets": budgets,
        **more,
    }


def made_costs() -> tuple[list[dict], list[dict]]:
    """Rows of compute and latency."""
    total = {1: 141.0, 2: 150.0, 3: 153.0, 4: 154.6}
    compute = [
        {"model": m, "height": 800, "width": 1216, "filler": "downsample", "exit": e, "part": "total", "gmacs": g}
        for m in ("nano", "regnet_y_800mf")
        for e, g in total.items()
    ]
    late = {"model": "regnet_y_800mf", "batch_size": 1, "exit": 1, "time_saved": 12.0, "low": 11.0, "high": 13.0}
    return compute, [{**late, "gmacs_saved": 8.8, "device": "cpu"}]
