"""The paper's Figures 5 to 10 from the tables of the study, with the published curves on an axis of their own.

Rows are what `read_table` gives for the tables in results/scenes. Curves run over the compute that is saved, in
percent of full depth: so that detectors of different sizes share an axis.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..data.coco import CocoDataset
from ..plots import EXIT_COLOURS, draw_boxes, show_image
from .paper import paper_baseline, paper_exit_counts, paper_pairs, paper_sweep

PAPER_COLOUR = "#CC79A7"
COLOURS = {
    "proposed": "#0072B2",
    "baseline": "#D55E00",
    "random": "#777777",
    "published": "#0072B2",
    "fair": "#009E73",
}
_GRID = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#777777", "#8B4513")


def select(rows: Sequence[dict], **wanted) -> list[dict]:
    """The rows that have all of the given values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def plot_curve(ax: Axes, rows: Sequence[dict], *, label: str, colour: str, y: str = "mAP", band: float = 0.2) -> None:
    """One curve of `y` over the compute saved, in percent, with the band from "low" to "high", as opaque as `band`."""
    rows = sorted(rows, key=lambda row: row["saved"])
    x = [row["saved"] for row in rows]
    ax.plot(x, [row[y] for row in rows], color=colour, label=label)
    ax.fill_between(x, [row["low"] for row in rows], [row["high"] for row in rows], color=colour, alpha=band, lw=0)
    ax.set(xlabel="GMACs saved (%)", ylabel=y if y != "mAP" else "mAP (%)")


def overlay_paper(ax: Axes, *, dataset: str = "coco_single", theta: float = 0.0115, lambda_: float = 1.0) -> Axes:
    """The published curve of a model over the compute it saves, on a second axis at the right, which is returned."""
    rows, full = paper_sweep(dataset, theta, lambda_), paper_baseline(dataset)["gmacs"]
    right = ax.twinx()
    saved = [100 * (1 - row["gmacs"] / full) for row in rows]
    right.plot(saved, [row["mAP"] for row in rows], "--", color=PAPER_COLOUR, label="proposed, published")
    right.set_ylabel("published mAP (%)", color=PAPER_COLOUR)
    right.tick_params(axis="y", colors=PAPER_COLOUR)
    right.set_ylim(bottom=0)
    return right


def plot_evaluation(ax: Axes, sweep: Sequence[dict], random: Sequence[dict]) -> None:
    """Figure 7: proposed, baseline and random exits, and the published curve."""
    for name in ("proposed", "baseline"):
        rows = select(sweep, model=name, filler="downsample")
        plot_curve(ax, rows, label=name, colour=COLOURS[name])
    plot_curve(ax, select(random, model="proposed"), label="proposed, random exits", colour=COLOURS["random"])
    ax.set_ylim(bottom=0)
    _legend(ax, overlay_paper(ax))


def plot_hyperparameters(ax: Axes, rows: Sequence[dict]) -> None:
    """Figures 5 and 6: a curve for each pair of theta and lambda."""
    for colour, (theta, lambda_) in zip(_GRID, paper_pairs(), strict=True):
        label = f"theta {theta:g}, lambda {lambda_:g}"
        found = [row for row in rows if (row["theta"], row["lambda"]) == (theta, lambda_)]
        if found:
            plot_curve(ax, found, label=label, colour=colour, band=0.06)
    ax.legend(fontsize=7)


def plot_published_hyperparameters(ax: Axes, dataset: str = "coco_single") -> None:
    """Figure 5 (COCO-Single) or 6 (ILSVRC-Single) as published, in the colours of `plot_hyperparameters`."""
    full = paper_baseline(dataset)["gmacs"]
    for colour, (theta, lambda_) in zip(_GRID, paper_pairs(), strict=True):
        rows = paper_sweep(dataset, theta, lambda_)
        saved = [100 * (1 - row["gmacs"] / full) for row in rows]
        ax.plot(saved, [row["mAP"] for row in rows], "--", color=colour, label=f"theta {theta:g}, lambda {lambda_:g}")
    ax.set(xlabel="GMACs saved (%)", ylabel="published mAP (%)")
    ax.legend(fontsize=7)


def plot_fillers(ax: Axes, rows: Sequence[dict], way: str) -> None:
    """Figure 8: what downsampling gains over zero-filling, the "published" way or the "fair" way, with its band."""
    found = [{**row, "gain": row["difference"]} for row in select(rows, way=way)]
    plot_curve(ax, found, label=f"{way} way", colour=COLOURS[way], y="gain")
    ax.axhline(0, color="black", lw=0.8)
    ax.set_ylabel("downsampling minus zero-filling,\nsame GMACs (points of mAP)")
    ax.legend(fontsize=8)


def plot_shares(ax: Axes, rows: Sequence[dict], model: str = "proposed") -> None:
    """Figure 9: stacked shares of images that left at each exit; lines are the wanted shares, dots the paper's."""
    indices = sorted({row["index"] for row in rows})
    bottom, wanted = [0.0] * len(indices), [0.0] * len(indices)
    counts = {row["index"]: row["exits"] for row in paper_exit_counts()}
    for exit, colour in EXIT_COLOURS.items():
        found = sorted(select(rows, model=model, exit=exit), key=lambda row: row["index"])
        ax.bar(indices, [row["realised"] for row in found], 1, bottom, color=colour, alpha=0.6, label=f"exit {exit}")
        bottom = [b + row["realised"] for b, row in zip(bottom, found, strict=True)]
        wanted = [w + row["wanted"] for w, row in zip(wanted, found, strict=True)]
        published = [100 * sum(counts[i][:exit]) / sum(counts[i]) for i in indices]
        if exit < 4:
            ax.step(indices, wanted, where="mid", color="black", lw=1, label="wanted" if exit == 1 else None)
            ax.plot(indices, published, ".", color=PAPER_COLOUR, label="published" if exit == 1 else None)
    ax.set(xlabel="threshold index", ylabel="images (%)", xlim=(0.5, 34.5), ylim=(0, 100))
    ax.legend(fontsize=8, ncols=2)


def _legend(ax: Axes, right: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    more, names = right.get_legend_handles_labels()
    ax.legend([*handles, *more], [*labels, *names], fontsize=8)


def draw_examples(axes: Sequence[Axes], dataset: CocoDataset, ids: Sequence[int]) -> None:
    """Figure 10: images by their ids, such as a model's "easiest" and "hardest", with their objects in boxes."""
    for ax, image_id in zip(axes, ids, strict=False):
        image, target = dataset[dataset.ids.index(image_id)]
        show_image(ax, image)
        names = [dataset.classes[label] for label in target["labels"].tolist()]
        draw_boxes(ax, target["boxes"], names, colour="#222222")
