"""A made class with one student for each thing that can go wrong, marked by the command, killed and started again."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from made_class import ALL, make_class

COMMAND = [sys.executable, "-c", "from earlyexit.homework.grade import run; run()"]


def begin(folder, out, home):
    home.mkdir(exist_ok=True)
    given = [*COMMAND, str(folder), "--out", str(out), "--jobs", "2", "--limit", "2"]
    environment = {**os.environ, "HOMEWORK_SEED": "41", "OMP_NUM_THREADS": "1", "TMPDIR": str(home)}
    return subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_over(home):
    """Processes that a student's code has started and that are still there."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HOME={home}".encode() in path.read_bytes():
                yield path.parent.name
        except OSError:
            continue


def test_a_class_is_marked_as_expected_although_marking_is_killed_in_the_middle(tmp_path):
    folder, out, home = tmp_path / "class", tmp_path / "marks.csv", tmp_path / "home"
    expected = make_class(folder)
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.glob("*/*.ipynb")}
    kept = tmp_path / "marks.feedback"

    first = begin(folder, out, home)
    while len(list(kept.glob("*.json"))) < 12:
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = {path: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert len(done) < len(expected) / len(ALL)
    assert not out.exists()

    second = begin(folder, out, home)
    assert second.communicate() and second.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done  # what was marked is not marked again

    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["student"], row["exercise"]): float(row["points"]) for row in rows} == {
        key: points for key, (points, _) in expected.items()
    }
    said = {(row["student"], row["exercise"]): row["message"] for row in rows}
    assert {key: said[key] for key, (_, part) in expected.items() if part not in said[key]} == {}
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.glob("*/*.ipynb")} == before
    assert list(left_over(home)) == []
    with open(kept / "alike.csv", newline="") as file:
        alike = {row["function"]: row["students"] for row in csv.DictReader(file)}
    assert {"'perfect'", "'copied'"} <= set(alike["z2x"].strip("[]").split(", "))
    assert (kept / "function_loops.md").read_text().startswith("# function_loops: 40 of 50 points")
