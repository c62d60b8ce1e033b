"""Plots of what was reached beyond the paper, from its tables."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..study.paper import paper_baseline, paper_sweep
from ..study.plots import PAPER_COLOUR, select


def plot_exits(ax: Axes, rows: Sequence[dict], *, label: str, colour: str) -> None:
    """mAP over the share of full depth's GMACs, a point for each forced exit; rows have "share" and "mAP"."""
    rows = sorted(rows, key=lambda row: row["exit"])
    ax.plot([100 * row["share"] for row in rows], [row["mAP"] for row in rows], "o-", color=colour, label=label)
    ax.set(xlabel="GMACs (% of full depth)", ylabel="mAP (%)", xlim=(20, 103), ylim=0)


def plot_sizes(ax: Axes, rows: Sequence[dict], colours: dict[int, str]) -> None:
    """mAP of small, medium and large objects at each exit: bars are means over models, points the models.

    Sizes without objects are left out.
    """
    names = [name for name in ("AP small", "AP medium", "AP large") if rows[0][name] is not None]
    for place, exit in enumerate(sorted({row["exit"] for row in rows})):
        values = [[row[name] for row in rows if row["exit"] == exit] for name in names]
        x = [number + 0.2 * (place - 1.5) for number in range(len(names))]
        ax.bar(x, [sum(v) / len(v) for v in values], 0.18, color=colours[exit], label=f"exit {exit}")
        for where, of_models in zip(x, values, strict=True):
            ax.plot([where] * len(of_models), of_models, "o", color="black", ms=2.5)
    ax.set_xticks(range(len(names)), [name.removeprefix("AP ") for name in names])
    ax.set_ylabel("mAP (%)")
    ax.legend(fontsize=8)


def plot_rules(ax: Axes, rows: Sequence[dict]) -> None:
    """The score of each rule of leaving: 0 is leaving by lot, 1 an oracle."""
    for place, row in enumerate(reversed(rows)):
        ax.plot([row["low"], row["high"]], [place, place], color="#0072B2")
        ax.plot(row["score"], place, "o", color="#0072B2")
    ax.set_yticks(range(len(rows)), [row["rule"] for row in reversed(rows)])
    ax.axvline(0, color="black", lw=0.8)
    ax.set_xlabel("(mAP of the rule - of lots) / (of an oracle - of lots)")


def plot_last(ax: Axes, exits: Sequence[dict], budgets: Sequence[dict], sweep: Sequence[dict]) -> None:
    """The last picture: relative mAP over relative compute, published, reproduced here, and beyond."""
    full = paper_baseline()["gmacs"]
    rows = sorted(paper_sweep(), key=lambda row: row["gmacs"])
    published = [100 * row["mAP"] / rows[-1]["mAP"] for row in rows]
    ax.plot([100 * row["gmacs"] / full for row in rows], published, color=PAPER_COLOUR, label="published")
    ours = sorted(select(sweep, model="proposed", filler="downsample"), key=lambda row: -row["saved"])
    kept = [100 * row["mAP"] / ours[-1]["mAP"] for row in ours]
    ax.plot([100 - row["saved"] for row in ours], kept, color="#777777", label="the paper's way, here")
    models = sorted({row["model"] for row in budgets})
    for name in models:
        points = [(100 * r["share"], 100 * r["kept"]) for r in select(budgets, model=name, scores="comparable")]
        points += [(100 * r["share"], 100 * r["kept"]) for r in select(exits, model=name) if r["exit"] in (1, 4)]
        label = f"beyond, {len(models)} seeds" if name == models[0] else None
        ax.plot(*zip(*sorted(points), strict=True), ".-", color="#009E73", lw=1, label=label)
    ax.set(xlabel="GMACs (% of full depth)", ylabel="mAP (% of full depth)", xlim=(25, 102), ylim=(0, 103))
    ax.legend(loc="lower left", fontsize=8)
