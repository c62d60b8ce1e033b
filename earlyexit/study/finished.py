"""A finished study, opened, told and drawn: the paper's Figures 5 to 10, compute and time, and what goes beyond.

Rows are what `Study.table` gives; published curves have an axis of their own. Curves run over the compute that is saved
or left, in percent of full depth: so that detectors of different sizes share an axis.
"""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ..data.coco import SPLITS, CocoDataset
from ..evaluation.pictures import EXIT_COLOURS, TRUTH_COLOUR, draw_boxes, show_image
from ..files import read_table
from .plan import paper_baseline, paper_exit_counts, paper_pairs, paper_sweep

RESULTS = Path(__file__).parent / "results"  # those that come with the package
WIDTH = 76  # of what is printed
# One meaning for a colour in the whole course: exits have `EXIT_COLOURS`, all else has others.
PAPER_COLOUR = "#CC79A7"
COLOURS = {"proposed": "#56B4E9", "baseline": "#A6761D", "published": "#56B4E9", "fair": "#5E3C99"}
LOTS_COLOUR = "#777777"  # chance: lots
PART_COLOURS = {"backbone": "#4D4D4D", "neck": "#999999", "head p3": "#5E3C99", "head p4-p7": "#B2ABD2"}
THIRD_COLOURS = ("#BFD3E6", "#8C96C6", "#88419D")
MARKERS = {1: "o", 16: "s"}


class Study:
    """What a study found: the tables, verdicts and story that `earlyexit study` and `earlyexit beyond` wrote.

    Attributes:
        folder: where it lies; `ValueError` if no finished study lies there.
        summary: the verdicts, see `summarise`.
        manifest: how the results came about.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise ValueError(f"{str(folder)!r} holds no finished study: `earlyexit study --out {folder}` makes one")
        names = ("study_summary", "manifest")
        self.summary, self.manifest = (json.loads((self.folder / f"{n}.json").read_text("utf-8")) for n in names)

    def table(self, name: str) -> list[dict]:
        """The rows of one of the CSV files, numbers as numbers."""
        known = sorted(path.stem for path in self.folder.glob("*.csv"))
        if name not in known:
            raise ValueError(f"the tables of this study are {', '.join(known)}, got {name!r}")
        return read_table(self.folder / f"{name}.csv")

    def claim(self, name: str) -> dict:
        """The verdict on one claim by its name."""
        found = {row["name"]: row for row in self.summary["claims"]}
        if name not in found:
            raise ValueError(f"the claims are {', '.join(found)}, got {name!r}")
        return found[name]

    def verdict(self, *names: str) -> str:
        """Some of the claims as text: what the paper says, its figures, ours, and whether it holds here."""
        return "\n\n".join(_in_words(self.claim(name)) for name in names)

    def __str__(self) -> str:
        m = self.manifest
        hours = sum(m["seconds"].values()) / 3600
        images = ", ".join(f"{m['data'][split]['images']:,} {split}" for split in SPLITS)
        lines = [f"{len(m['models'])} models, seeds {', '.join(map(str, m['seeds']))}; images: {images}", m["command"]]
        lines.append(f"{m['date']}, commit {m['commit']}, {m['machine']}, {hours:.1f} process hours")
        return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in lines)


def _in_words(claim: dict) -> str:
    paper = claim["paper"]
    if isinstance(paper, dict):
        paper = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in paper.items())
    lines = [f"published: {paper}", f"here: {interval_text(claim)}; holds: {claim['holds']}", claim.get("detail") or ""]
    lines = [f"{claim['claim']} ({claim['where']})", *(f"  {line}" for line in lines if line)]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def interval_text(claim: dict) -> str:
    """What was measured on a claim: "+1.20 points of mAP (+0.40 to +2.00)"."""
    ours = claim["ours"]
    if None in ours.values():
        return "not to be measured"
    return f"{ours['mean']:+.2f} {claim['unit']} ({ours['low']:+.2f} to {ours['high']:+.2f})"


def gpu_times() -> dict | None:
    """What `make gpu` measured: "device", ... and rows of "latency" and "policies"; None if it ran on no GPU yet."""
    path = RESULTS / "gpu" / "times.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def open_study(data: str = "scenes") -> Study:
    """The study of one kind of data that comes with the package; `ValueError` if there is none."""
    return Study(RESULTS / data)


def select(rows: Sequence[dict], **wanted) -> list[dict]:
    """The rows that have all of the given values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def plot_curve(ax: Axes, rows: Sequence[dict], *, label: str, colour: str, y: str = "mAP") -> None:
    """One curve of `y` over the compute saved, in percent, with the band from "low" to "high"."""
    rows = sorted(rows, key=lambda row: row["saved"])
    x = [row["saved"] for row in rows]
    ax.plot(x, [row[y] for row in rows], color=colour, label=label)
    ax.fill_between(x, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=0.2, lw=0)
    ax.set(xlabel="GMACs saved (%)", ylabel=y if y != "mAP" else "mAP (%)")


