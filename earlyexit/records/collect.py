"""One pass over the images that answers for every way of leaving early."""

import functools
import itertools
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from ..backbone import NUM_EXITS
from ..compute import count_macs
from ..data.coco import CocoDataset
from ..detector import EarlyExitRetinaNet
from ..evaluation import check_data
from .chunk import run_chunk, use_filler
from .describe import describe
from .record import ExitRecords
from .store import Store

CHUNK = 256  # images that are lost at most when a collection is killed


def collect_records(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    *,
    batch_size: int = 32,
    path: str | Path | None = None,
    fillers: Sequence[str] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> ExitRecords | dict[str, ExitRecords]:
    """Run a detector once over a data set and keep what it says at all four exits.

    The backbone runs once, neck and head once per exit: what the published protocol needs 34 passes for a sweep and
    340 for random exits for.

    Args:
        model: the detector; it is put in eval mode.
        dataset: the images.
        batch_size: images that run together, where they have the same padded size; results are those of one by one.
        path: a safetensors file to keep the records in. Finished chunks of images are kept beside it, and a call that
            finds them goes on from there; one that finds the file reads it.
        fillers: record these fillers of the neck instead of the one in use, in the same pass over the images; exits
            at which no feature map is missing are computed once for all. The files are then PATH-FILLER.
        workers: processes that share the images on a CPU, each with its own copy of the model; the records are the
            same. A script that asks for several needs its `if __name__ == "__main__"`.
        progress: show a bar.

    Returns:
        The records; with `fillers`, a dict of them by filler.

    Raises:
        ValueError: if `path` holds records of another model, data set or filler.
    """
    check_data(model, dataset)
    device = next(model.parameters()).device
    if workers > 1 and device.type != "cpu":
        raise ValueError(f"workers share a CPU, but the model is on {device}: use workers=1, got {workers}")
    before = model.filler
    names = (before,) if fillers is None else tuple(fillers)
    paths = {name: _path_of(path, name if fillers is not None else None) for name in names}
    stores = {name: Store(paths[name], describe(model, dataset, name)) for name in names}
    macs = functools.cache(lambda name, size: _macs(model, name, size))
    model.eval()
    todo = _missing(stores, len(dataset))
    try:
        run = functools.partial(run_chunk, model, dataset, batch_size)
        chunks = _run_in_processes(run, list(todo.values()), workers)
        shown = tqdm(chunks, "records", total=len(todo), unit="chunk", disable=not progress)
        for (number, (_, lacking)), chunk in zip(todo.items(), shown, strict=True):
            found, sizes = chunk.pop("found"), chunk.pop("sizes")
            for name in lacking:
                gmacs = torch.tensor([macs(name, size) for size in sizes], dtype=torch.float64).T
                made = ExitRecords(**chunk, gmacs=gmacs, found=found[name], about=stores[name].about)
                stores[name].add(number, made)
    finally:
        use_filler(model, before)
    finished = {name: store.finish() for name, store in stores.items()}
    return finished[before] if fillers is None else finished


def _run_in_processes(run: Callable, jobs: Sequence[tuple], workers: int) -> Iterator:
    """Results of `run(*job)`, in the order of the jobs and as soon as they are there.

    Small images keep a core busier than torch's threads can share: two processes of one thread each do about twice
    the work of one process with two. They share the threads that torch has in this process; with one, jobs run here.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1 or len(jobs) < 2:
        yield from (run(*job) for job in jobs)
        return
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in whatever state they are
    # Pickled by hand: torch would hand each tensor over as an open file, and a system allows only so many.
    with ProcessPoolExecutor(min(workers, len(jobs)), context, torch.set_num_threads, (threads,)) as pool:
        yield from map(pickle.loads, pool.map(_run_pickled, itertools.repeat(pickle.dumps(run)), jobs))


def _run_pickled(run: bytes, job: tuple) -> bytes:
    return pickle.dumps(pickle.loads(run)(*job))


def _path_of(path: str | Path | None, filler: str | None) -> Path | None:
    path = path and Path(path)
    return path.with_name(f"{path.stem}-{filler}{path.suffix}") if path and filler else path


def _missing(stores: dict[str | None, Store], images: int) -> dict[int, tuple[range, list[str | None]]]:
    """By number of the chunk: its images, and the fillers whose store lacks it."""
    missing = {}
    for number, start in enumerate(range(0, images, CHUNK)):
        lacking = [name for name, store in stores.items() if store.lacks(number)]
        if lacking:
            missing[number] = range(start, min(start + CHUNK, images)), lacking
    return missing


def _macs(model: EarlyExitRetinaNet, filler: str | None, size: tuple[int, int]) -> list[float]:
    use_filler(model, filler)
    by_exit = count_macs(model, size)
    return [by_exit[k]["total"] for k in range(1, NUM_EXITS + 1)]
