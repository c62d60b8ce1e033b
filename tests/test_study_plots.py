"""The pictures of the study: the numbers that their curves and bars show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_study import made_models

from earlyexit.study import finished as plots
from earlyexit.study.tables import (
    Models,
    difficulty_table,
    fillers_table,
    random_table,
    shares_table,
    sweep_table,
    theta_table,
)


@pytest.fixture(scope="module")
def models():
    return Models(made_models())


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_evaluation_has_the_published_curve_on_its_own_axis(ax, models):
    plots.plot_evaluation(ax, sweep_table(models), random_table(models))
    found = lines(ax)
    assert set(found) == {"proposed", "baseline", "proposed, lots"}
    assert (found["proposed"].get_xdata()[0], found["proposed"].get_ydata()[0]) == (0, 30)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((13.5 - 2.77, 30 + 2.77), abs=0.01)
    (right,) = (other for other in ax.figure.axes if other is not ax)
    (published,) = right.get_lines()
    assert (published.get_ydata()[-1], published.get_ydata()[0]) == (43.1, 5.0)
    assert published.get_xdata()[0] == pytest.approx(100 * (1 - 143.986 / 154.54))
    assert len(ax.get_legend().get_texts()) == 4


def test_hyperparameters_are_small_multiples_of_one_pair_each(ax, models):
    axes = [*ax.figure.subplots(2, 5).flat]
    plots.plot_hyperparameters(axes, theta_table(models))
    at_last = [one.get_lines()[-1].get_ydata()[0] for one in axes]
    wanted = [select_full(models, *pair) for pair in plots.paper_pairs()]
    assert at_last == pytest.approx(wanted, abs=0.01)
    axes = [*ax.figure.subplots(2, 5).flat]
    plots.plot_hyperparameters(axes, dataset="ilsvrc_single")
    found = {one.get_title(): one.get_lines() for one in axes}
    assert max(found["θ 0.0115, λ 1"][-1].get_ydata()) == 40.3
    assert [len(drawn) for drawn in found.values()] == [11] * 10


def select_full(models, theta, lambda_):
    rows = plots.select(theta_table(models), theta=theta, **{"lambda": lambda_})
    return min(rows, key=lambda row: row["saved"])["mAP"]


def test_fillers_are_drawn_the_way_that_is_asked_for(ax, models):
    plots.plot_fillers(ax, fillers_table(models), "fair")
    assert set(lines(ax)["fair way"].get_ydata()) == {4}


def test_shares_are_stacked_to_all_images(ax, models):
    plots.plot_shares(ax, shares_table(models))
    tops = {}
    for bar in ax.patches:
        middle = round(bar.get_x() + bar.get_width() / 2)
        tops[middle] = max(tops.get(middle, 0), bar.get_y() + bar.get_height())
    assert list(tops) == list(range(1, 35)) and tops[20] == pytest.approx(100, abs=0.03)
    published = next(line for line in ax.get_lines() if line.get_label() == "published")
    assert published.get_ydata()[0] == pytest.approx(100 * 412 / 593)


def test_saving_shows_time_against_compute(ax):
    rows = [
        {"model": m, "batch_size": 1, "exit": e, "gmacs_saved": 8.0 / e, "time_saved": 12.0, "low": 11.0, "high": 13.0}
        for m in ("nano", "regnet_y_800mf")
        for e in (1, 2, 3, 4)
    ]
    plots.plot_saving(ax, rows)
    points = [line.get_xydata()[0].tolist() for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert points.count([8.0, 12.0]) == 2 and len(points) == 8


def test_difficulty(ax, models):
    rows = difficulty_table(models)
    plots.plot_correlations(ax, rows)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "size",
        "occlusion",
        "clutter",
        "contrast",
        "difficulty",
    ]
    dots = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert sorted(dots) == [-0.5] * 4 + [0.5] * 6
    ax.clear()
    plots.plot_thirds(ax, rows)
    hard = next(c for c in ax.containers if c.get_label() == "hard (difficulty)")
    assert np.array_equal(hard.lines[0].get_ydata(), [41] * 4)
