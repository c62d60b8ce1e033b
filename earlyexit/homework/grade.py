"""Mark a folder of submissions: earlyexit-grade submissions/ --out marks.csv

`submissions/` has a folder for each student with the notebooks as they were saved: `STUDENT/hw1.ipynb`. Each notebook
runs in a process of its own, each exercise counts half for the inputs that the student has seen and half for others,
drawn from the lecturer's secret seed. What is marked is kept beside the table, so that a run that was stopped goes on.
"""

import ast
import csv
import functools
import hashlib
import json
import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from .. import __version__
from ..checks.verdicts import ROOMS, TURN, check, exercises_of
from ..files import write_table, write_whole
from .student import LIMIT, LostError, Student, code_cells, end_with_parent, parsed

POINTS = 10  # of an exercise
UNSEEN = 3  # seeds that nobody has seen
SECRET = "HOMEWORK_SEED"
Seed = Annotated[int, typer.Option(help="Your secret seed.", min=0, envvar=SECRET, prompt=True, hide_input=True)]


@dataclass(frozen=True)
class Mark:
    """What a student got for one exercise, and could get."""

    student: str
    assignment: str  # "hw1"
    exercise: str  # "x2z"
    points: float
    of: float
    message: str  # to the student


def seed_of(student: str) -> int:
    """The seed of a student's own inputs: numbers that were copied from another student do not fit."""
    return zlib.crc32(student.encode()) % 100_000


def hidden_seeds(secret: int | None = None) -> list[int]:
    """The seeds that nobody has seen; the lecturer's secret is that of `HOMEWORK_SEED` in the environment unless given.

    Raises:
        ValueError: if the lecturer's seed is not there, or no whole number from 0 on.
    """
    text = os.environ.get(SECRET, "") if secret is None else str(secret)
    if not text.isdecimal():
        raise ValueError(f"{SECRET} must be the lecturer's seed, a whole number from 0 on, got {text!r}")
    return [int(text) * UNSEEN + place for place in range(UNSEEN)]


def grade(notebook: Path, student: str, secret: int, *, limit: float = LIMIT) -> list[Mark]:
    """Mark a student's notebook: all exercises of the assignment that its name, `hw1.ipynb`, says.

    `secret` is the lecturer's seed, from which the hidden inputs are drawn; for the `limit` see `Student`. `ValueError`
    if there is no such assignment.
    """
    assignment = notebook.stem
    waiting, marks = list(exercises_of(assignment)), []

    def nothing(exercise: str, error: LostError) -> Mark:
        return Mark(student, assignment, exercise, 0, POINTS, str(error))

    while waiting:
        try:
            answers = Student(notebook, limit=limit)
        except LostError as error:
            return marks + [nothing(exercise, error) for exercise in waiting]
        with answers:
            while waiting and not answers.lost:
                exercise = waiting.pop(0)
                try:
                    marks.append(_mark(answers, assignment, exercise, student, secret))
                except LostError as error:  # the others go on with a new process
                    marks.append(nothing(exercise, error))
    return marks


def _mark(answers: Student, assignment: str, exercise: str, student: str, secret: int) -> Mark:
    """Half of the points for the inputs that the student could see, half for hidden ones."""
    verdicts = []
    for seed in (seed_of(student), *hidden_seeds(secret)):
        verdicts.append(check(f"{assignment}.{exercise}", answers.answer(exercise), seed=seed))
        if answers.lost:
            raise answers.lost
    seen, hidden = verdicts[0], all(verdicts[1:])
    wrong = next((one.message for one in verdicts if not one), "right")
    if wrong == TURN:
        wrong = "not answered" if exercise in answers.defined else f"the notebook defines no {exercise}"
        broken = "; ".join(answers.problems[:2])
        wrong += f" ({broken})" if broken else ""
    elif seen and not hidden:
        wrong = f"right for the inputs that you saw, not for others: {wrong}"
    return Mark(student, assignment, exercise, POINTS / 2 * (seen.passed + hidden), POINTS, wrong)


def submissions(folder: Path) -> list[tuple[str, str, Path]]:
    """Each student with each assignment of the class, and the notebook that there is or should be.

    Raises:
        typer.BadParameter: if no folder in `folder` has the notebook of an assignment.
    """
    students = sorted(path for path in Path(folder).glob("*") if path.is_dir() and not path.name.startswith("."))
    assignments = sorted({path.stem for path in Path(folder).glob("*/hw*.ipynb")} & ROOMS.keys())
    if not assignments:
        what = "it should have a folder for each student, STUDENT/hw1.ipynb"
        raise typer.BadParameter(f"no notebooks in '{folder}': {what}")
    return [(one.name, assignment, one / f"{assignment}.ipynb") for one in students for assignment in assignments]


