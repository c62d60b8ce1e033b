"""How long marking a class takes: students with homework 1, each of whom does one thing wrong, see tests/made_class.py.

    python benchmarks/homework.py [--times 3] [--jobs 2] [--json benchmarks/homework.json]

34 students, three times, are a class of 102. Prints seconds and whether all points are those that were expected.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from earlyexit.files import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from made_class import make_class  # noqa: E402


def main() -> None:
    """Make the class, mark it, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        expected = make_class(Path(folder) / "class", options.times)
        out = Path(folder) / "marks.csv"
        command = [sys.executable, "-c", "from earlyexit.homework.grade import run; run()", f"{folder}/class"]
        load, start = os.getloadavg()[0], time.perf_counter()
        subprocess.run(
            [*command, "--out", str(out), "--seed", "41", "--jobs", str(options.jobs)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        seconds, spent = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(out, newline="") as file:
            rows = list(csv.DictReader(file))
    wrong = [row for row in rows if float(row["points"]) != expected[row["student"], row["exercise"]][0]]
    students = len({row["student"] for row in rows})
    result = {
        "students": students,
        "marks": dict(Counter(row["points"] for row in rows)),
        "not as expected": wrong,
        "seconds": round(seconds, 1),
        "seconds a student": round(seconds / students, 2),
        "seconds of the processor": round(spent.ru_utime + spent.ru_stime, 1),  # but for processes that were killed
        "jobs": options.jobs,
        "cores": os.cpu_count(),
        "load before": round(load, 1),
        **provenance(),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