def _published(dataset: str, *pair: float) -> tuple[list[float], list[float]]:
    """The compute that a published model saves, in percent, and its mAP; the proposed one's unless told."""
    rows, full = paper_sweep(dataset, *pair), paper_baseline(dataset)["gmacs"]
    return [100 * (1 - row["gmacs"] / full) for row in rows], [row["mAP"] for row in rows]


def plot_evaluation(ax: Axes, sweep: Sequence[dict], random: Sequence[dict]) -> None:
    """Figure 7: proposed, baseline and lots, and the published curve on an axis of its own at the right."""
    for name in ("proposed", "baseline"):
        rows = select(sweep, model=name, filler="downsample")
        plot_curve(ax, rows, label=name, colour=COLOURS[name])
    plot_curve(ax, select(random, model="proposed"), label="proposed, lots", colour=LOTS_COLOUR)
    ax.set_ylim(bottom=0)
    right = ax.twinx()
    right.plot(*_published("coco_single"), "--", color=PAPER_COLOUR, label="proposed, published")
    right.set_ylabel("published mAP (%)", color=PAPER_COLOUR)
    right.tick_params(axis="y", colors=PAPER_COLOUR)
    right.set_ylim(bottom=0)
    handles, labels = zip(*(axis.get_legend_handles_labels() for axis in (ax, right)), strict=True)
    ax.legend(sum(handles, []), sum(labels, []), fontsize=9)


def plot_hyperparameters(
    axes: Sequence[Axes], rows: Sequence[dict] | None = None, dataset: str = "coco_single"
) -> None:
    """Figures 5 and 6 as small multiples: each of ten panels has all pairs of theta and lambda in grey, one in colour.

    Args:
        axes: ten, in the order of `paper_pairs`.
        rows: of the study's table "theta"; without them the curves of `dataset` are drawn as published.
    """
    curves = {pair: _published(dataset, *pair) for pair in paper_pairs()}
    for theta, lambda_ in curves if rows is not None else ():
        found = sorted(select(rows, theta=theta, **{"lambda": lambda_}), key=lambda row: row["saved"])
        curves[theta, lambda_] = [row["saved"] for row in found], [row["mAP"] for row in found]
    for ax, (pair, curve) in zip(axes, curves.items(), strict=True):
        for other in curves.values():
            ax.plot(*other, color="#CCCCCC", lw=0.8)
        ax.plot(*curve, color=PAPER_COLOUR if rows is None else COLOURS["proposed"], lw=2)
        ax.set_title("θ {:g}, λ {:g}".format(*pair), fontsize=9)


def plot_fillers(ax: Axes, rows: Sequence[dict], way: str) -> None:
    """Figure 8: what downsampling gains over zero-filling, the "published" way or the "fair" way, with its band."""
    found = [{**row, "gain": row["difference"]} for row in select(rows, way=way)]
    plot_curve(ax, found, label=f"{way} way", colour=COLOURS[way], y="gain")
    ax.axhline(0, color="black", lw=0.8)
    ax.set_ylabel("downsampling minus zero-filling,\nsame GMACs (points of mAP)")
    ax.legend(fontsize=9)


def plot_shares(ax: Axes, rows: Sequence[dict], model: str = "proposed") -> None:
    """Figure 9: stacked shares of images that left at each exit; lines are the wanted shares, dots the paper's."""
    indices = sorted({row["index"] for row in rows})
    counts = {row["index"]: row["exits"] for row in paper_exit_counts()}
    bottom, wanted = np.zeros(len(indices)), np.zeros(len(indices))
    for exit, colour in EXIT_COLOURS.items():
        found = sorted(select(rows, model=model, exit=exit), key=lambda row: row["index"])
        heights = [row["realised"] for row in found]
        ax.bar(indices, heights, 1, bottom, color=colour, alpha=0.6, label=f"exit {exit}")
        bottom, wanted = bottom + heights, wanted + [row["wanted"] for row in found]
        published = [100 * sum(counts[i][:exit]) / sum(counts[i]) for i in indices]
        if exit < 4:
            ax.step(indices, wanted, where="mid", color="black", lw=1, label="wanted" if exit == 1 else None)
            ax.plot(indices, published, ".", color=PAPER_COLOUR, label="published" if exit == 1 else None)
    ax.set(xlabel="threshold index", ylabel="images (%)", xlim=(0.5, 34.5), ylim=(0, 100))
    ax.legend(fontsize=9, ncols=2)


