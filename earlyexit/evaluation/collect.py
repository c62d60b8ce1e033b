"""One pass over the images that answers for every way of leaving early."""

import functools
import itertools
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Subset

from ..data.coco import CocoDataset
from ..files import progress as shown
from ..model.backbone import NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.inputs import check_images, network_size, same_size_batches
from .coco import batches_for, check_data
from .cost import count_macs, gmacs_of
from .records import Detections, ExitRecords, Truth, describe, join_records, offsets_of

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
    """Run a detector, which is put in eval mode, once over a data set and keep what it says at all four exits.

    The backbone runs once, neck and head once per exit: what the published protocol needs 34 passes for a sweep and
    340 for random exits for.

    Args:
        batch_size: images that run together, where they have the same padded size; results are those of one by one.
        path: a safetensors file to keep the records in. Finished chunks of images are kept beside it, and a call that
            finds them goes on from there; one that finds the file reads it.
        fillers: record these fillers of the neck instead of the one in use, in the same pass over the images; exits
            at which no feature map is missing are computed once for all. The files are then PATH-FILLER.
        workers: processes; the records are the same. On a CPU they share the images, each with its own copy of the
            model, and a script that asks for several needs its `if __name__ == "__main__"`. With a GPU they load them.
        progress: see `evaluate`.

    Returns:
        The records; with `fillers`, a dict of them by filler.

    Raises:
        ValueError: if `path` holds records of another model, data set or filler.
    """
    check_data(model, dataset)
    before = model.filler
    stores = {}
    for name in (before,) if fillers is None else fillers:
        stores[name] = Store(_path_of(path, name if fillers else None), describe(model, dataset, name))
    model.eval()
    try:
        _fill(stores, model, dataset, batch_size, workers, progress)
    finally:
        use_filler(model, before)
    finished = {name: store.finish() for name, store in stores.items()}
    return finished[before] if fillers is None else finished


def _fill(
    stores: dict[str, "Store"], model: EarlyExitRetinaNet, dataset, batch_size: int, workers: int, progress: bool
) -> None:
    """Record the chunks of images that the stores lack."""
    alone = next(model.parameters()).device.type == "cpu" or workers == 1
    loaders, sharers = (0, workers) if alone else (workers, 1)
    macs = functools.cache(functools.partial(_macs, model))  # all, and those of neck and head
    todo = _missing(stores, len(dataset))
    run = functools.partial(run_chunk, model, dataset, batch_size, loaders, progress=progress and sharers == 1)
    chunks = _run_in_processes(run, list(todo.values()), sharers)
    if progress and sharers > 1:
        chunks = shown(chunks, f"recording, parts of {CHUNK} images", len(todo))
    for (number, (_, lacking)), (shared, found, sizes) in zip(todo.items(), chunks, strict=True):
        for name in lacking:
            gmacs, looks = torch.stack([macs(name, size) for size in sizes], -1)
            made = ExitRecords(**shared, gmacs=gmacs, looks=looks, found=found[name], about=stores[name].about)
            stores[name].add(number, made)


class Store:
    """The file that a collection ends as, and a folder beside it with the chunks that are finished.

    Args:
        path: the file; None keeps nothing on disk.
        about: what the records are made of; what lies at `path` already must be made of the same.
    """

    def __init__(self, path: Path | None, about: dict):
        self.path, self.about = path, about
        self.folder = path and path.with_name(path.name + ".chunks")
        self.finished = self._read(path) if path and path.exists() else None
        files = self.folder.glob("[0-9]*.safetensors") if path and self.finished is None else ()
        self.chunks = {int(file.stem): self._read(file) for file in files}

    def _read(self, path: Path) -> ExitRecords:
        found = ExitRecords.load(path)
        changed = [key for key in self.about if found.about.get(key) != self.about[key]]
        if changed:
            what = "; ".join(f"{key} {found.about.get(key)!r}, not {self.about[key]!r}"[:300] for key in changed)
            others = " and ".join(changed)
            raise ValueError(f"{str(path)!r} holds records of other {others}: {what}. Choose another file")
        return found

    def lacks(self, number: int) -> bool:
        """Whether chunk `number` still has to be made."""
        return self.finished is None and number not in self.chunks

    def add(self, number: int, records: ExitRecords) -> None:
        """Keep a chunk."""
        self.chunks[number] = records
        if self.path is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            records.save(self.folder / f"{number:05d}.safetensors")

    def finish(self) -> ExitRecords:
        """All chunks as one; the file takes the place of the folder."""
        if self.finished is None:
            self.finished = join_records([self.chunks[number] for number in sorted(self.chunks)])
            if self.path is not None:
                self.finished.save(self.path)
        if self.path is not None:
            shutil.rmtree(self.folder, ignore_errors=True)  # which a collection killed at its very end has left, too
        return self.finished


