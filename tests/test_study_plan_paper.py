"""The paper's own numbers."""

import pytest

from earlyexit.study.plan import paper_baseline, paper_ceiling, paper_exit_counts, paper_figures, paper_sweep


def test_published_numbers_are_those_of_the_tables():
    best = paper_sweep()
    assert [row["index"] for row in best] == list(range(1, 35))
    assert (best[33]["mAP"], best[30]["mAP"], best[30]["gmacs"]) == (43.1, 39.7, 153.741)
    assert paper_sweep("ilsvrc_single")[33]["mAP"] == 40.3
    assert paper_sweep(theta=0.5, lambda_=0.5)[33]["mAP"] == 35.5
    assert paper_baseline()["map"] == 39.3 and paper_baseline("ilsvrc_single")["map"] == 39.9
    assert all(sum(row["exits"]) == 593 for row in paper_exit_counts())
    assert paper_exit_counts()[19]["exits"] == [98, 131, 97, 267]
    assert paper_ceiling() == pytest.approx(8.78, abs=0.005)


def test_published_compute_follows_from_the_exit_counts():
    """The compute by exit was fitted: with it the counts give the published GMACs of every setting."""
    by_exit = paper_figures()["gmacs by exit"]["gmacs"]
    for counts, row in zip(paper_exit_counts(), paper_sweep(), strict=True):
        mean = sum(n * g for n, g in zip(counts["exits"], by_exit, strict=True)) / 593
        assert mean == pytest.approx(row["gmacs"], abs=0.01)


def test_unknown_published_model_is_named():
    with pytest.raises(ValueError, match="'voc'"):
        paper_sweep("voc")
    with pytest.raises(ValueError, match=r"\(0.2, 1.0\)"):
        paper_sweep(theta=0.2)
