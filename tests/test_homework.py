"""Homework: what is released, what is right, what is wrong, and what is said of it.

What has gone wrong in such courses, and the test of it (here, in test_homework_grade.py, and the students of
homework/planted.py and made_class.py, whom test_homework_class.py marks):

- The reference was marked: test_the_students_function_is_what_counts_not_the_librarys, `changes_the_checks`;
  test_what_is_changed_in_the_students_function_changes_the_mark.
- An empty notebook passed: test_an_empty_release_gets_none, `empty_notebook`, `handed_in_nothing`.
- Work was written over: test_a_changed_release_is_not_written_over,
  test_an_assignment_is_handed_out_and_written_over_no_work.
- Solutions were released: test_the_release_is_made_of_its_source_and_has_no_answers.
- Tests imported what comes later: test_an_exercise_needs_nothing_of_later_ones.
- Hidden tests leaked: test_no_secret_of_the_lecturer_reaches_the_student, `looks_for_hidden_tests`.
- Students deleted or changed the tests: `perfect` and all the others have none, `changed_the_tests`.
- Colab lacked files: test_a_release_needs_the_package_alone.
- It passed in the kernel alone: `knows_more_than_its_file`, `deleted_a_cell`.
"""

import ast
import copy
import functools
import json
import re

import nbformat
import pytest
from made_class import ROOT, SOURCES, homework, wrong_of
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from earlyexit import check
from earlyexit.checks import verdicts
from earlyexit.checks.verdicts import TURN, exercises_of

EVERY = [(name, exercise) for name in SOURCES for exercise in exercises_of(name)]


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """Solutions that train something save it where they run."""
    monkeypatch.chdir(tmp_path)


def answers(notebook):
    """The code of a notebook's answers, after its set-up, without its checks; what trains writes into no file."""
    cells = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    chosen = (text for key, text in cells.items() if key in ("student", "setup") or key.startswith("answer-"))
    return "\n\n".join(chosen)


@functools.cache
def run_once(code):
    """What code defines; solutions that train something do so once."""
    names = {"__name__": "__main__"}
    exec(compile(code, "<answer>", "exec"), names)
    return names


def defined(code, name, more=""):
    """What code defines by that name, with more code after it."""
    names = dict(run_once(code))
    exec(compile(more, "<answer>", "exec"), names)
    return names[name]


@pytest.mark.parametrize(("name", "exercise"), EVERY)
def test_the_release_fails_in_every_exercise_and_says_whose_turn_it_is(name, exercise):
    released = homework.released(SOURCES[name])
    assert check(f"{name}.{exercise}", defined(answers(released), exercise)).message == TURN


@pytest.mark.parametrize(("name", "exercise"), EVERY)
@pytest.mark.parametrize("seed", [0, 3, 99_999])
def test_the_solution_is_right(name, exercise, seed):
    solution = defined(answers(homework.solved(SOURCES[name])), exercise)
    assert repr(check(f"{name}.{exercise}", solution, seed=seed)) == f"{name}.{exercise}: right"


@pytest.mark.parametrize("name", SOURCES)
def test_wrong_answers_get_the_message_of_their_mistake(name):
    solution = answers(homework.solved(SOURCES[name]))
    messages = {}
    for exercise, part, code in wrong_of(name):
        verdict = check(f"{name}.{exercise}", defined(solution, exercise, code))
        assert not verdict, (exercise, part)
        assert part in verdict.message
        messages.setdefault(exercise, set()).add(verdict.message)
    assert {exercise: len(found) >= 5 for exercise, found in messages.items()} == dict.fromkeys(
        exercises_of(name), True
    )


@pytest.mark.parametrize("name", SOURCES)
def test_the_release_is_made_of_its_source_and_has_no_answers(name):
    there = nbformat.read(ROOT / "earlyexit" / "homework" / "release" / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in there.cells] == [cell.source for cell in homework.released(SOURCES[name]).cells]
    text = json.dumps(there)
    assert "BEGIN" not in text
    assert "hidden_seeds()" not in text
    for cell in SOURCES[name].cells:
        for answer in homework.SOLUTION.findall(cell.source):
            assert answer not in text or not answer.strip()


def test_a_region_that_does_not_end_is_refused():
    source = new_notebook(cells=[new_code_cell("def f():\n    ### BEGIN SOLUTION\n    return 1")])
    with pytest.raises(ValueError, match="a region that does not begin or end"):
        homework.released(source)


def test_a_changed_release_is_not_written_over(tmp_path):
    first, second = (new_notebook(cells=[new_markdown_cell(text, id="a")]) for text in ("first", "second"))
    assert homework.write(tmp_path, {"hw1.ipynb": first}) == []
    assert homework.write(tmp_path, {"hw1.ipynb": second}) == []  # nobody has touched it
    mine = nbformat.writes(new_notebook(cells=[new_markdown_cell("mine", id="a")]))
    (tmp_path / "hw1.ipynb").write_text(mine)
    assert homework.write(tmp_path, {"hw1.ipynb": first}) == [tmp_path / "hw1.ipynb"]
    assert (tmp_path / "hw1.ipynb").read_text() == mine


def test_the_zip_holds_the_release_alone_and_is_the_same_each_time(tmp_path):
    homework.write(tmp_path / "release", {"hw1.ipynb": homework.released(SOURCES["hw1"])})
    first = homework.pack(tmp_path / "release", tmp_path).read_bytes()
    assert homework.pack(tmp_path / "release", tmp_path).read_bytes() == first
    assert b"written.json" not in first


