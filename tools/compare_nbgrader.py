"""Mark the same made students with nbgrader and with earlyexit-grade, and compare: python tools/compare_nbgrader.py

Needs `pip install nbgrader` in the environment that runs it. Three students hand in each assignment: one has solved it,
one has made a typical mistake in its first function, one has handed in the release as it is. Exit status 1 if a mark
differs. (The report of assignment 5 is read by a person, and left out.) `benchmarks/nbgrader.json` keeps the marks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import nbformat

from earlyexit.checks.verdicts import exercises_of
from earlyexit.files import provenance
from earlyexit.homework import grade
from earlyexit.homework.grade import SECRET

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import homework  # noqa: E402

SEED = 4711


def hand_in(course: Path, name: str) -> None:
    """The three students' notebooks of an assignment, made from nbgrader's own release of it."""
    source = nbformat.read(ROOT / "book" / "homework" / "source" / f"{name}.ipynb", as_version=4)
    answers = {cell.id: cell.source for cell in homework.solved(source).cells if cell.id.startswith("answer-")}
    exercise, code = _first_mistake(name)
    mistaken = {**answers, f"answer-{name}-{exercise.replace('_', '-')}": code}
    release = course / "release" / name / f"{name}.ipynb"
    for student, given in (("solved", answers), ("mistaken", mistaken), ("empty", {})):
        notebook = nbformat.read(release, as_version=4)
        for cell in notebook.cells:
            key = cell.metadata.get("nbgrader", {}).get("grade_id", "")
            cell.source = given.get(key, cell.source)
        target = course / "submitted" / student / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)


def _first_mistake(name: str) -> tuple[str, str]:
    part = (ROOT / "tests" / "homework" / f"{name}.py").read_text().split("\n# %% ")[1]
    head, _, code = part.partition("\n")
    return head.split(":")[0], code.strip()


def nbgraders(course: Path, name: str) -> dict[tuple[str, str], float]:
    """nbgrader's marks: student and exercise to points."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    environment = {**os.environ, SECRET: str(SEED), "OMP_NUM_THREADS": "1", "PATH": path}
    for command in (["generate_assignment", name, "--create"], None, ["autograde", name, "--create"]):
        if command is None:
            hand_in(course, name)
            continue
        run = [sys.executable, "-m", "nbgrader", *command]
        done = subprocess.run(run, cwd=course, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"nbgrader {' '.join(command)} failed:\n{done.stderr[-3000:]}")
    # What the students' trainings wrote is handed in with their notebooks; nbgrader has just run them.
    for weights in course.glob(f"autograded/*/{name}/*.safetensors"):
        shutil.copy(weights, course / "submitted" / weights.parent.parent.name / name)
    from nbgrader.api import Gradebook

    marks = {}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        for student in ("solved", "mistaken", "empty"):
            submission = book.find_submission_notebook(name, name, student)
            for one in submission.grades:
                exercise = next((e for e in exercises_of(name) if one.name.endswith(f"-{e.replace('_', '-')}")), None)
                if exercise:
                    marks[student, exercise] = marks.get((student, exercise), 0) + one.score
    return marks


def keep(given: list[str], rows: list[list]) -> None:
    """Write the marks; those of other assignments stay as they are."""
    path = ROOT / "benchmarks" / "nbgrader.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = sorted([row for row in before if row[0] not in given] + rows, key=lambda row: row[0])
    about = {"command": "python tools/compare_nbgrader.py", "nbgrader": version("nbgrader"), **provenance()}
    about["columns"] = ["assignment", "student", "exercise", "nbgrader", "earlyexit-grade"]
    about["differ"] = sum(row[3] != row[4] for row in rows)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(json.dumps(about, indent=1)[:-2] + f',\n "rows": [\n  {lines}\n ]\n}}\n')


def main() -> int:
    """Mark with both, print both; return the exit status."""
    given = sys.argv[1:] or ["hw1", "hw2", "hw3", "hw4", "hw5"]
    differ, rows = 0, []
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        (course / "nbgrader_config.py").write_text(
            "c = get_config()\nc.CourseDirectory.course_id = 'homework'\nc.ExecutePreprocessor.timeout = 300\n"
        )
        for name in given:
            source = course / "source" / name / f"{name}.ipynb"
            source.parent.mkdir(parents=True)
            source.write_bytes((ROOT / "book" / "homework" / "source" / source.name).read_bytes())
            theirs = nbgraders(course, name)
            for student in ("solved", "mistaken", "empty"):
                for mark in grade(course / "submitted" / student / name / f"{name}.ipynb", student, SEED):
                    other = theirs[student, mark.exercise]
                    differ += other != mark.points
                    rows.append([name, student, mark.exercise, other, mark.points])
                    print("{} {:9} {:13} nbgrader {:4g}  earlyexit-grade {:4g}".format(*rows[-1]), flush=True)
    print(f"{differ} marks differ")
    keep(given, rows)
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
