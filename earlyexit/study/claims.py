"""Claims of the paper: what it says, what we measured, whether it holds here; and what was aimed at beyond the paper.

A claim holds ("yes") if the whole 95 % interval of what was measured is on its side, "no" if it is on the other, and is
"within noise" otherwise. Differences are ours minus what they are compared with, in points of percent.

To add a claim, write a function from `Models` to a `row` (or several) and name it in `CLAIMS`, at the end.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..evaluation.policies import NUM_SETTINGS, exit_proportions
from .findings import SETTING, Estimate, around, difference, estimate, gaps, seed_half, spearman
from .plan import (
    DATASETS,
    GROUPS,
    LAMBDA,
    THETA,
    paper_baseline,
    paper_ceiling,
    paper_exit_counts,
    paper_figures,
    paper_pairs,
    paper_sweep,
)
from .tables import BOTH, Models, at_same_compute, mean_correlation, rows_at

VERDICTS = {1: "yes", 0: "within noise", -1: "no"}
FULL = NUM_SETTINGS  # the setting at which nobody leaves early
NEAR_BASELINE = 31  # the setting of "fewer FLOPs" in section 5.1
LETTING_LEAVE = range(1, NUM_SETTINGS)  # the settings that let images leave
NOTE = "one training each; the noise of the seed is that of the proposed models"
# Trait, the sign with which it should go with the exit taken, and what section 5.4 says about it.
TRAITS = (
    ("difficulty", 1, "Easy images leave early, hard ones late"),
    ("size", -1, "Images with a large object leave earlier than those with a small one"),
    ("occlusion", 1, "Images whose object is partly hidden leave later"),
    ("contrast", -1, "Images with clear object boundaries leave earlier than those where the object hardly stands out"),
)
# To be reached beyond the paper: at least, or at most for times and the loss. Budgets are shares of full depth.
AIMS = {
    "map_kept": {"0.62": 0.99, "0.50": 0.97, "0.35": 0.90},
    "forced_exit1_kept": 0.85,
    "full_depth_loss": 0.5,
    "time_ratio": 0.68,
}


def row(name: str, claim: str, where: str, paper: object, ours: Estimate, **others) -> dict:
    """A row of the summary; `holds` is the sign of `ours` unless given."""
    if isinstance(paper, dict):
        paper = {key: round(value, 2) for key, value in paper.items()}
    found = {"name": name, "claim": claim, "where": where, "paper": paper, "ours": ours.rounded(), "seeds": ours.seeds}
    return {**found, "unit": "points of mAP", "holds": VERDICTS[ours.sign()], **others}


def _gain(models: Models, index: int) -> Estimate:
    """Proposed at a setting minus baseline at full depth."""
    proposed, baseline = models.pairs("proposed", "baseline")
    return difference(rows_at(proposed, "sweep", index), rows_at(baseline, "sweep", FULL))


def full_depth(models: Models) -> dict:
    """43.1 against 39.3."""
    text = "At full depth the model trained with the exits' loss reaches a higher mAP than the baseline."
    paper = {name: paper_sweep(name)[FULL - 1]["mAP"] - paper_baseline(name)["map"] for name in DATASETS}
    return row("full depth", text, "Table 3, index 34", paper, _gain(models, FULL))


def same_or_less_compute(models: Models) -> dict:
    """39.7 against 39.3 for 0.8 G less."""
    text = "At threshold index 31 it reaches a higher mAP than the baseline at full depth, with fewer GMACs."
    sweep, baseline = paper_sweep()[NEAR_BASELINE - 1], paper_baseline()
    paper = {"coco_single": sweep["mAP"] - baseline["map"]}
    paper["gmacs saved (%)"] = 100 * (1 - sweep["gmacs"] / baseline["gmacs"])
    ours = rows_at(models.pairs("proposed", "baseline")[0], "sweep", NEAR_BASELINE)
    saved = np.mean([100 * (1 - r["gmacs"] / r["gmacs_full"]) for r in ours])
    detail = f"here index 31 saves {saved:.2f} % of the GMACs"
    return row("fewer GMACs", text, "Table 3, section 5.1", paper, _gain(models, NEAR_BASELINE), detail=detail)


def rises_by_3_8(models: Models) -> dict:
    """The sentence of section 5.1 that takes its two halves from two rows."""
    text = '"The mAP metric increased by 3.8%, while the FLOPs were reduced by 0.8 GF": both in one setting.'
    ours, said = _gain(models, NEAR_BASELINE), 3.8
    reached = {i: paper_sweep()[i - 1]["mAP"] - paper_baseline()["map"] for i in (NEAR_BASELINE, FULL)}
    paper = {"text": said, "table 3, index 31": reached[NEAR_BASELINE], "table 3, index 34": reached[FULL]}
    detail = "by its own Table 3 the 3.8 points belong to index 34, which saves nothing"
    holds = VERDICTS[around(ours.mean - said, ours.half, ours.seeds).sign()]
    return row("3.8 points", text, "section 5.1", paper, ours, holds=holds, detail=detail)


def last_accuracy(models: Models) -> dict:
    """70.83 against 1.35 %."""
    text = "The last exit's classifier is right more often after training with the exits' loss than in the baseline."
    ours = difference(*(rows_at(of, "accuracy", 4) for of in models.pairs("proposed", "baseline")), "accuracy")
    paper = {name: paper_figures()["table 4"][name] for name in ("proposed", "baseline")}
    means = {g: np.mean([r["accuracy"] for r in rows_at(models.group(g), "accuracy", 4)]) for g in paper}
    classes = len(models.group("baseline")[0]["classes"])
    detail = f"here {means['proposed']:.2f} and {means['baseline']:.2f} %; by chance {100 / classes:.2f} %"
    return row("accuracy", text, "Table 4", paper, ours, unit="points of accuracy", detail=detail)


def along_the_sweep(models: Models) -> dict:
    """Figure 7, proposed against baseline at the same compute."""
    text = "At every amount of compute it reaches a higher mAP than the baseline."
    pair = models.pairs("proposed", "baseline")
    return _everywhere("along the sweep", text, "Figure 7, section 5.2", lambda i: at_same_compute(*pair, i))


def beats_random(models: Models) -> dict:
    """Figure 7, confidence against chance."""
    text = "Leaving by confidence reaches a higher mAP than leaving at random with the same shares."
    ours = models.group("proposed")
    pair = lambda i: (rows_at(ours, "sweep", i), rows_at(ours, "random", i))  # noqa: E731
    return _everywhere("random exits", text, "Figure 7, section 5.2", pair)


def downsampling_published(models: Models) -> dict:
    """Figure 8 as published: one model, evaluated with both fillers."""
    text = "For the same GMACs downsampling beats zero-filling: one model, evaluated with both, as published."
    pair = (models.group("proposed"),) * 2
    name, where = "fillers, published way", "Figure 8, section 5.3"
    return _everywhere(name, text, where, lambda i: at_same_compute(*pair, i, BOTH))


def downsampling_fair(models: Models) -> dict:
    """Figure 8 with a model trained for each filler."""
    text = "For the same GMACs downsampling beats zero-filling: each model trained with its own in the loop."
    pair = [[models.fair()[filler]] for filler in BOTH]
    return _everywhere("fillers, fair way", text, "Figure 8, section 5.3", lambda i: at_same_compute(*pair, i, BOTH))


def _everywhere(name: str, text: str, where: str, compared: Callable[[int], tuple[list[dict], list[dict]]]) -> dict:
    """A row of a claim about all settings that let images leave: yes if their mean and no single one speak against it.

    `compared` gives the rows of the seeds whose difference counts, for a setting.
    """
    found = [gaps(*compared(index)) for index in LETTING_LEAVE]
    signs = [estimate(*gap).sign() for gap in found]
    above, below = signs.count(1), signs.count(-1)
    detail = f"mean over the settings; of {len(signs)} it is higher beyond noise at {above}, lower at {below}"
    mean = estimate(*(np.mean(of_settings, axis=0) for of_settings in zip(*found, strict=True)))
    holds = "no" if below else VERDICTS[mean.sign()]
    return row(name, text, where, "higher at every setting", mean, holds=holds, detail=detail)


def easy_and_hard(models: Models) -> list[dict]:
    """Section 5.4, which shows pictures; a row for each trait that the data record."""
    found = [model["difficulty"] for model in models.group("proposed")]
    where, rows = f"section 5.4, index {SETTING}", []
    for trait, sign, text in TRAITS:
        known = mean_correlation(found, "exit taken", trait)
        if known is not None:
            about = {"unit": "rank correlation", "holds": VERDICTS[sign * known.sign()]}
            about["detail"] = f"of {trait} with the exit taken"
            rows.append(row(f"easy and hard: {trait}", f"{text}.", where, "example pictures", known, **about))
    return rows


def calibrated_shares(models: Models) -> dict:
    """Figure 9: wanted against realised, in standard deviations of drawing other images.

    A share p on n images, with a threshold set on m others, varies with about p (1 - p) (1 / n + 1 / m).
    """
    text = "Thresholds set on one split let the wanted shares of images leave on another."
    found = models.group("proposed")
    settings = [rows_at(found, "sweep", index) for index in LETTING_LEAVE]
    wanted = np.array([rows[0]["wanted"] for rows in settings])[:, None]
    off = np.abs([[r["realised"] for r in rows] for rows in settings] - wanted)  # (settings, seeds, exits)
    images = [found[0]["data"][split]["images"] for split in ("test", "calibration")]
    inside = off <= 3 * np.sqrt(wanted * (1 - wanted) * sum(1 / n for n in images))
    ours = Estimate(*(100 * float(value) for value in (off.mean(), off.min(), off.max())), len(found))
    counts = np.array([r["exits"] for r in paper_exit_counts()])
    paper = 100 * np.abs(counts / counts.sum(1, keepdims=True) - exit_proportions().numpy())[:-1]
    published = {"mean deviation": float(paper.mean()), "largest": float(paper.max())}
    detail = f"mean, smallest and largest deviation; {100 * inside.mean():.0f} % lie within three standard deviations"
    about = {"unit": "points of images", "holds": "yes" if inside.mean() > 0.95 else "no", "detail": detail}
    return row("shares", text, "section 4.1.3, Figure 9", published, ours, **about)


def ceiling(compute: Sequence[dict]) -> dict:
    """The most that leaving early can save with the paper's detector: all images at exit 1."""
    text = f"If every image left at exit 1, {paper_ceiling():.1f} % of the compute would be saved."
    whole = [row for row in compute if (row["filler"], row["part"]) == ("downsample", "total")]
    total = {(row["model"], row["exit"]): row["gmacs"] for row in whole}
    height, width = next((row["height"], row["width"]) for row in whole if row["model"] == "regnet_y_800mf")
    saved, nano = (100 * (1 - total[name, 1] / total[name, 4]) for name in ("regnet_y_800mf", "nano"))
    close = abs(saved - paper_ceiling()) < 0.5
    detail = f"counted at {height}x{width}, so no interval; the nano detector: {nano:.1f} %"
    about = {"unit": "% of GMACs", "holds": "yes" if close else "no", "detail": detail}
    where = "Tables 6, 7 and the published exit counts"
    return row("ceiling", text, where, {"ceiling": paper_ceiling()}, around(saved, 0, 1), **about)


