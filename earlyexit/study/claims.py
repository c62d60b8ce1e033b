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
from .costs import PAPER_SIZE
from .estimates import Estimate, at_gmacs, difference, estimate, floats, seed_half, spearman
from .findings import SETTING
from .finished import Models, accuracy_at, at_random, at_setting
from .paper import DATASETS, paper_baseline, paper_ceiling, paper_exit_counts, paper_figures, paper_pairs, paper_sweep
from .plan import GROUPS, LAMBDA, THETA
from .tables import mean_correlation

VERDICTS = {1: "yes", 0: "within noise", -1: "no"}
FULL = NUM_SETTINGS  # the setting at which nobody leaves early
NEAR_BASELINE = 31  # the setting of "fewer FLOPs" in section 5.1
EARLY = range(1, NUM_SETTINGS)  # the settings that let images leave
NOTE = "one training each; the noise of the seed is that of the proposed models"
# Trait, the sign with which it should go with the exit taken, and what section 5.4 says about it.
TRAITS = (
    ("difficulty", 1, "Easy images leave early, hard ones late"),
    ("size", -1, "Images with a large object leave earlier than those with a small one"),
    ("occlusion", 1, "Images whose object is partly hidden leave later"),
    ("contrast", -1, "Images with clear object boundaries leave earlier than those where the object hardly stands out"),
)
KEPT = ("0.62", "0.50", "0.35")  # budgets, as shares of full depth
# To be reached beyond the paper: at least, or at most for times and the loss.
AIMS = {
    "map_kept": {"0.62": 0.99, "0.50": 0.97, "0.35": 0.90},
    "forced_exit1_kept": 0.85,
    "full_depth_loss": 0.5,
    "time_ratio": 0.68,
}


def row(name: str, claim: str, where: str, paper: object, ours: Estimate, **others) -> dict:
    """A row of the summary; `holds` is the sign of `ours` unless given."""
    found = {"name": name, "claim": claim, "where": where, "paper": paper, "ours": ours.rounded(), "seeds": ours.seeds}
    return {**found, "unit": "points of mAP", "holds": VERDICTS[ours.sign()], **others}


def full_depth(models: Models) -> dict:
    """43.1 against 39.3."""
    ours = difference(*models.pairs("proposed", "baseline"), at_setting(FULL))
    paper = {name: paper_sweep(name)[FULL - 1]["mAP"] - paper_baseline(name)["map"] for name in DATASETS}
    text = "At full depth the model trained with the exits' loss reaches a higher mAP than the baseline."
    return row("full depth", text, "Table 3, index 34", rounded(paper), ours)


def same_or_less_compute(models: Models) -> dict:
    """39.7 against 39.3 for 0.8 G less."""
    pair = models.pairs("proposed", "baseline")
    ours = difference(*pair, at_setting(NEAR_BASELINE), at_setting(FULL))
    text = "At threshold index 31 it reaches a higher mAP than the baseline at full depth, with fewer GMACs."
    sweep, baseline = paper_sweep()[NEAR_BASELINE - 1], paper_baseline()
    paper = {"coco_single": sweep["mAP"] - baseline["map"]}
    paper["gmacs saved (%)"] = 100 * (1 - sweep["gmacs"] / baseline["gmacs"])
    saved = np.mean([100 * (1 - r["gmacs"] / r["gmacs_full"]) for r in map(at_setting(NEAR_BASELINE), pair[0])])
    detail = f"here index 31 saves {saved:.2f} % of the GMACs"
    return row("fewer GMACs", text, "Table 3, section 5.1", rounded(paper), ours, detail=detail)


def rises_by_3_8(models: Models) -> dict:
    """The sentence of section 5.1 that takes its two halves from two rows."""
    ours, said = difference(*models.pairs("proposed", "baseline"), at_setting(NEAR_BASELINE), at_setting(FULL)), 3.8
    text = '"The mAP metric increased by 3.8%, while the FLOPs were reduced by 0.8 GF": both in one setting.'
    sweep = {r["index"]: r["mAP"] - paper_baseline()["map"] for r in paper_sweep()}
    paper = {"text": said, "table 3, index 31": sweep[NEAR_BASELINE], "table 3, index 34": sweep[FULL]}
    beyond = Estimate(ours.mean - said, ours.low - said, ours.high - said, ours.seeds)
    detail = "by its own Table 3 the 3.8 points belong to index 34, which saves nothing"
    where, holds = "section 5.1", VERDICTS[beyond.sign()]
    return row("3.8 points", text, where, rounded(paper), ours, holds=holds, detail=detail)


