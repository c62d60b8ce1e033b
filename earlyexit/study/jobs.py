"""Running many processes, a few at a time, and leaving none behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 15


@dataclass(frozen=True)
class Job:
    """What one process after another does for a model: commands (arguments of Python), each with a word for it."""

    name: str
    steps: tuple[tuple[str, list[str]], ...]
    log: Path


def run_jobs(jobs: Sequence[Job], at_a_time: int, say: Callable[[str], object] = print) -> list[str]:
    """Run all jobs, `at_a_time` of them side by side.

    A job that fails is reported with the last lines of its log, while the others go on. However this function is
    left, with Ctrl-C, too, no process stays behind.

    Args:
        jobs: in the order in which they start.
        at_a_time: how many; each gets its share of the cores, since two trainings of one thread are faster than one
            after the other of two threads.
        say: gets a line for all that happens.

    Returns:
        The names of those that failed.
    """
    if at_a_time < 1:
        raise ValueError(f"at least one job must run at a time, got {at_a_time}")
    waiting = deque(_Running(job, number, len(jobs), say) for number, job in enumerate(jobs, 1))
    running: list[_Running] = []
    failed = []
    threads = max(1, (os.cpu_count() or 1) // at_a_time)
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                running.append(waiting.popleft())
                running[-1].start(threads)
            time.sleep(0.1)
            for job in [job for job in running if job.is_over(threads)]:
                running.remove(job)
                failed += [job.job.name] if job.failed else []
    finally:
        for job in running:
            job.stop()
    return failed


class _Running:
    """A job and the process of its step."""

    def __init__(self, job: Job, number: int, of: int, say: Callable[[str], object]):
        self.job, self.steps, self.failed, self.read = job, deque(job.steps), False, 0
        self.process: subprocess.Popen | None = None
        self.say = lambda text: say(f"[{number}/{of}] {job.name}: {text}")

    def start(self, threads: int) -> None:
        self.word, arguments = self.steps.popleft()
        self.say(f"{self.word} ...")
        self.begun = time.perf_counter()
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        self.read = self.job.log.stat().st_size if self.job.log.exists() else 0
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with open(self.job.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def is_over(self, threads: int) -> bool:
        """Whether nothing of the job is left to do; starts its next step."""
        ended = self.process.poll()  # before the log is read: what is written later belongs to the next look
        for line in self._new_lines():
            if line.startswith("epoch "):
                self.say(line)
        if ended is None:
            return False
        if ended:
            self.failed = True
            lines = self.job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            self.say("\n    ".join([f"{self.word} FAILED with exit code {ended}, {self.job.log} ends:", *lines]))
            return True
        self.say(f"{self.word} done in {time.perf_counter() - self.begun:.0f} s")
        if self.steps:
            self.start(threads)
            return False
        return True

    def _new_lines(self) -> list[str]:
        with open(self.job.log, "rb") as log:
            log.seek(self.read)
            whole = log.read().rpartition(b"\n")[0]
        self.read += len(whole) + 1 if whole else 0
        return whole.decode("utf-8", errors="replace").splitlines()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _end_with_parent() -> None:
    """Ask Linux to end this process when the study is killed: a second study must not find it at work."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
