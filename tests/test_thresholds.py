"""Shares of images per exit, and the thresholds that realise them."""

import math
import re

import pytest
import torch

from earlyexit import calibrate_thresholds, exit_proportions
from earlyexit.model.exits import check_thresholds


def walk(confidences, thresholds):
    """How many images leave at each exit, image by image, as the detector does it."""
    counts = [0, 0, 0, 0]
    for image in confidences.T.tolist():
        limits = [*thresholds, 0.0]
        counts[next(k for k in range(4) if image[k] >= limits[k])] += 1
    return counts


def distinct(images, seed=0):
    """Confidences of which no two are equal."""
    order = torch.rand(4 * images, generator=torch.Generator().manual_seed(seed)).argsort()
    return ((order + 1) / (4 * images + 1)).reshape(4, images)


def test_proportions_are_shares():
    rows = exit_proportions()
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.sum(1), torch.ones(34, dtype=torch.float64))
    assert (rows >= 0).all()
    torch.testing.assert_close(rows[16], rows[17])
    assert rows[33].tolist() == [0, 0, 0, 1]


def test_proportions_go_from_early_to_late():
    first, last = exit_proportions()[:, 0], exit_proportions()[:, 3]
    for steps in (first[:-1] - first[1:], last[1:] - last[:-1]):
        assert (steps >= -1e-12).all()
        assert (steps > 0).sum() == 32  # all but the one between 17 and 18


def test_first_row_by_hand():
    """Index 1: ratio 0.2, shares 0.2^k normalised; 0.85 of exit 1's remains, then exit 3 keeps half of its part."""
    share = torch.tensor([0.2, 0.04, 0.008, 0.0016], dtype=torch.float64) / 0.2496
    first = 0.85 * share[0]
    rest = share[1:] * (1 - first) / share[1:].sum()
    expected = torch.tensor([first, rest[0], 0.5 * rest[1], rest[2] + 0.5 * rest[1]])
    torch.testing.assert_close(exit_proportions()[0], expected.to(torch.float64))


@pytest.mark.parametrize("index", [1, 9, 17, 25, 33, 34])
def test_calibration_realises_the_shares(index):
    confidences, shares = distinct(101, seed=index), exit_proportions()[index - 1]
    counts = walk(confidences, calibrate_thresholds(confidences, shares))
    wanted = [math.floor(101 * float(s)) for s in shares[:3]]
    assert counts == [*wanted, 101 - sum(wanted)]


def test_thresholds_are_confidences_of_the_split():
    """By hand: image 1 leaves first, then image 0 (image 1 is gone), then image 3."""
    confidences = torch.tensor(
        [[0.5, 0.9, 0.4, 0.3], [0.7, 0.95, 0.6, 0.2], [0.9, 0.9, 0.5, 0.8], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64
    )
    assert calibrate_thresholds(confidences, torch.full((4,), 0.25)) == (0.9, 0.7, 0.8)


def test_no_rounding_loss():
    """0.29 * 100 is 28.999... in floating point; 29 images must leave all the same."""
    confidences = distinct(100)
    assert walk(confidences, calibrate_thresholds(confidences, [0.1, 0.29, 0.1, 0.51])) == [10, 29, 10, 51]
    assert walk(confidences, calibrate_thresholds(confidences, [0.29, 0.1, 0.1, 0.51])) == [29, 10, 10, 51]


def test_zero_share_means_never():
    found = calibrate_thresholds(distinct(20), torch.tensor([0.0, 0.5, 0.0, 0.5]))
    assert found[0] == found[2] == math.inf
    assert walk(distinct(20), found) == [0, 10, 0, 10]
    assert calibrate_thresholds(distinct(20), exit_proportions()[33]) == (math.inf,) * 3


def test_everybody_may_leave_at_once():
    confidences = distinct(8)
    found = calibrate_thresholds(confidences, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert found == (float(confidences[0].min()), math.inf, math.inf)


def test_equal_confidences_leave_together():
    confidences = torch.tensor([[0.5, 0.5, 0.5, 0.2]] + [[0.4, 0.3, 0.2, 0.1]] * 3)
    found = calibrate_thresholds(confidences, torch.tensor([0.25, 0.5, 0.25, 0.0]))
    assert walk(confidences, found) == [3, 1, 0, 0]
    assert found[2] == math.inf  # nobody is left


@pytest.mark.parametrize(
    ("confidences", "proportions", "message"),
    [
        (torch.rand(3, 5), [0.25] * 4, r"\(4, N\) of at least one image, got \(3, 5\)"),
        (torch.rand(4), [0.25] * 4, r"\(4, N\) of at least one image, got \(4,\)"),
        (torch.full((4, 5), math.nan), [0.25] * 4, "finite"),
        (torch.rand(4, 5), [0.5, 0.5, 0.5, -0.5], "shares that sum to 1"),
        (torch.rand(4, 5), [0.25, 0.25, 0.25, 0.2], "shares that sum to 1"),
        (torch.rand(4, 5), [0.5, 0.25, 0.25], "4 shares"),
    ],
)
def test_calibration_errors(confidences, proportions, message):
    with pytest.raises(ValueError, match=message):
        calibrate_thresholds(confidences, torch.tensor(proportions))


def test_check_thresholds():
    assert check_thresholds([0, 1, math.inf]) == (0.0, 1.0, math.inf)
    assert check_thresholds(torch.tensor([0.5, 0.25, 2.0])) == (0.5, 0.25, 2.0)
    for bad in ([0.5] * 2, [0.5] * 4):
        with pytest.raises(ValueError, match=re.escape(f"got {tuple(bad)}")):
            check_thresholds(bad)
    for bad in ([0.5, None, 0.5], "abc"):
        with pytest.raises(ValueError, match=r"of a card: ModelConfig.limits\), got " + re.escape(repr(bad))):
            check_thresholds(bad)
    for bad in (math.nan, -0.1, -math.inf):
        with pytest.raises(ValueError, match=str(bad)):
            check_thresholds([0.5, bad, 0.5])
    for percent in ([90, 80, 70], [0.9, 99.5, math.inf], torch.tensor([2.5, 0.5, 0.5])):
        with pytest.raises(ValueError, match=r"from 0 to 1 \(infinity for 'never'\), got .*: percent\? divide by 100"):
            check_thresholds(percent)