def cheaper_in_time(latency: Sequence[dict]) -> dict:
    """The paper counts multiply-adds and measures no time."""
    text = "Leaving early reduces the cost of inference: time is saved, too."
    by = {(r["model"], r["batch_size"], r["exit"]): r for r in latency}
    first = by["regnet_y_800mf", 1, 1]
    ours = Estimate(first["time_saved"], first["low"], first["high"], 1)
    detail = f"the paper's detector at exit 1, one image at a time, median on {first['device']}; GMACs saved there: "
    about = {"unit": "% of time", "detail": f"{detail}{first['gmacs_saved']:.1f} %"}
    return row("time", text, "abstract", "not measured", ours, **about)


def best_theta(models: Models) -> dict:
    """The pair (0.0115, 1) against the best of the nine others."""
    text = "Of the ten pairs, theta 0.0115 and lambda 1 reach the highest mAP at full depth."
    ours, others = (THETA, LAMBDA), models.grid()
    others = {pair: rows_at([others[pair]], "sweep", FULL)[0]["mAP"] for pair in others if pair != ours}
    best = max(others, key=others.get)
    paper = {pair: paper_sweep(theta=pair[0], lambda_=pair[1])[FULL - 1]["mAP"] for pair in paper_pairs()}
    published = {"against the second best": paper.pop(ours) - max(paper.values())}
    detail = f"against the best of the others, theta {best[0]:g} and lambda {best[1]:g}; {NOTE}"
    return row("best theta", text, "section 4.3, Table 6", published, _gap(models, ours, best), detail=detail)