def last_accuracy(models: Models) -> dict:
    """70.83 against 1.35 %."""
    ours = difference(*models.pairs("proposed", "baseline"), accuracy_at(4), key="accuracy")
    paper = {name: paper_figures()["table 4"][name] for name in ("proposed", "baseline")}
    means = {g: np.mean([accuracy_at(4)(m)["accuracy"] for m in models.group(g)]) for g in paper}
    classes = len(models.group("baseline")[0]["classes"])
    detail = f"here {means['proposed']:.2f} and {means['baseline']:.2f} %; by chance {100 / classes:.2f} %"
    text = "The last exit's classifier is right more often after training with the exits' loss than in the baseline."
    return row("accuracy", text, "Table 4", paper, ours, unit="points of accuracy", detail=detail)


def rounded(values: dict) -> dict:
    return {name: round(value, 2) for name, value in values.items()}


def along_the_sweep(models: Models) -> dict:
    """Figure 7, proposed against baseline at the same compute."""

    def compared(proposed: dict, baseline: dict, index: int) -> tuple[dict, dict]:
        ours = at_setting(index)(proposed)
        return ours, at_gmacs(baseline["fillers"][baseline["filler"]]["sweep"], ours["gmacs"])

    text = "At every amount of compute it reaches a higher mAP than the baseline."
    pairs = [*zip(*models.pairs("proposed", "baseline"), strict=True)]
    return _everywhere("along the sweep", text, "Figure 7, section 5.2", pairs, compared)


def beats_random(models: Models) -> dict:
    """Figure 7, confidence against chance."""

    def compared(model: dict, same: dict, index: int) -> tuple[dict, dict]:
        return at_setting(index)(model), at_random(index)(same)

    text = "Leaving by confidence reaches a higher mAP than leaving at random with the same shares."
    pairs = [(model, model) for model in models.group("proposed")]
    return _everywhere("random exits", text, "Figure 7, section 5.2", pairs, compared)


def downsampling_published(models: Models) -> dict:
    """Figure 8 as published: the fillers of one model."""
    text = "For the same GMACs downsampling beats zero-filling: one model, evaluated with both, as published."
    return _fillers("fillers, published way", text, [(model, model) for model in models.group("proposed")])


def downsampling_fair(models: Models) -> dict:
    """Figure 8 with a model trained for each filler."""
    text = "For the same GMACs downsampling beats zero-filling: each model trained with its own in the loop."
    fair = models.fair()
    return _fillers("fillers, fair way", text, [(fair["downsample"], fair["zero"])])


def _fillers(name: str, text: str, pairs: Sequence[tuple[dict, dict]]) -> dict:
    def compared(first: dict, second: dict, index: int) -> tuple[dict, dict]:
        down = at_setting(index, "downsample")(first)
        return down, at_gmacs(second["fillers"]["zero"]["sweep"], down["gmacs"])

    return _everywhere(name, text, "Figure 8, section 5.3", pairs, compared)


def _everywhere(name: str, text: str, where: str, pairs: Sequence[tuple], compared: Callable) -> dict:
    """A row of a claim about all settings that let images leave: yes if their mean and no single one speak against it.

    `compared` gives the two rows whose difference counts, for a pair of models and a setting.
    """
    rows = [[compared(*pair, index) for index in EARLY] for pair in pairs]
    values = np.array([[a["mAP"] - b["mAP"] for a, b in of_pair] for of_pair in rows])  # (seeds, settings)
    samples = np.array([[floats(a["samples"]) - floats(b["samples"]) for a, b in of_pair] for of_pair in rows])
    each = [estimate(values[:, i], samples[:, i]) for i in range(len(EARLY))]
    above, below = sum(e.sign() > 0 for e in each), sum(e.sign() < 0 for e in each)
    detail = f"mean over the settings; of {len(each)} it is higher beyond noise at {above}, lower at {below}"
    mean = estimate(values.mean(1), samples.mean(1))
    holds = "no" if below else VERDICTS[mean.sign()]
    return row(name, text, where, "higher at every setting", mean, holds=holds, detail=detail)


