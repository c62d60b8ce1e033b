"""Claims of the paper about who leaves where, and about what that can save."""

from collections.abc import Sequence

import numpy as np

from ..thresholds import NUM_SETTINGS, exit_proportions
from .claims import VERDICTS, rounded, row
from .costs import PAPER_SIZE
from .difficulty import SETTING
from .difficulty_table import mean_correlation
from .estimates import Estimate
from .models import Models, at_setting
from .paper import paper_ceiling, paper_exit_counts

# Trait, the sign with which it should go with the exit taken, and what section 5.4 says about it.
TRAITS = (
    ("difficulty", 1, "Easy images leave early, hard ones late"),
    ("size", -1, "Images with a large object leave earlier than those with a small one"),
    ("occlusion", 1, "Images whose object is partly hidden leave later"),
    ("contrast", -1, "Images with clear object boundaries leave earlier than those where the object hardly stands out"),
)


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
    for index in range(1, NUM_SETTINGS):
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
    saved = {name: _saved(compute, name) for name in ("regnet_y_800mf", "nano")}
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


def _saved(compute: Sequence[dict], model: str) -> float:
    total = {
        r["exit"]: r["gmacs"] for r in compute if (r["model"], r["filler"], r["part"]) == (model, "downsample", "total")
    }
    return 100 * (1 - total[1] / total[4])