def small_changes(models: Models) -> dict:
    """4.4 points between theta 0.011 and 0.0115."""
    text = "A change of theta from 0.011 to 0.0115 raises the mAP at full depth."
    pairs = ((THETA, LAMBDA), (0.011, LAMBDA))
    return row("small changes of theta", text, "Table 6", _paper_gap(*pairs), _gap(models, *pairs), detail=NOTE)


def smaller_lambda(models: Models) -> dict:
    """Section 4.3 says that it lowers the mAP, the columns of Table 6 say the opposite on COCO-Single."""
    text = "A smaller lambda makes the model worse: at theta 0.5, lambda 1 reaches a higher mAP than lambda 0.5."
    pairs = ((0.5, 1.0), (0.5, 0.5))
    detail = f"the columns of Table 6 for the two are probably swapped on COCO-Single; {NOTE}"
    where = "section 4.3, Tables 6 and 7"
    return row("smaller lambda", text, where, _paper_gap(*pairs), _gap(models, *pairs), detail=detail)


def accuracy_and_map(models: Models) -> dict:
    """Section 5.2 concludes it from two models."""
    text = "The more accurate the classifiers, the higher the mAP."
    found = list(models.grid().values())
    both = ((rows_at(found, "sweep", FULL), "mAP"), (rows_at(found, "accuracy", 4), "accuracy"))
    maps, accuracies = (np.array([r[key] for r in rows]) for rows, key in both)
    drawn = [np.array([r["samples"] for r in rows], dtype=float).T for rows, _ in both]  # (repeats, models)
    ours = estimate([spearman(maps, accuracies)], [[spearman(a, b) for a, b in zip(*drawn, strict=True)]])
    detail = "rank correlation of the last classifier's accuracy with the mAP at full depth over the ten pairs"
    paper = "two models: baseline and proposed"
    return row("accuracy and mAP", text, "section 5.2", paper, ours, unit="rank correlation", detail=detail)


