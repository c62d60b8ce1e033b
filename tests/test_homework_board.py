"""The board: what a score is, that a student's function is given no annotations, and who stands where."""

import csv
import functools
import math

import numpy as np
import pytest
import torch
from made_class import hand_in

from earlyexit.evaluation import evaluate_exits
from earlyexit.homework import board
from earlyexit.homework.board import Score, above, score, static_frontier, trial_of

FEW = 40  # scenes
GMACS, VALUES = np.array([1.0, 2.0, 3.0, 5.0]), np.array([10.0, 12.0, 30.0, 28.0])


def test_the_static_frontier_is_the_upper_hull_of_fixed_exits():
    """Exit 2 lies below the lots of exits 1 and 3; nobody has to pay for exit 4, which is worse than exit 3."""
    x, y = static_frontier(GMACS, VALUES)
    assert x.tolist() == [1, 3, 5]
    assert y.tolist() == [10, 30, 30]


def test_a_score_is_the_mean_gain_over_the_frontier():
    static = static_frontier(GMACS, VALUES)
    assert above(*static, static) == 0
    # 10 points more at 3, straight lines to the frontier at 1 and at 5: a triangle of width 4 and height 10.
    assert above(np.array([5.0, 1, 3]), np.array([30.0, 10, 40]), static) == pytest.approx(5)
    # From 2 on, 4 points more everywhere, the last point holds to the end: 12 of an area of width 4. Before 2: nothing.
    assert above(np.array([2.0, 3]), np.array([24.0, 34]), static) == pytest.approx((0 + 4) / 2 / 4 * 1 + 3)


def test_a_curve_below_the_frontier_loses():
    static = static_frontier(GMACS, VALUES)
    # Straight from (1, 10) to (5, 20): 15 at 3, where the frontier has 30; triangle and trapezoid.
    lost = 15 / 2 * 2 + (15 + 10) / 2 * 2
    assert above(np.array([1.0, 5]), np.array([10.0, 20]), static) == pytest.approx(-lost / 4)


def test_a_filler_that_adds_nothing_gains_nothing_and_one_that_computes_is_paid_for():
    zeros = score("hw3", lambda c3: torch.zeros(len(c3), 64, 8, 8), scenes=FEW, repeats=3)
    assert abs(zeros.score) < 1  # exit 1 finds next to nothing with and without it: the corners stay
    trial, weight = trial_of("hw3", 0, FEW), torch.randn(64, 64, 2, 2)
    records = board._filled(trial, lambda c3: torch.conv2d(c3, weight, stride=2))[0][0]
    # 64 x 64 x 4 weights, each used on 8 x 8 cells.
    assert torch.allclose(records.gmacs[0] - trial.records.gmacs[0], torch.tensor(64 * 64 * 4 * 64 / 1e9).double())
    assert torch.equal(records.gmacs[1:], trial.records.gmacs[1:])


def test_a_handed_in_level_is_what_the_head_looks_at():
    """With the true P4, of full depth, exit 1 finds what it could not find without."""
    trial = trial_of("hw3", 0, FEW)
    given = iter(list(full_p4(trial)))
    records = board._filled(trial, lambda c3: next(given))[0][0]
    before, after = (evaluate_exits(r, r.all_at(1), metrics=("mAP",))["mAP"] for r in (trial.records, records))
    assert before < 5
    assert after > before + 20
    for k in (2, 3, 4):
        assert torch.equal(records.detection(3, k)["boxes"], trial.records.detection(3, k)["boxes"])


def full_p4(trial):
    for _, batch, _ in trial.batches:
        with torch.inference_mode():
            *_, last = trial.model.backbone.exits(batch.tensors)
            yield trial.model.neck(last.features)["p4"].clone()


def test_a_rule_is_given_what_an_exit_knows_and_nothing_else():
    seen = []

    def leave(exit, logits, latents):
        seen.append((exit, tuple(logits.shape[::2]), tuple(latents.shape[1:]), logits.shape[1] == len(latents)))
        return logits[-1].softmax(1).amax(1)

    found = score("hw5", leave, scenes=FEW, repeats=3)
    assert sorted(set(seen)) == [(k, (k, 20), (width,), True) for k, width in ((1, 64), (2, 128), (3, 128))]
    assert -20 < found.score < 20
    assert found.low <= found.high


def test_an_oracle_beats_a_rule_that_lets_the_wrong_ones_leave():
    """A rule that knows the classes; the same, upside down."""
    trial = trial_of("hw5", 0, FEW)

    def knowing(sign):
        def leave(exit, logits, latents):
            records = trial.records if torch.equal(logits[0], trial.records.logits[0]) else trial.calibration
            return sign * logits[-1].softmax(1).gather(1, records.labels[:, None])[:, 0]

        return score("hw5", leave, scenes=FEW, repeats=3).score

    assert knowing(1) > knowing(-1)


@pytest.mark.parametrize("value", [None, 3.0, torch.zeros(3), torch.full((25,), math.nan)])
def test_what_is_no_score_for_each_image_is_refused(value):
    with pytest.raises(ValueError, match="leave must give a finite tensor of shape"):
        score("hw5", lambda *given: value, scenes=FEW)


def test_there_is_no_board_for_other_assignments():
    with pytest.raises(ValueError, match="'hw1' has no board, hw3, hw5 have"):
        score("hw1", print)


def test_the_board_is_written_as_a_table_and_as_a_page(tmp_path):
    lines = [Score("ada", "hw5", 1.5, 1, 2), Score("bob", "hw5", -math.inf, -math.inf, -math.inf, "no leave")]
    board.write(tmp_path / "board.csv", lines)
    with open(tmp_path / "board.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["student"], row["score"], row["message"]) for row in rows] == [
        ("ada", "1.5", ""),
        ("bob", "", "no leave"),
    ]
    page = (tmp_path / "board.md").read_text()
    assert "| hw5 | ada | +1.50 | +1.00 to +2.00 |" in page
    assert "| hw5 | bob | no leave |  |" in page


def test_a_class_is_ranked_from_its_notebooks(tmp_path, monkeypatch):
    """Students' rules run in their own processes, where labels, records and the seed are not to be found."""
    leave = "def leave(exit, logits, latents):\n    return {}"
    hand_in(tmp_path, "ada", leave.format("logits[-1].softmax(1).amax(1)"), name="hw5")
    peek = "-logits[-1].softmax(1).amax(1) if not found() else logits[-1].softmax(1).amax(1)\n"
    peek += "def found():\n    import gc\n    return [x for x in gc.get_objects() if type(x).__name__ == 'ExitRecords']"
    hand_in(tmp_path, "eve", leave.format(peek), name="hw5")
    hand_in(tmp_path, "bob", leave.format("..."), name="hw5")
    quick = functools.partial(score, scenes=FEW, repeats=3)
    monkeypatch.setattr(board, "score", functools.partial(score, repeats=3))
    lines = {who: board._line(who, name, path, 0, FEW) for who, name, path in board.submissions(tmp_path)}
    right = quick("hw5", lambda exit, logits, latents: logits[-1].softmax(1).amax(1))
    assert (lines["ada"].score, lines["ada"].low) == (right.score, right.low)
    assert lines["eve"].score == quick("hw5", lambda exit, logits, latents: -logits[-1].softmax(1).amax(1)).score
    assert lines["bob"].message == "leave gives nothing"
