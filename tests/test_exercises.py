"""Every exercise of the book: its stub, its solution and its typical wrong answers, tried as a reader would."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest

from earlyexit import check
from earlyexit.checks import verdicts

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("exercises", ROOT / "tools" / "exercises.py")
exercises = sys.modules["exercises"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exercises)
ALL = [one for source in exercises.sources() for one in exercises.read(source)]
EACH = pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)


def answer(one, code):
    """What a reader's cell defines, run after the setup."""
    names = {"__name__": "__main__"}
    exec(one.setup, names)
    exec(compile(code, f"<{one.name}>", "exec"), names)
    return names[one.answer]


@EACH
def test_stub_is_told_that_it_is_your_turn(one):
    verdict = check(one.name, answer(one, one.stub))
    assert not verdict.passed
    assert verdict.message == verdicts.TURN


@EACH
@pytest.mark.parametrize("seed", [0, 5])
def test_solution_is_right(one, seed):
    assert repr(check(one.name, answer(one, one.solution), seed=seed)) == f"{one.name}: right"


@EACH
def test_wrong_answers_each_get_their_own_message(one):
    assert len(one.wrong) >= 3
    messages = []
    for part, code in one.wrong:
        verdict = check(one.name, answer(one, code))
        assert not verdict.passed, code
        assert part in verdict.message
        messages.append(verdict.message)
    assert len(set(messages)) == len(messages)


@EACH
def test_it_is_the_answer_that_runs(one):
    """A solution that breaks at its first call is not called right."""
    right = answer(one, one.solution)
    if callable(right):

        def broken(*inputs, **named):
            raise RuntimeError("was called")

        assert "RuntimeError: was called" in check(one.name, broken).message


def test_every_exercise_of_the_package_has_a_source():
    there = {one.name for one in ALL}
    for part, chapters in verdicts.PARTS.items():
        module = importlib.import_module(f"earlyexit.checks.{part}")
        known = {f"{number}.{name}" for number in chapters for name in verdicts.names(module, f"ch{number}_")}
        assert known <= there and len(known) == len(verdicts.names(module, "ch"))


@pytest.mark.parametrize("source", exercises.sources(), ids=lambda path: path.stem)
def test_chapter_and_solutions_are_those_of_the_source(source):
    chapter, found = ROOT / "book" / f"{source.stem}.ipynb", exercises.read(source)
    page = nbformat.read(ROOT / "book" / "solutions" / chapter.name, as_version=4)
    for path, wanted in ((chapter, exercises.fill_chapter), (page, exercises.solutions)):
        there = nbformat.read(path, as_version=4) if isinstance(path, Path) else path
        for part in ("id", "source", "execution_count", "outputs"):
            assert [c.get(part) for c in there.cells] == [c.get(part) for c in wanted(chapter, found).cells]


# The machinery itself


def iou(boxes_a, boxes_b):
    raise ValueError("no boxes")


def test_what_the_code_raises_is_said_with_its_line():
    message = check("2.iou", iou).message
    assert message == 'your code raised ValueError: no boxes, at "raise ValueError("no boxes")"'


def test_the_librarys_own_function_is_no_answer():
    from torchvision.ops import box_iou

    assert check("2.iou", box_iou).message == "this is torchvision's own box_iou: write yours"


def test_an_answer_that_changes_its_inputs_is_told():
    def spoils(boxes_a, boxes_b):
        boxes_b.zero_()
        return boxes_b

    assert check("2.iou", spoils).message == "your function changes its input number 2: work on a copy"


def test_first_difference_is_shown_with_both_values():
    def slightly(boxes_a, boxes_b):
        right = answer(ALL_BY_NAME["2.iou"], ALL_BY_NAME["2.iou"].solution)(boxes_a, boxes_b)
        right[1, 2] += 0.5
        return right

    message = check("2.iou", slightly).message
    assert "at index [1, 2]: yours 0.5" in message or "at index [1, 2]: yours" in message
    assert "(1 of 12 values differ)" in message


ALL_BY_NAME = {one.name: one for one in ALL}


@pytest.mark.parametrize("name", ["2.nothing", "99.iou", "iou", "hw77.x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="exercise"):
        check(name, iou)


def test_random_numbers_of_the_reader_go_on_as_before():
    import torch

    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    check("2.iou", lambda a, b: torch.rand(4, 3))
    assert torch.equal(torch.rand(2), wanted)
