"""Marks are those of the student's own saved code, whatever that does, and nothing that it does reaches further."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import typer
from made_class import SOURCES, hand_in, homework, wrong_of
from nbformat.v4 import new_code_cell
from safetensors.torch import save_file

from earlyexit import check
from earlyexit.checks.verdicts import exercises_of
from earlyexit.homework import Student, grade, hidden_seeds, seed_of
from earlyexit.homework.grade import copied, digest, hand_out, run, submissions
from earlyexit.homework.student import LostError, sandbox

SECRET = 41


def points(marks):
    return {mark.exercise: mark.points for mark in marks}


FULL = dict.fromkeys(exercises_of("hw1"), 10)
WRONG_ATTENTION = next(code for exercise, _, code in wrong_of("hw1") if exercise == "attention")


def test_an_empty_release_gets_none(tmp_path):
    path = tmp_path / "hw1.ipynb"
    nbformat.write(homework.released(SOURCES["hw1"]), path)
    marks = grade(path, "eve", SECRET)
    assert points(marks) == dict.fromkeys(FULL, 0)
    assert all(mark.message.startswith("not answered") for mark in marks)


def test_the_students_function_is_what_counts_not_the_librarys(tmp_path):
    """A wrong function, and a package and checks that the student has changed so that they call it right."""
    cheat = (  # what a student may try
        "import earlyexit.checks.homework_network as h, earlyexit.checks.verdicts as v\n"
        "h.hw1_attention = lambda *a: None\nv.same = print\nv.check = lambda *a, **k: v.Verdict('', 1, '')"
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


def test_a_folder_without_notebooks_is_refused(tmp_path, monkeypatch, capsys):
    arguments = [tmp_path, "--out", tmp_path / "marks.csv", "--seed", SECRET]
    monkeypatch.setattr(sys, "argv", ["earlyexit-grade", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert "STUDENT/hw1.ipynb" in capsys.readouterr().err


def test_code_that_was_copied_shows_although_names_differ(tmp_path):
    long = (
        "def fill({a}):\n    {b} = {a} * 2\n    {c} = [{b} + i for i in range(9)]\n    return sum({c}) / len({c}) + {b}"
    )
    hand_in(tmp_path, "ada", long.format(a="x", b="y", c="z"))
    hand_in(tmp_path, "bob", long.format(a="p", b="q", c="r"))
    hand_in(tmp_path, "cy", "def fill(x):\n    return x if x > 3 else [x, 2 * x, 3 * x, 4 * x, 5 * x, 6 * x, 7 * x][2]")
    assert ("hw1", "fill", ["ada", "bob"]) in copied(tmp_path)


def test_results_are_known_by_all_that_decides_them(tmp_path):
    path = hand_in(tmp_path, "ada")
    found = {digest(path, "ada", 1), digest(path, "ada", 2), digest(path, "bob", 1)}  # a copy has other inputs
    save_file({"weight": torch.ones(2)}, path.parent / "own.safetensors")
    found.add(digest(path, "ada", 1))
    path.unlink()
    assert len(found | {digest(path, "ada", 1)}) == 5


def test_every_student_of_the_class_is_there_with_every_assignment(tmp_path):
    hand_in(tmp_path, "ada")
    hand_in(tmp_path, "bob", name="hw2")
    (tmp_path / "cy").mkdir()
    (tmp_path / "cy" / "notes.ipynb").write_text("{}")
    (tmp_path / "list.txt").write_text("ada, bob, cy")
    assert [(who, name) for who, name, _ in submissions(tmp_path)] == [
        (who, name) for who in ("ada", "bob", "cy") for name in ("hw1", "hw2")
    ]


def test_without_a_network_there_is_none(tmp_path):
    if not sandbox(tmp_path):
        pytest.skip("neither bubblewrap nor unshare may be used here")
    code = "import os, socket\ndef there(): return [len(socket.if_nameindex()), len(os.listdir('/proc/self/task'))]\n"
    code += "def others(): return sum(name.isdecimal() for name in os.listdir('/proc'))"
    with Student(hand_in(tmp_path, "lea", code)) as student:
        assert student.answer("there")()[0] <= 1  # the loopback, at most
        assert student.answer("others")() <= 3


def test_on_a_busy_machine_the_clock_allows_more(tmp_path, monkeypatch):
    """With three times as much to do as there are cores, three times as long; never less than on an idle one."""
    path = hand_in(tmp_path, "ida", "def one(): return 1")
    for load, limit in ((3.0, 4 * 3), (0.0, 4)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load * os.cpu_count(), 0.0, 0.0))
        with Student(path, limit=1.0) as student:
            assert student.limit == limit and student.answer("one")() == 1


def test_a_message_that_never_ends_is_not_waited_for(tmp_path):
    code = "import os, time\nfor end in range(3, 40):\n    try: os.write(end, b'\\x08' + bytes(7) + b'x')\n"
    code += "    except OSError: pass\ntime.sleep(3600)"
    with pytest.raises(LostError, match="takes longer than 6 seconds"):
        Student(hand_in(tmp_path, "moe", code), start=6)


def test_an_assignment_is_handed_out_and_written_over_no_work(tmp_path):
    hand_out(1, tmp_path)
    path = tmp_path / "hw1.ipynb"
    assert nbformat.read(path, as_version=4) == homework.released(SOURCES["hw1"])
    hand_out(1, tmp_path)
    path.write_text("my work")
    with pytest.raises(typer.BadParameter, match="left as it is"):
        hand_out(1, tmp_path)
    assert path.read_text() == "my work"
    with pytest.raises(typer.BadParameter, match="there are 1 to 5"):
        hand_out(6, tmp_path)
