"""Jobs side by side: in their order, with a share of the cores each, and none that stays behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from earlyexit.processes import Job, run_jobs


def job(tmp_path, name, *scripts):
    return Job(
        name, tuple((f"step {n}", ["-c", script]) for n, script in enumerate(scripts, 1)), tmp_path / f"{name}.log"
    )


def test_steps_follow_one_another_and_a_failure_leaves_the_others(tmp_path):
    lines, made, never = [], str(tmp_path / "made"), str(tmp_path / "never")
    good = job(tmp_path, "good", f"open({made!r}, 'w')", f"open({made!r}); print('epoch 1 fine')")
    bad = job(tmp_path, "bad", "print('what went wrong'); raise SystemExit(3)", f"open({never!r}, 'w')")
    assert run_jobs([bad, good], 1, lines.append) == ["bad"]
    text = "\n".join(lines)
    assert "[1/2] bad: step 1 FAILED with exit code 3" in text and "what went wrong" in text
    assert "[2/2] good: epoch 1 fine" in lines
    assert lines[-1].startswith("[2/2] good: step 2 done in")
    assert not Path(never).exists()


def test_jobs_run_side_by_side_and_share_the_cores(tmp_path):
    """Each waits for the other's file: one after the other they would never end."""
    wait = "\n".join(
        [
            "import os, time",
            "open({!r}, 'w').write(os.environ['OMP_NUM_THREADS'])",
            "while not os.path.exists({!r}): time.sleep(.01)",
        ]
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    jobs = [job(tmp_path, "one", wait.format(a, b)), job(tmp_path, "two", wait.format(b, a))]
    assert run_jobs(jobs, 2, lambda line: None) == []
    assert (tmp_path / "a").read_text() == str(max(1, os.cpu_count() // 2))
    with pytest.raises(ValueError, match="got 0"):
        run_jobs(jobs, 0)


SLEEP = """
import os, sys, time
open(sys.argv[1], "w").write(str(os.getpid()))
print("epoch 0", flush=True)
time.sleep(60)
"""


def test_interrupted_study_ends_its_processes(tmp_path):
    def interrupt(line):
        if "epoch" in line:
            raise KeyboardInterrupt

    sleeper = Job("sleeper", (("sleeping", ["-c", SLEEP, str(tmp_path / "pid")]),), tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        run_jobs([sleeper], 1, interrupt)
    assert ended(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the trainings of a killed study end by themselves")
def test_killed_study_takes_its_processes_along(tmp_path):
    script = f"""
import sys
from pathlib import Path
from earlyexit.processes import Job, run_jobs
run_jobs([Job("sleeper", (("sleeping", ["-c", {SLEEP!r}, sys.argv[1]]),), Path(sys.argv[2]))], 1)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pid"), str(tmp_path / "log")])
    while not (tmp_path / "log").exists() or b"epoch" not in (tmp_path / "log").read_bytes():
        assert process.poll() is None
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait(timeout=20)
    for _ in range(500):
        if ended(child):
            break
        time.sleep(0.01)
    assert ended(child)


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"  # an orphan that nobody has collected yet
    except OSError:
        return True