def easy_and_hard(models: Models) -> list[dict]:
    """Section 5.4, which shows pictures; a row for each trait that the data record."""
    found = [model["difficulty"] for model in models.group("proposed")]
    rows = []
    for trait, sign, text in TRAITS:
        known = mean_correlation(found, "exit taken", trait)
        if known is not None:
            holds = VERDICTS[sign * known.sign()]
            about = {"unit": "rank correlation", "holds": holds, "detail": f"of {trait} with the exit taken"}
            where = f"section 5.4, index {SETTING}"
            rows.append(row(f"easy and hard: {trait}", f"{text}.", where, "example pictures", known, **about))
    return rows


def calibrated_shares(models: Models) -> dict:
    """Figure 9: wanted against realised, in standard deviations of drawing other images.

    A share p on n images, with a threshold set on m others, varies with about p (1 - p) (1 / n + 1 / m).
    """
    found = models.group("proposed")
    images = [found[0]["data"][split]["images"] for split in ("test", "calibration")]
    gaps, allowed = [], []
    for index in EARLY:
        share = np.array(at_setting(index)(found[0])["wanted"])
        gaps.append([np.abs(np.subtract(at_setting(index)(m)["realised"], share)) for m in found])
        allowed.append(3 * np.sqrt(share * (1 - share) * sum(1 / n for n in images)))
    gaps = 100 * np.array(gaps)  # (settings, seeds, exits)
    inside = gaps <= 100 * np.array(allowed)[:, None]
    each = gaps.mean((0, 2))
    ours = Estimate(float(each.mean()), float(gaps.min()), float(gaps.max()), len(found))
    counts = [np.array(r["exits"]) / sum(r["exits"]) for r in paper_exit_counts()]
    paper = 100 * np.abs(np.array(counts) - exit_proportions().numpy())[:-1]
    published = {"mean deviation": float(paper.mean()), "largest": float(paper.max())}
    detail = f"mean, smallest and largest deviation; {100 * inside.mean():.0f} % lie within three standard deviations"
    about = {"unit": "points of images", "holds": "yes" if inside.mean() > 0.95 else "no", "detail": detail}
    text = "Thresholds set on one split let the wanted shares of images leave on another."
    return row("shares", text, "section 4.1.3, Figure 9", rounded(published), ours, **about)


def ceiling(compute: Sequence[dict]) -> dict:
    """The most that leaving early can save with the paper's detector: all images at exit 1."""
    whole = [row for row in compute if (row["filler"], row["part"]) == ("downsample", "total")]
    total = {(row["model"], row["exit"]): row["gmacs"] for row in whole}
    saved = {name: 100 * (1 - total[name, 1] / total[name, 4]) for name in ("regnet_y_800mf", "nano")}
    ours = Estimate(*[saved["regnet_y_800mf"]] * 3, 1)
    close = abs(ours.mean - paper_ceiling()) < 0.5
    detail = f"counted at {PAPER_SIZE[0]}x{PAPER_SIZE[1]}, so no interval; the nano detector: {saved['nano']:.1f} %"
    about = {"unit": "% of GMACs", "holds": "yes" if close else "no", "detail": detail}
    text = f"If every image left at exit 1, {paper_ceiling():.1f} % of the compute would be saved."
    where = "Tables 6, 7 and the published exit counts"
    return row("ceiling", text, where, rounded({"ceiling": paper_ceiling()}), ours, **about)


def cheaper_in_time(latency: Sequence[dict]) -> dict:
    """The paper counts multiply-adds and measures no time."""
    by = {(r["model"], r["batch_size"], r["exit"]): r for r in latency}
    first = by["regnet_y_800mf", 1, 1]
    ours = Estimate(first["time_saved"], first["low"], first["high"], 1)
    detail = f"the paper's detector at exit 1, one image at a time, median on {first['device']}; GMACs saved there: "
    about = {"unit": "% of time", "holds": VERDICTS[ours.sign()], "detail": f"{detail}{first['gmacs_saved']:.1f} %"}
    text = "Leaving early reduces the cost of inference: time is saved, too."
    return row("time", text, "abstract", "not measured", ours, **about)


def best_theta(models: Models) -> dict:
    """The pair (0.0115, 1) against the best of the nine others."""
    grid = models.grid()
    others = {pair: at_setting(FULL)(model)["mAP"] for pair, model in grid.items() if pair != (THETA, LAMBDA)}
    best = max(others, key=others.get)
    paper = {pair: paper_sweep(theta=pair[0], lambda_=pair[1])[FULL - 1]["mAP"] for pair in paper_pairs()}
    second = max(value for pair, value in paper.items() if pair != (THETA, LAMBDA))
    ours = _gap(models, (THETA, LAMBDA), best)
    text = "Of the ten pairs, theta 0.0115 and lambda 1 reach the highest mAP at full depth."
    detail = f"against the best of the others, theta {best[0]:g} and lambda {best[1]:g}; {NOTE}"
    published = rounded({"against the second best": paper[THETA, LAMBDA] - second})
    return row("best theta", text, "section 4.3, Table 6", published, ours, detail=detail)


