"""Means over seeds, intervals and ranks, compared with numbers found by hand."""

import math

import numpy as np
import pytest
from made_study import made_models

from earlyexit.study.findings import Estimate, at_gmacs, difference, estimate, seed_half, spearman
from earlyexit.study.tables import Models, rows_at

NOISE = 1.96 * math.sqrt(2)  # 1.96 standard deviations of the samples -1 and 1


def test_estimate_adds_images_and_seeds_in_quadrature():
    found = estimate([1.0, 2.0, 3.0], [[0, 2], [1, 3], [2, 4]])
    images = 1.96 * np.std([1, 3], ddof=1)
    seeds = 4.303 * 1 / math.sqrt(3)
    assert found.mean == 2
    assert found.high - 2 == pytest.approx(math.hypot(images, seeds))
    assert 2 - found.low == pytest.approx(found.half)
    assert seed_half([5.0]) == 0
    assert estimate([5.0], [[4.0, 6.0]]).half == pytest.approx(NOISE)


def test_difference_cancels_what_both_share():
    def gain(found):
        return difference(*(rows_at(models, "sweep", 34) for models in found.pairs("proposed", "baseline")))

    exact = gain(Models(made_models()))
    assert (exact.mean, exact.low, exact.high) == (10, 10, 10)
    assert gain(Models(made_models(own=2.0))).half == pytest.approx(NOISE)


def test_at_gmacs_lies_on_the_line_between_settings():
    rows = [{"gmacs": 2.0, "mAP": 30.0, "samples": [20, None]}, {"gmacs": 1.0, "mAP": 10.0, "samples": [10, 1]}]
    found = at_gmacs(rows, 1.25)
    assert found["mAP"] == 15
    assert found["samples"][0] == 12.5
    assert at_gmacs(rows, 5.0)["mAP"] == 30


def test_sign_of_an_interval():
    assert [Estimate(1, low, 3, 1).sign() for low in (0.1, 0.0, -1)] == [1, 0, 0]
    assert Estimate(-1, -2, -0.1, 1).sign() == -1


def test_ranks_share_the_mean_and_spearman_knows_monotone():
    # Ranks 1.5, 4, 1.5, 3 against 1 to 4: products of what they deviate by sum to 1, squares to 4.5 and 5.
    assert spearman(np.array([10.0, 30.0, 10.0, 20.0]), np.arange(4)) == pytest.approx(1 / math.sqrt(4.5 * 5))
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -(a**3)) == pytest.approx(-1)
    assert spearman(a, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert np.isnan(spearman(a, np.ones(4)))
