"""A class that hands in homework 1: a student for each thing that can go wrong, with the points that it should get."""

import importlib.util
import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from earlyexit.checks.verdicts import exercises_of

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("homework", ROOT / "tools" / "homework.py")
homework = importlib.util.module_from_spec(spec)
spec.loader.exec_module(homework)
SOURCES = {p.stem: nbformat.read(p, as_version=4) for p in sorted((ROOT / "book/homework/source").glob("hw*.ipynb"))}
ALL = exercises_of("hw1")


def parts_of(name):
    """(rest of the headline, code) of each part of a file of answers."""
    for part in (ROOT / "tests" / "homework" / f"{name}.py").read_text().split("\n# %% ")[1:]:
        head, _, code = part.partition("\n")
        yield head, code


def wrong_of(name):
    """(exercise, part of the message, code) of each kept wrong answer."""
    for head, code in parts_of(name):
        exercise, _, message = head.partition(": ")
        yield exercise, message, code


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


def make_class(folder, times=1):
    """Write a class of 34 students, or so many times as many; (student, exercise) to points and part of a message."""
    expected = {}
    for round_ in range(times):
        ending = f"_{round_}" if times > 1 else ""
        for student, (lost, message) in _hand_in_all(folder, ending).items():
            for exercise in ALL:
                full = exercise not in lost
                # Whoever loses one exercise loses those that call its function, with messages of their own.
                said = "right" if full else message if lost is ALL or exercise == lost[0] else ""
                expected[student, exercise] = (10 if full else 0, said)
    return expected


def _hand_in_all(folder, ending):
    """Student to what is lost and the message."""
    told = {}
    for head, code in parts_of("planted"):
        student, lost, message = head.split(": ", 2)
        student += ending
        hand_in(folder, student, code.replace("SUBMISSIONS", repr(str(folder))))
        told[student] = ({"all": ALL, "none": []}.get(lost, lost.split()), message)
    perfect = folder / f"perfect{ending}" / "hw1.ipynb"

    def file(student, content, name="hw1.ipynb"):
        path = folder / (student + ending) / name
        path.parent.mkdir()
        path.write_bytes(content)

    file("renamed_its_file", perfect.read_bytes(), "hw1_final.ipynb")
    told["renamed_its_file" + ending] = (ALL, "there is hw1_final.ipynb: files keep their names")
    (folder / f"handed_in_nothing{ending}").mkdir()
    told["handed_in_nothing" + ending] = (ALL, "there is nothing: files keep their names")
    file("copied", perfect.read_bytes())
    told["copied" + ending] = ([], "")
    file("broken_file", b"{")
    told["broken_file" + ending] = (ALL, "the file is no notebook")
    file("strange_file", json.dumps({"cells": [3, {"cell_type": "code", "source": 4}]}).encode())
    told["strange_file" + ending] = (ALL, "the file is no notebook")
    file("empty_notebook", nbformat.writes(homework.released(SOURCES["hw1"])).encode())
    told["empty_notebook" + ending] = (ALL, "not answered")
    hand_in(folder, f"deleted_a_cell{ending}", tokens="")
    hand_in(folder, f"syntax_error{ending}", tokens="def tokens(features weight):")
    told["syntax_error" + ending] = (["tokens"], "the notebook defines no tokens (cell 7: SyntaxError")
    told["deleted_a_cell" + ending] = (["tokens"], "the notebook defines no tokens")
    kept = homework.solved(SOURCES["hw1"])  # with the tests, which say that everything is right
    for cell in kept.cells:
        if cell.id.startswith("seen-"):
            cell.source = "print('right')"
        if cell.id == "answer-hw1-token-mixer":
            cell.source = "def token_mixer(latents, weight, bias):\n    return latents[::2]"
    file("changed_the_tests", nbformat.writes(kept).encode())
    told["changed_the_tests" + ending] = (["token_mixer"], "every second latent is dropped")
    return told