def _noise(models: Models) -> tuple[float, list[float]]:
    """Half the 95 % interval of the difference of two single trainings, from the spread of several.

    These are the proposed models, which differ by their seed alone; their mAP at full depth is given, too.
    """
    finals = [row["mAP"] for row in rows_at(models.group("proposed"), "sweep", FULL)]
    return seed_half(finals) * float(np.sqrt(2 * len(finals))), finals


def _gap(models: Models, *pairs: tuple[float, float]) -> Estimate:
    found = difference(*(rows_at([models.grid()[pair]], "sweep", FULL) for pair in pairs))
    return around(found.mean, float(np.hypot(found.half, _noise(models)[0])), found.seeds)


def _paper_gap(*pairs: tuple[float, float]) -> dict:
    reached = {name: [paper_sweep(name, *pair)[FULL - 1]["mAP"] for pair in pairs] for name in DATASETS}
    return {name: first - second for name, (first, second) in reached.items()}


# The claims about models by the groups that they need, in the order of the page of claims.
CLAIMS: tuple[tuple[tuple[str, ...], tuple[Callable[[Models], dict | list[dict]], ...]], ...] = (
    (("baseline", "proposed"), (full_depth, same_or_less_compute, rises_by_3_8, along_the_sweep, last_accuracy)),
    (("proposed",), (beats_random, downsampling_published)),
    (("fair",), (downsampling_fair,)),
    (("proposed", "grid"), (best_theta, small_changes, smaller_lambda)),
    (("grid",), (accuracy_and_map,)),
    (("proposed",), (calibrated_shares, easy_and_hard)),
)
_SIZES = {"fair": 2, "grid": 10}


