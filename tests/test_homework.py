"""Homework: what is released, what is right and wrong, and that marks are those of the student's own saved code."""

import csv
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from safetensors.torch import save_file

from earlyexit import check
from earlyexit.checks.verdicts import TURN
from earlyexit.homework import Student, grade, hidden_seeds, seed_of
from earlyexit.homework.grade import copied, exercises_of

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("homework", ROOT / "tools" / "homework.py")
homework = importlib.util.module_from_spec(spec)
spec.loader.exec_module(homework)
SOURCES = {p.stem: nbformat.read(p, as_version=4) for p in sorted((ROOT / "book/homework/source").glob("hw*.ipynb"))}
EVERY = [(name, exercise) for name in SOURCES for exercise in exercises_of(name)]
SECRET = 41


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


def wrong_of(name):
    """(exercise, part of the message, code) of each kept wrong answer."""
    for part in (ROOT / "tests" / "homework" / f"{name}.py").read_text().split("\n# %% ")[1:]:
        head, _, code = part.partition("\n")
        exercise, _, message = head.partition(": ")
        yield exercise, message, code


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
    there = nbformat.read(ROOT / "book" / "homework" / "release" / f"{name}.ipynb", as_version=4)
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


# Marking


def hand_in(folder, student, *changes, source=None, name="hw1", **cells):
    """A student's file: the solution of an assignment with code added at its end, or cells replaced by their id."""
    notebook = homework.solved(source or SOURCES[name])
    for cell in notebook.cells:
        cell.source = cells.get(cell.id.removeprefix("answer-hw1-").replace("-", "_"), cell.source)
    notebook.cells = [cell for cell in notebook.cells if not cell.id.startswith(("seen-", "hidden-"))]
    notebook.cells += [new_code_cell(code) for code in changes]
    path = folder / student / f"{name}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


def points(marks):
    return {mark.exercise: mark.points for mark in marks}


FULL = dict.fromkeys(exercises_of("hw1"), 10)
WRONG_ATTENTION = next(code for exercise, _, code in wrong_of("hw1") if exercise == "attention")


def test_a_right_notebook_gets_all_points(tmp_path):
    assert points(grade(hand_in(tmp_path, "ada"), "ada", SECRET)) == FULL


def test_an_empty_release_gets_none(tmp_path):
    path = tmp_path / "hw1.ipynb"
    nbformat.write(homework.released(SOURCES["hw1"]), path)
    marks = grade(path, "eve", SECRET)
    assert points(marks) == dict.fromkeys(FULL, 0)
    assert all(mark.message.startswith("not answered") for mark in marks)


def test_the_students_function_is_what_counts_not_the_librarys(tmp_path):
    """A wrong function, and a package and checks that the student has changed so that they call it right."""
    cheat = (  # what a student may try
        "import earlyexit.checks.hw1 as h, earlyexit.checks.verdicts as v\n"
        "h.attention = lambda *a: None\nv.same = print\nv.check = lambda *a, **k: v.Verdict('', 1, '')"
    )
    marks = {m.exercise: m for m in grade(hand_in(tmp_path, "bob", WRONG_ATTENTION, cheat), "bob", SECRET)}
    assert marks["attention"].points == 0
    assert "not divided by the root" in marks["attention"].message
    assert marks["token_mixer"].points == 10


def test_an_answer_for_the_seen_inputs_alone_gets_half(tmp_path):
    given = "keep = attention\ndef attention(q, k, v):\n    return keep(q, k, v) * (1 if SUM(q) else 2)"
    seen = []

    def record(*inputs):
        seen.append(float(inputs[0].sum()))
        return None

    for turn in range(3):  # the first inputs of each round
        check("hw1.attention", record, seed=seed_of("cy") + turn)
    sums = []
    for turn in range(3):
        random = torch.Generator().manual_seed(1_000 * seed_of("cy") + turn)
        sums.append(float((torch.randn(3, 8, generator=random) * 2).sum()))
    code = given.replace("SUM(q)", f"any(abs(float(q.sum()) - s) < 1e-4 for s in {sums})")
    marks = {m.exercise: m for m in grade(hand_in(tmp_path, "cy", code), "cy", SECRET)}
    assert marks["attention"].points == 5
    assert marks["attention"].message.startswith("right for the inputs that you saw, not for others")


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(Student.__init__, "__kwdefaults__", {"start": 60.0, "call": 2.0})


def test_what_ends_the_process_costs_that_exercise_alone(tmp_path, short_limit):
    code = """import os
def tokens(features, weight): os._exit(0)
def x2z(*given):
    os.fork()
    while True: pass
def z2x(*given): exit()
token_mixer = 3"""
    marks = {m.exercise: m for m in grade(hand_in(tmp_path, "dan", code), "dan", SECRET)}
    assert points(marks.values()) == {**dict.fromkeys(FULL, 0), "attention": 10}
    assert "ended the process" in marks["tokens"].message
    assert "takes longer than 2 seconds" in marks["x2z"].message
    assert "raised RuntimeError: SystemExit" in marks["z2x"].message
    assert "should be a function" in marks["token_mixer"].message


def test_noise_in_the_pipe_that_marks_come_from_earns_nothing(tmp_path, short_limit):
    code = "import os\nfor end in range(3, 40):\n    try: os.write(end, b'x' * 16)\n    except OSError: pass"
    assert points(grade(hand_in(tmp_path, "lea", code), "lea", SECRET)) == dict.fromkeys(FULL, 0)


