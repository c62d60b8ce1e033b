"""Claims of the paper about proposed and baseline: what it says, what we measured, whether it holds here.

A claim holds ("yes") if the whole 95 % interval of what was measured is on its side, "no" if it is on the other, and is
"within noise" otherwise. Differences are ours minus what they are compared with, in points of percent.
"""

import numpy as np

from ..thresholds import NUM_SETTINGS
from .estimates import Estimate, difference
from .models import Models, accuracy_at, at_setting
from .paper import paper_baseline, paper_figures, paper_sweep

VERDICTS = {1: "yes", 0: "within noise", -1: "no"}
FULL = NUM_SETTINGS  # the setting at which nobody leaves early
NEAR_BASELINE = 31  # the setting of "fewer FLOPs" in section 5.1


def row(name: str, claim: str, where: str, paper: object, ours: Estimate, **others) -> dict:
    """A row of the summary; `holds` is the sign of `ours` unless given."""
    found = {"name": name, "claim": claim, "where": where, "paper": paper, "ours": ours.rounded(), "seeds": ours.seeds}
    return {**found, "unit": "points of mAP", "holds": VERDICTS[ours.sign()], **others}


def full_depth(models: Models) -> dict:
    """43.1 against 39.3."""
    ours = difference(*models.pairs("proposed", "baseline"), at_setting(FULL))
    paper = {name: _last(name) - paper_baseline(name)["map"] for name in ("coco_single", "ilsvrc_single")}
    text = "At full depth the model trained with the exits' loss reaches a higher mAP than the baseline."
    return row("full depth", text, "Table 3, index 34", rounded(paper), ours)


def same_or_less_compute(models: Models) -> dict:
    """39.7 against 39.3 for 0.8 G less."""
    pair = models.pairs("proposed", "baseline")
    ours = difference(*pair, at_setting(NEAR_BASELINE), at_setting(FULL))
    text = "At threshold index 31 it reaches a higher mAP than the baseline at full depth, with fewer GMACs."
    sweep = paper_sweep()[NEAR_BASELINE - 1]
    paper = {"coco_single": sweep["mAP"] - paper_baseline()["map"], "gmacs saved (%)": _saved(sweep["gmacs"])}
    saved = np.mean([100 * (1 - r["gmacs"] / r["gmacs_full"]) for r in map(at_setting(NEAR_BASELINE), pair[0])])
    detail = f"here index 31 saves {saved:.2f} % of the GMACs"
    return row("fewer GMACs", text, "Table 3, section 5.1", rounded(paper), ours, detail=detail)


def rises_by_3_8(models: Models) -> dict:
    """The sentence of section 5.1 that takes its two halves from two rows."""
    pair = models.pairs("proposed", "baseline")
    ours = difference(*pair, at_setting(NEAR_BASELINE), at_setting(FULL))
    said = 3.8
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
    figures = paper_figures()["table 4"]
    paper = {"proposed": figures["proposed"], "baseline": figures["baseline"]}
    means = {g: np.mean([accuracy_at(4)(m)["accuracy"] for m in models.group(g)]) for g in paper}
    classes = len(models.group("baseline")[0]["classes"])
    detail = f"here {means['proposed']:.2f} and {means['baseline']:.2f} %; by chance {100 / classes:.2f} %"
    text = "The last exit's classifier is right more often after training with the exits' loss than in the baseline."
    return row("accuracy", text, "Table 4", paper, ours, unit="points of accuracy", detail=detail)


def _last(dataset: str) -> float:
    return paper_sweep(dataset)[FULL - 1]["mAP"]


def _saved(gmacs: float) -> float:
    return 100 * (1 - gmacs / paper_baseline()["gmacs"])


def rounded(values: dict) -> dict:
    return {name: round(value, 2) for name, value in values.items()}
