"""How far a long work is, without a terminal: lines at intervals; the items come through in any case."""

import pytest
from squares import CLASSES, Squares, nano

from earlyexit import files as module
from earlyexit.evaluation.coco import exit_confidences
from earlyexit.files import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by ten seconds each time somebody looks at it."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))


def test_a_line_every_half_minute_without_a_terminal(clock, capsys):
    assert list(progress(range(10), "counting")) == list(range(10))
    # It is looked at once before, once after each item, and once more for each line.
    assert capsys.readouterr().err.splitlines() == ["counting: 3 of 10", "counting: 6 of 10", "counting: 9 of 10"]


def test_a_total_that_is_told_or_unknown(clock, capsys):
    assert len(list(progress(iter("abc"), "a", 7))) == len(list(progress(iter("abc"), "b"))) == 3
    assert capsys.readouterr().err.splitlines() == ["a: 3 of 7", "b: 3"]


def test_short_work_says_nothing(capsys):
    assert list(progress([], "nothing")) == []
    assert list(progress("ab", "little")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_a_detector_says_how_far_it_is_if_it_should(clock, capsys):
    """A bar for a terminal, lines for a log, and nothing in a chapter of the book."""
    data = Squares([(64, 64)] * 8)
    data.classes, data.ids = CLASSES, range(100, 108)
    model = nano()
    quiet = exit_confidences(model, data, batch_size=1)
    assert capsys.readouterr().err == ""
    loud = exit_confidences(model, data, batch_size=1, progress=True)
    assert capsys.readouterr().err.splitlines() == [f"asking the exits, batches: {n} of 8" for n in (3, 6)]
    assert (quiet == loud).all()


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress("abc", "counting")) == ["a", "b", "c"]
    assert "counting" in capsys.readouterr().err