@pytest.mark.parametrize(
    ("cells", "lost"),
    [
        (
            {"tokens": "def tokens(features weight):", "token_mixer": "import sys; sys.exit(3)"},
            {"tokens", "token_mixer"},
        ),
        (
            {"attention": "raise ValueError('mine')", "tokens": "%timeit 3\n!rm -rf /"},
            {"attention", "x2z", "z2x", "tokens"},
        ),
    ],
)
def test_a_broken_cell_costs_what_it_defines(tmp_path, cells, lost):
    marks = grade(hand_in(tmp_path, "fay", "del nothing", **cells), "fay", SECRET)
    assert points(marks) == {exercise: 0 if exercise in lost else 10 for exercise in FULL}
    assert all("defines no" in mark.message for mark in marks if mark.exercise in {"tokens", "token_mixer"} & lost)


def test_a_file_that_is_no_notebook_gets_nothing_and_says_so(tmp_path):
    path = tmp_path / "hw1.ipynb"
    path.write_text("{")
    assert {mark.message for mark in grade(path, "gus", SECRET)} == {
        f"the notebook defines no {exercise} (the file is no notebook)" for exercise in FULL
    }


def test_what_a_student_writes_stays_in_a_folder_of_its_own(tmp_path):
    code = "from pathlib import Path\nPath('note.txt').write_text('x')\nhome = str(Path.home())"
    with Student(hand_in(tmp_path, "hal", code)) as student:
        folder = student.folder
        assert (folder / "note.txt").exists()
        assert folder != Path.cwd()
    assert not folder.exists()


def test_no_secret_of_the_lecturer_reaches_the_student(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMEWORK_SEED", "12")
    code = "import os\ndef peek(): return os.environ.get('HOMEWORK_SEED', 'nothing')"
    with Student(hand_in(tmp_path, "ida", code)) as student:
        assert student.answer("peek")() == "nothing"


def test_training_cells_are_not_run_again(tmp_path):
    path = hand_in(tmp_path, "jan")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(new_code_cell("attention = None", metadata={"tags": ["training"]}))
    nbformat.write(notebook, path)
    assert points(grade(path, "jan", SECRET)) == FULL


def test_trained_weights_are_handed_in_with_the_notebook(tmp_path):
    code = (
        "from safetensors.torch import load_file\ntrained = load_file('own.safetensors')\ndef weights(): return trained"
    )
    path = hand_in(tmp_path, "kim", code)
    save_file({"weight": torch.tensor([3.0, 4])}, path.parent / "own.safetensors")
    with Student(path) as student:
        assert student.answer("weights")()["weight"].tolist() == [3, 4]


def test_seeds_are_the_students_own():
    assert seed_of("ada") != seed_of("bob")
    assert hidden_seeds(3) == [9, 10, 11]
    assert hidden_seeds(4)[0] == 12
    with pytest.raises(ValueError, match="must be the lecturer's seed"):
        hidden_seeds(-1)


def run(folder, out, seed=SECRET):
    command = [sys.executable, "-c", "from earlyexit.homework.grade import run; run()"]
    given = [*command, str(folder), "--out", str(out), "--seed", str(seed), "--jobs", "2"]
    return subprocess.run(given, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_class_is_marked_and_goes_on_where_it_was_stopped(tmp_path):
    hand_in(tmp_path / "class", "ada")
    hand_in(tmp_path / "class", "bob", WRONG_ATTENTION)
    out = tmp_path / "marks.csv"
    first = run(tmp_path / "class", out)
    assert first.returncode == 0, first.stderr
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["student"], r["exercise"]): float(r["points"]) for r in rows} == {
        **{("ada", exercise): 10.0 for exercise in FULL},
        **{("bob", exercise): 0.0 if exercise in ("attention", "x2z", "z2x") else 10.0 for exercise in FULL},
    }
    kept = tmp_path / "marks.feedback"
    assert "attention: 0 of 10. scores are not divided" in (kept / "bob.md").read_text()
    # Ada's result is taken as it lies there, Bob's is missing and made again.
    mine = next(path for path in kept.glob("*.json") if '"ada"' in path.read_text())
    mine.write_text(mine.read_text().replace('"points": 10', '"points": 7'))
    next(path for path in kept.glob("*.json") if '"bob"' in path.read_text()).unlink()
    assert run(tmp_path / "class", out).returncode == 0
    with open(out, newline="") as file:
        again = list(csv.DictReader(file))
    assert {float(r["points"]) for r in again if r["student"] == "ada"} == {7.0}
    assert [r for r in again if r["student"] == "bob"] == [r for r in rows if r["student"] == "bob"]


def test_a_folder_without_notebooks_is_refused(tmp_path):
    refused = run(tmp_path, tmp_path / "marks.csv")
    assert refused.returncode == 2
    assert "STUDENT/hw1.ipynb" in refused.stderr


def test_code_that_was_copied_shows_although_names_differ(tmp_path):
    long = (
        "def fill({a}):\n    {b} = {a} * 2\n    {c} = [{b} + i for i in range(9)]\n    return sum({c}) / len({c}) + {b}"
    )
    hand_in(tmp_path, "ada", long.format(a="x", b="y", c="z"))
    hand_in(tmp_path, "bob", long.format(a="p", b="q", c="r"))
    hand_in(tmp_path, "cy", "def fill(x):\n    return x if x > 3 else [x, 2 * x, 3 * x, 4 * x, 5 * x, 6 * x, 7 * x][2]")
    assert ("hw1", "fill", ["ada", "bob"]) in copied(tmp_path)