def digest(path: Path, student: str, secret: int) -> str:
    """What a submission is known by: all that decides its marks, its author included."""
    there = [one for one in (path, *sorted(path.parent.glob("*.safetensors"))) if one.is_file()]
    parts = [f"{__version__} {student} {secret} {path.name}".encode(), *(one.read_bytes() for one in there)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def copied(folder: Path) -> list[tuple[str, str, list[str]]]:
    """Functions that several students wrote alike, names and layout aside: assignment, function, students."""
    seen = defaultdict(set)
    for student, assignment, path in submissions(folder):
        for name, shape in _functions(path):
            seen[assignment, name, shape].add(student)
    return sorted((a, name, sorted(who)) for (a, name, _), who in seen.items() if len(who) > 1)


def _functions(path: Path) -> Iterator[tuple[str, str]]:
    """The functions of a notebook with the form of their code, in which names do not count; short ones are left out."""
    try:
        cells = code_cells(path)
    except ValueError:
        return
    for _, _, code in cells:
        try:
            tree = parsed(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # as deep nesting gives
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and len(list(ast.walk(node))) > 40:
                kinds = [type(part).__name__ for part in ast.walk(node)]
                yield node.name, hashlib.sha256(" ".join(kinds).encode()).hexdigest()


def main(
    folder: Annotated[Path, typer.Argument(help="A folder for each student: STUDENT/hw1.ipynb.")],
    out: Annotated[Path, typer.Option(help="The table of marks.")],
    seed: Seed,
    jobs: Annotated[int, typer.Option(help="Submissions at a time.", min=1)] = 2,
    limit: Annotated[float, typer.Option(help="Seconds that a cell or a call may take.", min=0.1)] = LIMIT,
) -> None:
    """Mark all submissions; what is already marked with this seed is not run again."""
    kept = out.with_suffix(".feedback")
    kept.mkdir(parents=True, exist_ok=True)
    given = submissions(folder)
    files = {(who, name): kept / f"{digest(path, who, seed)}.json" for who, name, path in given}
    waiting = [(who, name, path) for who, name, path in given if not files[who, name].exists()]
    with ProcessPoolExecutor(jobs, initializer=_begin) as pool:
        tasks = {pool.submit(_grade_safely, path, who, seed, limit): files[who, name] for who, name, path in waiting}
        for task in tqdm(as_completed(tasks), total=len(tasks), unit="notebook", disable=not sys.stderr.isatty()):
            text = json.dumps([asdict(mark) for mark in task.result()])
            write_whole(tasks[task], lambda file, text=text: file.write_text(text))
    marks = [Mark(**row) for file in files.values() for row in json.loads(file.read_text())]
    _write(out, kept, marks, copied(folder))
    typer.echo(f"{len(given)} notebooks, {len(marks)} marks in {out}; what is said to each student in {kept}")


def _begin() -> None:
    """A process that marks has one thread, and ends when the command was killed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent()


def _grade_safely(path: Path, student: str, secret: int, limit: float) -> list[Mark]:
    """The marks of a notebook; none of a file that is missing, or that nobody has thought of."""
    try:
        if path.is_file():
            return grade(path, student, secret, limit=limit)
        there = ", ".join(sorted(one.name for one in path.parent.iterdir())) or "nothing"
        why = f"there is no {path.name} in the folder, there is {there}: files keep their names"
    except Exception as error:  # noqa: BLE001 - the others of the class are marked all the same
        why = f"this could not be marked, ask your lecturer: {type(error).__name__}: {error}"
    return [Mark(student, path.stem, exercise, 0, POINTS, why) for exercise in exercises_of(path.stem)]


def _write(out: Path, kept: Path, marks: list[Mark], alike: list[tuple[str, str, list[str]]]) -> None:
    """The table, a page for each student, and the table of what was written alike."""
    write_table(out, [asdict(mark) for mark in marks])
    with open(kept / "alike.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["assignment", "function", "students"], *alike])
    for student in {mark.student for mark in marks}:
        own = [mark for mark in marks if mark.student == student]
        lines = [f"- {m.assignment}.{m.exercise}: {m.points:g} of {m.of:g}. {m.message}" for m in own]
        total = f"{sum(m.points for m in own):g} of {sum(m.of for m in own):g} points"
        (kept / f"{student}.md").write_text("\n".join([f"# {student}: {total}", "", *lines, ""]), encoding="utf-8")


run = functools.partial(typer.run, main)  # the command `earlyexit-grade`


def hand_out(
    number: Annotated[int, typer.Argument(help="Of the assignment, 1 to 5.")],
    folder: Annotated[Path, typer.Argument(help="Where the notebook is written.")] = Path("."),
) -> None:
    """Write an assignment's notebook, hwN.ipynb; it comes with the package, so that no network is needed."""
    there, target = Path(__file__).with_name("release") / f"hw{number}.ipynb", Path(folder) / f"hw{number}.ipynb"
    if not there.is_file():
        raise typer.BadParameter(f"there is no assignment {number}, there are 1 to 5")
    if target.exists() and target.read_bytes() != there.read_bytes():
        raise typer.BadParameter(f"'{target}' is there already, perhaps with your work in it: it is left as it is")
    write_whole(target, lambda file: file.write_bytes(there.read_bytes()))
    typer.echo(f"{target}: open it with jupyter lab {target}")


run_hand_out = functools.partial(typer.run, hand_out)  # the command `earlyexit-homework`