def summarise(models: Models, compute: Sequence[dict], latency: Sequence[dict], benchmark: Path | None = None) -> dict:
    """The verdicts on all claims whose models are there.

    `compute` and `latency` are the tables of these names, `benchmark` the JSON that benchmarks/evaluation.py writes.
    Gives "claims": rows of "name", "claim", "where" in the paper, "paper" (its figures), "ours" (mean, low, high),
    "unit", "seeds", "holds" (yes, no, within noise) and "detail"; "left_out": claims whose models are missing;
    "passes_ratio" and "time_ratio" of the published protocol against this one, None where not measured; with several
    proposed models, "noise between seeds" and the standard "deviation of a training".
    """
    complete = {group for group in GROUPS if len(models.group(group)) >= _SIZES.get(group, 1)}
    ready = {claim: complete.issuperset(needed) for needed, claims in CLAIMS for claim in claims}
    found = [claim(models) for claim, is_ready in ready.items() if is_ready]
    rows = [row for one in found for row in (one if isinstance(one, list) else [one])]
    left_out = [claim.__name__ for claim, is_ready in ready.items() if not is_ready]
    summary = {"claims": [*rows, ceiling(compute), cheaper_in_time(latency)], "left_out": left_out}
    measured = json.loads(benchmark.read_text()) if benchmark and benchmark.is_file() else {}
    for name in ("passes_ratio", "time_ratio"):
        summary[name] = None if measured.get(name) is None else round(measured[name], 1)
    noise, finals = _noise(models)
    if len(finals) > 1:
        summary["noise between seeds"] = round(noise, 2)
        summary["deviation of a training"] = round(float(np.std(finals, ddof=1)), 3)
    return summary


def summarise_beyond(early: Sequence[dict], proposed: Sequence[dict], times: dict[str, dict]) -> dict:
    """The rows of the project's aims, from results of the whole recipe and of the proposed models, a seed each.

    `times` are what `time_ratio` gave for "batch1" and "batch16". Gives "map_kept" {"0.62": ..., "0.50": ..., "0.35":
    ...}, shares of the mAP at full depth, each with "gmacs_share", the share of the GMACs that was realised, and
    "of_proposed", the mean mAP as a share of the proposed models' at full depth; "forced_exit1_kept", likewise;
    "full_depth_map" and "proposed_full_depth_map" in percent; "time_ratio". Each has "mean", "low" and "high", over
    seeds, of times over rounds. "aims" are what was to be reached, "reached" whether the mean does.
    """
    papers = estimate([r["mAP"] for r in rows_at(proposed, "sweep", FULL)]).rounded()

    def share(kept: Sequence[float], maps: Sequence[float], **more: Sequence[float]) -> dict:
        means = {name: round(float(np.mean(values)), 4) for name, values in more.items()}
        return {**estimate(kept).rounded(4), **means, "of_proposed": round(float(np.mean(maps)) / papers["mean"], 4)}

    kept = {}
    for name in AIMS["map_kept"]:
        rows = [at_budget(model, float(name)) for model in early]
        kept[name] = share(*([r[key] for r in rows] for key in ("kept", "mAP")), gmacs_share=[r["share"] for r in rows])
    at_first, at_last = ([model["forced"][exit]["mAP"] for model in early] for exit in (0, 3))
    first = share([a / b for a, b in zip(at_first, at_last, strict=True)], at_first)
    own = estimate(at_last).rounded()
    reached = {f"map_kept {name}": kept[name]["mean"] >= aim for name, aim in AIMS["map_kept"].items()}
    reached["forced_exit1_kept"] = first["mean"] >= AIMS["forced_exit1_kept"]
    reached["full_depth_map"] = papers["mean"] - own["mean"] <= AIMS["full_depth_loss"]
    reached |= {f"time_ratio {name}": ratio["mean"] <= AIMS["time_ratio"] for name, ratio in times.items()}
    summary = {"seeds": len(early), "map_kept": kept, "forced_exit1_kept": first, "full_depth_map": own}
    return {**summary, "proposed_full_depth_map": papers, "time_ratio": times, "aims": AIMS, "reached": reached}


def at_budget(model: dict, budget: float) -> dict:
    for row in model["budgets"]:
        if abs(row["budget"] - budget) < 1e-6:
            return row
    raise ValueError(f"{model['name']} has no thresholds for a budget of {budget}: its cheapest exit costs more")
