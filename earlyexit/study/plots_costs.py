"""Compute and time by exit, and what makes an image hard: pictures from the tables of the study."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..plots import EXIT_COLOURS
from .plots import COLOURS, select

PART_COLOURS = {"backbone": "#0072B2", "neck": "#E69F00", "head p3": "#009E73", "head p4-p7": "#7BCFB5"}
MARKERS = {1: "o", 16: "s"}


def plot_compute(ax: Axes, rows: Sequence[dict], model: str, filler: str = "downsample") -> None:
    """Stacked bars of GMACs by part at each exit; the line is what exit 1 takes, below which nothing can be saved."""
    found = select(rows, model=model, filler=filler)
    bottom = [0.0] * 4
    for part, colour in PART_COLOURS.items():
        heights = [sum(row["gmacs"] for row in found if row["exit"] == e and _part(row) == part) for e in EXIT_COLOURS]
        ax.bar([str(exit) for exit in EXIT_COLOURS], heights, 0.7, bottom, color=colour, label=part)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    saved = 100 * (1 - bottom[0] / bottom[3])
    ax.axhline(bottom[0], color="black", lw=0.8, ls=":")
    ax.set(xlabel="exit", ylabel="GMACs", title=f"{model}: at most {saved:.1f} % can be saved")
    ax.set_ylim(0, 1.2 * max(bottom))  # room for the legend
    ax.legend(fontsize=8, loc="upper center", ncols=4)


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
    ax.legend(fontsize=8)


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
    ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def plot_thirds(ax: Axes, rows: Sequence[dict], model: str = "proposed") -> None:
    """mAP at each exit within the easy, the middle and the hard third of the images, with intervals."""
    found = [r for r in select(rows, model=model, measure="mAP") if r["of"] != "exit taken"]
    for number, third in enumerate(dict.fromkeys(row["with"] for row in found)):
        of = select(found, **{"with": third})
        x = [int(row["of"].removeprefix("exit ")) + (number - 1) * 0.2 for row in of]
        y = [row["value"] for row in of]
        error = [[r["value"] - r["low"] for r in of], [r["high"] - r["value"] for r in of]]
        ax.errorbar(x, y, error, fmt="o", color=("#009E73", "#E69F00", "#D55E00")[number], label=third)
    ax.set(xlabel="exit", ylabel="mAP (%)", xticks=list(EXIT_COLOURS), ylim=0)
    ax.legend(fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")


def _part(row: dict) -> str:
    return "head p4-p7" if row["part"] in ("head p4", "head p5", "head p6", "head p7") else row["part"]