@pytest.mark.parametrize("name", SOURCES)
def test_an_exercise_needs_nothing_of_later_ones(name):
    """Right answers so far, later ones as they were handed out: the exercise is right, the next one's turn comes."""
    right, empty = (function(SOURCES[name]) for function in (homework.solved, homework.released))
    done = copy.deepcopy(empty)
    for exercise in exercises_of(name):
        key = f"answer-{name}-{exercise.replace('_', '-')}"
        for cell, solved in zip(done.cells, (c for c in right.cells if not c.id.startswith("hidden")), strict=True):
            if cell.id.startswith(key):
                cell.source = solved.source
        assert repr(check(f"{name}.{exercise}", defined(answers(done), exercise))) == f"{name}.{exercise}: right"


@pytest.mark.parametrize("name", SOURCES)
def test_a_release_needs_the_package_alone(name):
    """No files beside it, as in Colab, and no links into a folder that a student does not have."""
    cells = homework.released(SOURCES[name]).cells
    code = "\n".join(re.sub(r"^( *)%.*", r"\1pass", c.source, flags=re.M) for c in cells if c.cell_type == "code")
    tree = ast.parse(code)
    imported = {
        n.names[0].name if isinstance(n, ast.Import) else n.module for n in ast.walk(tree) if hasattr(n, "names")
    }
    assert {one.split(".")[0] for one in imported} <= {"earlyexit", "importlib", "math", "safetensors", "torch"}
    assert "open(" not in code
    links = re.findall(r"\]\(([^)]*)\)", "\n".join(c.source for c in cells if c.cell_type == "markdown"))
    assert links
    assert all(link.startswith("https://") for link in links)
    assert any(link.endswith(f"/earlyexit/homework/release/{name}.ipynb") for link in links)  # its Colab button


# Mutations: one thing is changed in the right answer, and it is wrong.


class Mutation(ast.NodeTransformer):
    """Change the place of that number, of those in which something can be changed."""

    OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
    COMPARISONS = {ast.GtE: ast.Lt, ast.Lt: ast.GtE, ast.Eq: ast.NotEq}

    def __init__(self, place):
        self.left, self.changed = place, False

    def here(self):
        self.left -= 1
        self.changed |= self.left == -1
        return self.left == -1

    def visit_BinOp(self, node):  # noqa: N802
        self.generic_visit(node)
        if type(node.op) in self.OPERATORS and self.here():
            node.op = self.OPERATORS[type(node.op)]()
        return node

    def visit_Compare(self, node):  # noqa: N802
        self.generic_visit(node)
        if type(node.ops[0]) in self.COMPARISONS and self.here():
            node.ops = [self.COMPARISONS[type(node.ops[0])]()]
        return node

    def visit_Constant(self, node):  # noqa: N802
        if type(node.value) in (int, float) and self.here():
            return ast.Constant(node.value + 1)
        return node

    def visit_Return(self, node):  # noqa: N802
        self.generic_visit(node)
        if self.here():
            node.value = ast.parse(f"MOVED({ast.unparse(node.value)})", mode="eval").body
        return node


MOVED = """
def MOVED(value):
    if isinstance(value, (list, tuple)):
        return [MOVED(one) for one in value]
    return value + 1
"""
SAME = {  # changed in so many ways, and still right
    "hw4.focal": 2,  # 1 minus the probability of what is right gets another sign, and is squared
    "hw5.lots": 1,  # lotteries between an exit and a cheaper one, which no budget lies between
}


def mutants(code, name):
    """The function of a name in some code, each time with one change."""
    tree = next(n for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name == name)
    for place in range(99):
        mutation = Mutation(place)
        changed = ast.fix_missing_locations(mutation.visit(copy.deepcopy(tree)))
        if not mutation.changed:
            return
        yield ast.unparse(changed)


@pytest.mark.parametrize(("name", "exercise"), EVERY)
def test_what_is_changed_in_the_students_function_changes_the_mark(name, exercise):
    code = answers(homework.solved(SOURCES[name]))
    found = list(mutants(code, exercise))
    found = found[-3:] if exercise == "own" else found  # each of which is tried on new scenes
    right = [one for one in found if check(f"{name}.{exercise}", defined(code, exercise, MOVED + one))]
    assert len(right) == SAME.get(f"{name}.{exercise}", 0), right
    assert len(found) > len(right)


# Time


def test_an_answer_that_takes_too_long_is_told_so(monkeypatch):
    """The clock is made: each look at it finds that many seconds gone."""
    spent = {"each": verdicts.SECONDS / 2}
    ticks = iter(range(10_000))
    monkeypatch.setattr(verdicts, "clock", lambda: next(ticks) * spent["each"])
    solution = defined(answers(homework.solved(SOURCES["hw2"])), "leaves_at")
    assert check("hw2.leaves_at", solution)
    spent["each"] = verdicts.SECONDS + 1
    assert check("hw2.leaves_at", solution).message.startswith("your function takes 3.0 seconds, 2 are more than")


def test_a_loop_over_images_meets_many_images():
    """What `leaves_at` and `keep` are given at last would take a loop minutes."""
    sizes = {"leaves_at": [], "keep": []}
    for exercise, seen in sizes.items():
        right = defined(answers(homework.solved(SOURCES["hw2"])), exercise)

        def answer(*inputs, right=right, seen=seen):
            seen.append(max(len(x.T) if x.ndim == 2 else len(x) for x in inputs if hasattr(x, "ndim")))
            return right(*inputs)

        assert check(f"hw2.{exercise}", answer)
    assert {exercise: max(seen) for exercise, seen in sizes.items()} == {"leaves_at": 600_000, "keep": 600_000}
