"""A function over a list of jobs, in order, in this process or in several."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

_RUN: list[Callable] = []  # in a worker process: what it runs


def run_jobs(run: Callable, jobs: Sequence[tuple], workers: int = 1) -> Iterator:
    """Results of `run(*job)`, in the order of the jobs and as soon as they are there.

    Small images keep a core busier than torch's threads can share: two processes of one thread each do about twice
    the work of one process with two. Each has its own copy of what `run` holds, so a model must be on the CPU, and
    a script that calls this needs its `if __name__ == "__main__"`.

    Args:
        run: a function that can be pickled.
        jobs: its arguments.
        workers: processes; with 1 the jobs run here. They share the threads that torch has in this process.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1 or len(jobs) < 2:
        yield from (run(*job) for job in jobs)
        return
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in whatever state they are
    # Pickled by hand: torch would hand each tensor over as an open file, and a system allows only so many.
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start, (pickle.dumps(run), threads)) as pool:
        yield from map(pickle.loads, pool.map(_run, jobs))


def _start(run: bytes, threads: int) -> None:
    torch.set_num_threads(threads)
    _RUN[:] = [pickle.loads(run)]


def _run(job: tuple) -> bytes:
    return pickle.dumps(_RUN[0](*job))
