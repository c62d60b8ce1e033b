"""The processes of a run, one or many that `torchrun` or `accelerate launch` started, and their devices; and jobs.

Jobs are processes that this one starts, a few side by side.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Accelerate imports tqdm's bars for notebooks, which warn where no widgets are
    from accelerate import PartialState
    from accelerate.utils import gather_object


def only_cpu() -> bool:
    """Whether there is no accelerator. Accelerate has to be told, or it takes CPU processes for separate runs."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def process_state() -> PartialState:
    """Accelerate's view of this process: `num_processes`, `process_index`, `is_main_process`, `device`."""
    return PartialState(cpu=only_cpu())


def gather(items: list) -> list:
    """The lists of all processes, one after the other, in every process."""
    process_state()
    return gather_object(items)


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is cuda if there is one, and each of several processes has its own."""
    if name == "auto" and process_state().num_processes > 1:
        return process_state().device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu, cuda or auto, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here")
    return device


LAST_LINES = 15  # of a log, when something failed
Say = Callable[[str], object]


@dataclass(frozen=True)
class Job:
    """What one process after another does for a model: commands (arguments of Python), each with a word for it."""

    name: str
    steps: tuple[tuple[str, list[str]], ...]
    log: Path


def run_jobs(jobs: Sequence[Job], at_a_time: int, say: Say = print) -> list[str]:
    """Run jobs side by side, each with its share of the cores; returns the names of those that failed.

    A failure is reported with the last lines of the log, while the others go on. However this function is left, with
    Ctrl-C, too, no process stays behind.
    """
    if at_a_time < 1:
        raise ValueError(f"at least one job must run at a time, got {at_a_time}")
    threads = max(1, (os.cpu_count() or 1) // at_a_time)

    async def side_by_side() -> list[bool]:
        gate = asyncio.Semaphore(at_a_time)
        labels = [f"[{number}/{len(jobs)}] {job.name}" for number, job in enumerate(jobs, 1)]
        return await asyncio.gather(
            *(_work(j, label, threads, gate, say) for j, label in zip(jobs, labels, strict=True))
        )

    return [job.name for job, succeeded in zip(jobs, asyncio.run(side_by_side()), strict=True) if not succeeded]


async def _work(job: Job, label: str, threads: int, gate: asyncio.Semaphore, say: Say) -> bool:
    """Do the steps of a job; whether all succeeded."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    async with gate:
        for word, arguments in job.steps:
            started = time.perf_counter()
            say(f"{label}: {word} ...")
            ended = await _step(arguments, job.log, threads, lambda line: say(f"{label}: {line}"))
            if ended:
                lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
                say("\n    ".join([f"{label}: {word} FAILED with exit code {ended}, {job.log} ends:", *lines]))
                return False
            say(f"{label}: {word} done in {time.perf_counter() - started:.0f} s")
    return True


async def _step(arguments: list[str], log: Path, threads: int, tell: Say) -> int:
    """The exit code of one process, whose output goes to the log, and lines about an epoch to `tell`, too."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        limit=1 << 20,  # bytes of a line
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        preexec_fn=_end_with_parent() if sys.platform == "linux" else None,
    )
    try:
        with open(log, "ab", buffering=0) as file:
            async for line in process.stdout:
                file.write(line)
                if line.startswith(b"epoch "):
                    tell(line.decode("utf-8", errors="replace").rstrip())
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _end_with_parent() -> Callable[[], object]:
    """Asks Linux to end a new process when the study is killed: a second study must not find it at work."""
    libc = ctypes.CDLL(None)  # here: a new process must not load anything while other threads hold locks
    return lambda: libc.prctl(1, signal.SIGKILL)