def run_chunk(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    batch_size: int,
    loaders: int,
    images: range,
    fillers: Sequence[str | None],
    progress: bool = False,
) -> tuple[dict, dict[str | None, Detections], list[tuple[int, int]]]:
    """Run some images of a data set, which `loaders` processes load (0: this one).

    Returns:
        "image_ids", "logits", "truth" and the latents as in `ExitRecords`; the detections by filler; and height and
        width of each image inside the network.
    """
    told: list[dict[str, Tensor]] = []
    found: dict[str | None, list[dict]] = {name: [] for name in fillers}  # four of each image
    sizes: list[tuple[int, int]] = []
    work = f"recording images {images.start + 1} to {images.stop} of {len(dataset)}" if progress else ""
    for batch, _ in batches_for(model, Subset(dataset, images), batch_size, loaders, work):
        check_images(batch, model)
        with torch.inference_mode():
            batch_told, batch_found = run_all_exits(model, batch, fillers)
        told.append(batch_told)
        sizes += [network_size(model, image) for image in batch]
        for name in fillers:
            found[name] += batch_found[name]
    ids = [dataset.ids[i] for i in images]
    shared = {name: torch.cat([batch[name] for batch in told], dim=-2) for name in told[0]}
    shared |= {"image_ids": torch.tensor(ids), "truth": _truth(dataset, ids)}
    return shared, {name: Detections.of(rows) for name, rows in found.items()}, sizes


def use_filler(model: EarlyExitRetinaNet, filler: str | None) -> None:
    """Let the neck fill missing maps that way; None leaves a neck alone that has no filler."""
    if filler is not None:
        model.neck.filler = filler


def run_all_exits(
    model: EarlyExitRetinaNet, images: list[Tensor], fillers: Sequence[str | None]
) -> tuple[dict[str, Tensor], dict[str | None, list[dict]]]:
    """Of all images "logits" (4, N, classes), "latents_1" and "latents_2" (N, D), the mean ones of exits 1 and 2; and
    by filler the detections of every image at exits 1-4: 4 N dicts. All on the CPU."""
    told = {"logits": torch.empty(NUM_EXITS, len(images), model.num_classes)}
    found = {name: [{}] * (NUM_EXITS * len(images)) for name in fillers}
    for group, batch in same_size_batches(model.transform, images):
        sizes = [tuple(images[i].shape[-2:]) for i in group]
        for reached in model.backbone.exits(batch.tensors):
            told["logits"][reached.index - 1, group] = reached.logits.float().cpu()
            if reached.index <= 2 and reached.latents is not None:
                mean = reached.latents.mean(1).float().cpu()
                told.setdefault(f"latents_{reached.index}", mean.new_empty(len(images), mean.shape[1]))[group] = mean
            complete = all(name in reached.features for name in model.neck.names)
            detections = None
            for name in fillers:
                if detections is None or not complete:  # complete maps need no filler
                    use_filler(model, name)
                    detections = model.detect_from(reached, range(len(group)), batch, sizes)
                for i, detection in zip(group, detections, strict=True):
                    on_cpu = {key: value.cpu() for key, value in detection.items()}
                    found[name][NUM_EXITS * i + reached.index - 1] = on_cpu
    return told, found


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


def _macs(model: EarlyExitRetinaNet, filler: str | None, size: tuple[int, int]) -> Tensor:
    use_filler(model, filler)
    return gmacs_of(count_macs(model, size))