def small_changes(models: Models) -> dict:
    """4.4 points between theta 0.011 and 0.0115."""
    ours = _gap(models, (THETA, LAMBDA), (0.011, LAMBDA))
    text = "A change of theta from 0.011 to 0.0115 raises the mAP at full depth."
    return row("small changes of theta", text, "Table 6", _paper_gap((THETA, 1.0), (0.011, 1.0)), ours, detail=NOTE)


def smaller_lambda(models: Models) -> dict:
    """Section 4.3 says that it lowers the mAP, the columns of Table 6 say the opposite on COCO-Single."""
    ours = _gap(models, (0.5, 1.0), (0.5, 0.5))
    text = "A smaller lambda makes the model worse: at theta 0.5, lambda 1 reaches a higher mAP than lambda 0.5."
    paper = _paper_gap((0.5, 1.0), (0.5, 0.5))
    detail = f"the columns of Table 6 for the two are probably swapped on COCO-Single; {NOTE}"
    return row("smaller lambda", text, "section 4.3, Tables 6 and 7", paper, ours, detail=detail)


def accuracy_and_map(models: Models) -> dict:
    """Section 5.2 concludes it from two models."""
    found = list(models.grid().values())
    both = ((at_setting(FULL), "mAP"), (accuracy_at(4), "accuracy"))
    maps, accuracies = (np.array([pick(m)[key] for m in found]) for pick, key in both)
    drawn = [floats([pick(m)["samples"] for m in found]).T for pick, _ in both]  # (repeats, models)
    ours = estimate([spearman(maps, accuracies)], [[spearman(a, b) for a, b in zip(*drawn, strict=True)]])
    text = "The more accurate the classifiers, the higher the mAP."
    detail = "rank correlation of the last classifier's accuracy with the mAP at full depth over the ten pairs"
    paper = "two models: baseline and proposed"
    return row("accuracy and mAP", text, "section 5.2", paper, ours, unit="rank correlation", detail=detail)


def _finals(models: Models) -> list[float]:
    """The mAP at full depth of the proposed models, which differ by their seed alone."""
    return [at_setting(FULL)(model)["mAP"] for model in models.group("proposed")]


def noise_between_seeds(models: Models) -> float:
    """Half the 95 % interval of the difference of two single trainings, from the spread of the proposed models."""
    finals = _finals(models)
    return seed_half(finals) * float(np.sqrt(2 * len(finals)))


def _gap(models: Models, first: tuple[float, float], second: tuple[float, float]) -> Estimate:
    grid = models.grid()
    found = difference([grid[first]], [grid[second]], at_setting(FULL))
    half = float(np.hypot(found.half, noise_between_seeds(models)))
    return Estimate(found.mean, found.mean - half, found.mean + half, found.seeds)


def _paper_gap(first: tuple[float, float], second: tuple[float, float]) -> dict:
    reached = {name: [paper_sweep(name, *pair)[FULL - 1]["mAP"] for pair in (first, second)] for name in DATASETS}
    return rounded({name: maps[0] - maps[1] for name, maps in reached.items()})


# Each claim about models, with the groups that it needs, in the order of the page of claims.
CLAIMS: tuple[tuple[Callable[[Models], dict | list[dict]], tuple[str, ...]], ...] = (
    (full_depth, ("baseline", "proposed")),
    (same_or_less_compute, ("baseline", "proposed")),
    (rises_by_3_8, ("baseline", "proposed")),
    (along_the_sweep, ("baseline", "proposed")),
    (last_accuracy, ("baseline", "proposed")),
    (beats_random, ("proposed",)),
    (downsampling_published, ("proposed",)),
    (downsampling_fair, ("fair",)),
    (best_theta, ("proposed", "grid")),
    (small_changes, ("proposed", "grid")),
    (smaller_lambda, ("proposed", "grid")),
    (accuracy_and_map, ("grid",)),
    (calibrated_shares, ("proposed",)),
    (easy_and_hard, ("proposed",)),
)
_SIZES = {"fair": 2, "grid": 10}


