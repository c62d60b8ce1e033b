"""One pass over the images that answers for every way of leaving early."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..backbone import NUM_EXITS
from ..batching import same_size_batches
from ..compute import count_macs
from ..data.coco import CocoDataset, collate
from ..detector import EarlyExitRetinaNet
from ..evaluation import network_size
from ..targets import check_images
from .describe import describe
from .record import Detections, ExitRecords, Truth, offsets_of
from .store import Store

CHUNK = 256  # images that are lost at most when a collection is killed


def collect_records(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    *,
    batch_size: int = 32,
    path: str | Path | None = None,
    fillers: Sequence[str] | None = None,
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
        progress: show a bar.

    Returns:
        The records; with `fillers`, a dict of them by filler.

    Raises:
        ValueError: if `path` holds records of another model, data set or filler.
    """
    if not len(dataset):
        raise ValueError("there are no images to record: the data set is empty")
    before = getattr(model.neck, "filler", None)
    names = (before,) if fillers is None else tuple(fillers)
    paths = {name: _path_of(path, name if fillers is not None else None) for name in names}
    stores = {name: Store(paths[name], describe(model, dataset, name)) for name in names}
    macs = functools.cache(lambda name, size: _macs(model, name, size))
    model.eval()
    starts = range(0, len(dataset), CHUNK)
    try:
        for number, start in enumerate(tqdm(starts, "records", unit="chunk", disable=not progress)):
            todo = [name for name in names if stores[name].lacks(number)]
            if todo:
                images = range(start, min(start + CHUNK, len(dataset)))
                for name, records in _collect(model, dataset, images, todo, batch_size, macs).items():
                    stores[name].add(number, ExitRecords(**records, about=stores[name].about))
    finally:
        _use(model, before)
    finished = {name: store.finish() for name, store in stores.items()}
    return finished[before] if fillers is None else finished


def _path_of(path: str | Path | None, filler: str | None) -> Path | None:
    path = path and Path(path)
    return path.with_name(f"{path.stem}-{filler}{path.suffix}") if path and filler else path


def _use(model: EarlyExitRetinaNet, filler: str | None) -> None:
    if filler is not None:
        model.neck.filler = filler


def _collect(
    model: EarlyExitRetinaNet, dataset: CocoDataset, images: range, fillers, batch_size: int, macs: Callable
) -> dict:
    """The fields of the records of some images, by filler."""
    loader = DataLoader(Subset(dataset, images), batch_size, collate_fn=collate)
    device = next(model.parameters()).device
    logits: list[Tensor] = []
    found: dict[str, list[dict]] = {name: [] for name in fillers}  # four of each image
    sizes: list[tuple[int, int]] = []
    for batch, _ in loader:
        check_images(batch)
        with torch.inference_mode():
            batch_logits, batch_found = run_all_exits(model, [image.to(device) for image in batch], fillers)
        logits.append(batch_logits)
        sizes += [network_size(model, image) for image in batch]
        for name in fillers:
            found[name] += batch_found[name]
    ids = [dataset.ids[i] for i in images]
    shared = {"image_ids": torch.tensor(ids), "logits": torch.cat(logits, dim=1), "truth": _truth(dataset, ids)}
    gmacs = {name: torch.tensor([macs(name, size) for size in sizes], dtype=torch.float64).T for name in fillers}
    return {name: {**shared, "gmacs": gmacs[name], "found": _joined(found[name])} for name in fillers}


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
            features = {k: f for k, f in reached.features.items() if k in model.neck.names}
            detections = None
            for name in fillers:
                if detections is None or len(features) < len(model.neck.names):  # complete maps need no filler
                    _use(model, name)
                    raw = model.detect_from(features, batch, range(len(group)))
                    detections = model.transform.postprocess(raw, batch.image_sizes, sizes)
                for i, detection in zip(group, detections, strict=True):
                    on_cpu = {key: value.cpu() for key, value in detection.items()}
                    found[name][NUM_EXITS * i + reached.index - 1] = on_cpu
    return logits, found


def _joined(found: list[dict]) -> Detections:
    columns = {name: torch.cat([f[name] for f in found]) for name in ("boxes", "scores", "labels")}
    return Detections(**columns, offsets=offsets_of(torch.tensor([len(f["boxes"]) for f in found])))


def _macs(model: EarlyExitRetinaNet, filler: str | None, size: tuple[int, int]) -> list[float]:
    _use(model, filler)
    by_exit = count_macs(model, size)
    return [by_exit[k]["total"] for k in range(1, NUM_EXITS + 1)]


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