def draw_examples(axes: Sequence[Axes], dataset: CocoDataset, ids: Sequence[int]) -> None:
    """Figure 10: images by their ids, such as a model's "easiest" and "hardest", with their objects in boxes."""
    for ax, image_id in zip(axes, ids, strict=False):
        image, target = dataset[dataset.ids.index(image_id)]
        show_image(ax, image)
        names = [dataset.classes[label] for label in target["labels"].tolist()]
        draw_boxes(ax, target["boxes"], names, colour=TRUTH_COLOUR)


def plot_saving(ax: Axes, rows: Sequence[dict]) -> None:
    """Time saved, with intervals, against GMACs saved at each exit; on the line a saved multiply-add is saved time."""
    for exit, colour in EXIT_COLOURS.items():
        for row in select(rows, exit=exit):
            face = colour if row["model"] == "nano" else "white"
            ax.plot([row["gmacs_saved"]] * 2, [row["low"], row["high"]], color=colour, lw=1)
            ax.plot(row["gmacs_saved"], row["time_saved"], MARKERS.get(row["batch_size"], "^"), color=colour, mfc=face)
    for model, face in (("nano", "black"), ("regnet_y_800mf", "white")):
        for size in sorted({row["batch_size"] for row in select(rows, model=model)}):
            ax.plot([], [], MARKERS.get(size, "^"), color="black", mfc=face, label=f"{model}, batch of {size}")
    for exit, colour in EXIT_COLOURS.items():
        ax.plot([], [], "s", color=colour, label=f"exit {exit}")
    most = max(row["gmacs_saved"] for row in rows)
    ax.plot([0, most], [0, most], ":", color="black", lw=0.8)
    ax.set(xlabel="GMACs saved (%)", ylabel="time saved (%)")
    ax.legend(fontsize=9)


def plot_correlations(ax: Axes, rows: Sequence[dict], of: str = "exit taken") -> None:
    """Section 5.4: rank correlations of traits of the images with the exit taken, with intervals, by model."""
    found = [r for r in rows if r["measure"] == "rank correlation" and r["of"] == of and r["value"] is not None]
    traits = list(dict.fromkeys(row["with"] for row in found))
    for shift, model in ((-0.12, "proposed"), (0.12, "baseline")):
        for row in select(found, model=model):
            at, first = traits.index(row["with"]) + shift, row["with"] == traits[0]
            ax.plot([row["low"], row["high"]], [at, at], color=COLOURS[model])
            ax.plot(row["value"], at, "o", color=COLOURS[model], label=model if first else None)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(traits)), traits)
    ax.set_xlabel(f"rank correlation with the {of}")
    ax.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def plot_thirds(ax: Axes, rows: Sequence[dict], model: str = "proposed") -> None:
    """mAP at each exit within the easy, the middle and the hard third of the images, with intervals."""
    found = [r for r in select(rows, model=model, measure="mAP") if r["of"] != "exit taken"]
    for number, third in enumerate(dict.fromkeys(row["with"] for row in found)):
        of = select(found, **{"with": third})
        x = [int(row["of"].removeprefix("exit ")) + (number - 1) * 0.2 for row in of]
        y = [row["value"] for row in of]
        error = [[r["value"] - r["low"] for r in of], [r["high"] - r["value"] for r in of]]
        ax.errorbar(x, y, error, fmt="o", color=THIRD_COLOURS[number], label=third)
    ax.set(xlabel="exit", ylabel="mAP (%)", xticks=list(EXIT_COLOURS), ylim=0)
    ax.legend(fontsize=9, bbox_to_anchor=(1, 1), loc="upper left")


def plot_exits(ax: Axes, rows: Sequence[dict], *, label: str, colour: str) -> None:
    """mAP over the share of full depth's GMACs, a point for each forced exit; rows have "share" and "mAP"."""
    rows = sorted(rows, key=lambda row: row["exit"])
    ax.plot([100 * row["share"] for row in rows], [row["mAP"] for row in rows], "o-", color=colour, label=label)
    ax.set(xlabel="GMACs (% of full depth)", ylabel="mAP (%)", xlim=(20, 103), ylim=0)


def plot_rules(ax: Axes, rows: Sequence[dict]) -> None:
    """The score of each rule of leaving: 0 is leaving by lot, 1 an oracle."""
    for place, row in enumerate(reversed(rows)):
        ax.plot([row["low"], row["high"]], [place, place], color=COLOURS["proposed"])
        ax.plot(row["score"], place, "o", color=COLOURS["proposed"])
    ax.set_yticks(range(len(rows)), [row["rule"] for row in reversed(rows)])
    ax.axvline(0, color="black", lw=0.8)
    ax.set_xlabel("(mAP of the rule - of lots) / (of an oracle - of lots)")
