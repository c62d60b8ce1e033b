"""One pass over the images that answers for every way of leaving early."""

import functools
import itertools
import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from ..data.coco import CocoDataset, make_loader, without_traceback
from ..model.backbone import NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.inputs import check_images, network_size, same_size_batches
from .coco import check_data
from .cost import count_macs
from .records import Detections, ExitRecords, Store, Truth, describe, offsets_of

CHUNK = 256  # images that are lost at most when a collection is killed


def run_chunk(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    batch_size: int,
    loaders: int,
    images: range,
    fillers: Sequence[str | None],
) -> dict:
    """Run some images of a data set, which `loaders` processes load (0: this one).

    Returns:
        "image_ids", "logits" and "truth" as in `ExitRecords`, "found" {filler: detections} and "sizes", height and
        width of each image inside the network.
    """
    loader = without_traceback(make_loader(Subset(dataset, images), batch_size, loaders))
    device = next(model.parameters()).device
    logits: list[Tensor] = []
    found: dict[str | None, list[dict]] = {name: [] for name in fillers}  # four of each image
    sizes: list[tuple[int, int]] = []
    for batch, _ in loader:
        check_images(batch, model)
        with torch.inference_mode():
            moved = [image.to(device, non_blocking=True) for image in batch]
            batch_logits, batch_found = run_all_exits(model, moved, fillers)
        logits.append(batch_logits)
        sizes += [network_size(model, image) for image in batch]
        for name in fillers:
            found[name] += batch_found[name]
    ids = [dataset.ids[i] for i in images]
    joined = {name: _joined(rows) for name, rows in found.items()}
    shared = {"image_ids": torch.tensor(ids), "logits": torch.cat(logits, dim=1), "truth": _truth(dataset, ids)}
    return {**shared, "found": joined, "sizes": sizes}


def use_filler(model: EarlyExitRetinaNet, filler: str | None) -> None:
    """Let the neck fill missing maps that way; None leaves a neck alone that has no filler."""
    if filler is not None:
        model.neck.filler = filler


def run_all_exits(
    model: EarlyExitRetinaNet, images: list[Tensor], fillers: Sequence[str | None]
) -> tuple[Tensor, dict[str | None, list[dict]]]:
    """Logits (4, N, classes) and, by filler, the detections of every image at exits 1-4: 4 N dicts, on the CPU."""
    logits = torch.empty(NUM_EXITS, len(images), model.num_classes)
    found = {name: [{}] * (NUM_EXITS * len(images)) for name in fillers}
    for group, batch in same_size_batches(model.transform, images):
        sizes = [tuple(images[i].shape[-2:]) for i in group]
        for reached in model.backbone.exits(batch.tensors):
            logits[reached.index - 1, group] = reached.logits.float().cpu()
            complete = all(name in reached.features for name in model.neck.names)
            detections = None
            for name in fillers:
                if detections is None or not complete:  # complete maps need no filler
                    use_filler(model, name)
                    detections = model.detect_from(reached, range(len(group)), batch, sizes)
                for i, detection in zip(group, detections, strict=True):
                    on_cpu = {key: value.cpu() for key, value in detection.items()}
                    found[name][NUM_EXITS * i + reached.index - 1] = on_cpu
    return logits, found


def _joined(found: list[dict]) -> Detections:
    columns = {name: torch.cat([f[name] for f in found]) for name in ("boxes", "scores", "labels")}
    return Detections(**columns, offsets=offsets_of(torch.tensor([len(f["boxes"]) for f in found])))


def _truth(dataset: CocoDataset, ids: Sequence[int]) -> Truth:
    annotations = [dataset.coco.imgToAnns.get(i, []) for i in ids]
    rows = [row for found in annotations for row in found]
    label = {category_id: label for label, category_id in enumerate(dataset.category_ids)}
    return Truth(
        boxes=torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4),
        areas=torch.tensor([row["area"] for row in rows], dtype=torch.float64),
        crowds=torch.tensor([bool(row["iscrowd"]) for row in rows], dtype=torch.bool),
        labels=torch.tensor([label[row["category_id"]] for row in rows], dtype=torch.int64),
        offsets=offsets_of(torch.tensor([len(found) for found in annotations])),
    )


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
        workers: processes; the records are the same. On a CPU they share the images, each with its own copy of the
            model, and a script that asks for several needs its `if __name__ == "__main__"`. With a GPU they load them.
        progress: show a bar.

    Returns:
        The records; with `fillers`, a dict of them by filler.

    Raises:
        ValueError: if `path` holds records of another model, data set or filler.
    """
    check_data(model, dataset)
    device = next(model.parameters()).device
    loaders, sharers = (0, workers) if device.type == "cpu" or workers == 1 else (workers, 1)
    before = model.filler
    names = (before,) if fillers is None else tuple(fillers)
    paths = {name: _path_of(path, name if fillers is not None else None) for name in names}
    stores = {name: Store(paths[name], describe(model, dataset, name)) for name in names}
    macs = functools.cache(lambda name, size: _macs(model, name, size))
    model.eval()
    todo = _missing(stores, len(dataset))
    try:
        run = functools.partial(run_chunk, model, dataset, batch_size, loaders)
        chunks = _run_in_processes(run, list(todo.values()), sharers)
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