def summarise(models: Models, compute: Sequence[dict], latency: Sequence[dict], benchmark: Path | None = None) -> dict:
    """The verdicts on all claims whose models are there.

    Args:
        models: those measured.
        compute: rows of `compute_table`.
        latency: rows of `latency_table`.
        benchmark: the JSON that benchmarks/evaluation.py writes.

    Returns:
        "claims": rows of "name", "claim", "where" in the paper, "paper" (its figures), "ours" ("mean", "low", "high"),
        "unit", "seeds", "holds" ("yes", "no", "within noise") and "detail"; "left_out": claims whose models are
        missing; "passes_ratio" and "time_ratio" of the published protocol against this one, None where not measured;
        with several proposed models, "noise between seeds" and the standard "deviation of a training".
    """
    complete = {group for group in GROUPS if len(models.group(group)) >= _SIZES.get(group, 1)}
    rows, left_out = [], []
    for claim, needed in CLAIMS:
        if complete.issuperset(needed):
            found = claim(models)
            rows += found if isinstance(found, list) else [found]
        else:
            left_out.append(claim.__name__)
    summary = {"claims": [*rows, ceiling(compute), cheaper_in_time(latency)], "left_out": left_out}
    measured = json.loads(benchmark.read_text()) if benchmark and benchmark.is_file() else {}
    for name in ("passes_ratio", "time_ratio"):
        summary[name] = None if measured.get(name) is None else round(measured[name], 1)
    if len(models.group("proposed")) > 1:
        summary["noise between seeds"] = round(noise_between_seeds(models), 2)
        summary["deviation of a training"] = round(float(np.std(_finals(models), ddof=1)), 3)
    return summary


def summarise_beyond(early: Sequence[dict], proposed: Sequence[dict], times: dict[str, dict]) -> dict:
    """The rows of the project's aims.

    Args:
        early: results of `measure` of the whole recipe, one for each seed.
        proposed: results of the study's proposed models.
        times: by "batch1" and "batch16", see `time_ratio`.

    Returns:
        "map_kept" {"0.62": ..., "0.50": ..., "0.35": ...}, shares of the mAP at full depth, each with "gmacs_share",
        the share of the GMACs that was realised, and "of_proposed", the mean mAP as a share of the proposed models' at
        full depth; "forced_exit1_kept", likewise; "full_depth_map" and "proposed_full_depth_map" in percent;
        "time_ratio". Each has "mean", "low" and "high", over seeds, of times over rounds. "aims" are what was
        to be reached, "reached" whether the mean does.
    """

    def over(values: Sequence[float], digits: int = 4) -> dict:
        return estimate(values, [[value] for value in values]).rounded(digits)

    papers = over([at_setting(FULL)(model)["mAP"] for model in proposed], 2)
    exits = [[row["mAP"] for row in model["forced"]] for model in early]
    kept = {}
    for name in KEPT:
        rows = [_at_budget(model, float(name)) for model in early]
        kept[name] = over([row["kept"] for row in rows])
        kept[name]["gmacs_share"] = round(float(np.mean([row["share"] for row in rows])), 4)
        kept[name]["of_proposed"] = round(float(np.mean([row["mAP"] for row in rows])) / papers["mean"], 4)
    first = over([of_model[0] / of_model[3] for of_model in exits])
    first["of_proposed"] = round(float(np.mean([of_model[0] for of_model in exits])) / papers["mean"], 4)
    own = over([of_model[3] for of_model in exits], 2)
    reached = {f"map_kept {name}": kept[name]["mean"] >= AIMS["map_kept"][name] for name in KEPT}
    reached["forced_exit1_kept"] = first["mean"] >= AIMS["forced_exit1_kept"]
    reached["full_depth_map"] = papers["mean"] - own["mean"] <= AIMS["full_depth_loss"]
    reached |= {f"time_ratio {name}": row["mean"] <= AIMS["time_ratio"] for name, row in times.items()}
    summary = {"seeds": len(early), "map_kept": kept, "forced_exit1_kept": first, "full_depth_map": own}
    return {**summary, "proposed_full_depth_map": papers, "time_ratio": times, "aims": AIMS, "reached": reached}


def _at_budget(model: dict, budget: float) -> dict:
    for row in model["budgets"]:
        if abs(row["budget"] - budget) < 1e-6:
            return row
    raise ValueError(f"{model['name']} has no thresholds for a budget of {budget}: its cheapest exit costs more")
