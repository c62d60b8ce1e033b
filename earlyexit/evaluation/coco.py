"""What a detector reaches on a COCO-layout data set: COCO's metrics, exits taken, GMACs, accuracy of the exits."""

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ..data.coco import CocoDataset, index_coco, make_loader, without_traceback
from ..files import progress as shown
from ..model.backbone import EXITS, NUM_EXITS
from ..model.detector import EarlyExitRetinaNet
from ..model.exits import EMPTY_EXIT, exit_confidence, exit_limits, told_apart
from ..model.inputs import network_size, same_size_batches
from ..processes import gather, process_state
from .cost import count_macs, gmacs_of, spent_at

METRICS = ("mAP", "AP50", "AP75", "AP small", "AP medium", "AP large")


def evaluate(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    *,
    thresholds: Sequence[float] | None = None,
    exit: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    progress: bool = False,
) -> dict:
    """Run a detector, which is put in eval mode, over a data set and measure it.

    In several processes (`torchrun`), each runs its share of the images; all get the result of the whole.

    Args:
        thresholds, exit: see `EarlyExitRetinaNet.forward`.
        batch_size: images that run together; results are those of one by one.
        workers: processes that load the images; with a GPU a few keep it busy.
        progress: say on standard error how far it is: a bar or, without a terminal, a line every half minute.

    Returns:
        COCO metrics in percent (None where there is no object of that size), "exits" {1: images, ...} (0, too, if the
        model's rule skipped some), "gmacs" (mean per image, see `spent_at`), "gmacs_full" (mean if all went to exit 4)
        and "images".
    """
    check_data(model, dataset)
    rows = detect_all(model, dataset, thresholds, exit, batch_size, workers, progress)
    macs = {size: gmacs_of(count_macs(model, size)) for size in {row.size for row in rows}}
    spent = {size: spent_at(*at_size, model.rule, exit_limits(thresholds, exit)) for size, at_size in macs.items()}
    return {
        **coco_metrics(dataset, [d for row in rows for d in row.found]),
        "exits": count_exits([row.exit for row in rows]),
        "gmacs": float(np.mean([spent[row.size][row.exit] for row in rows])),
        "gmacs_full": float(np.mean([macs[row.size][0, -1] for row in rows])),
        "images": len(rows),
    }


def count_exits(exits: Sequence[int]) -> dict[int, int]:
    """How many images left at each of the exits 1-4 and, if there are some, at exit 0: those that were skipped."""
    counts = Counter(exits)
    return {k: counts[k] for k in (EMPTY_EXIT, *EXITS) if k or counts[k]}


class Detected(NamedTuple):
    """What was found in an image: detections as rows of COCO's result format, and the image's size in the network."""

    image_id: int
    exit: int
    size: tuple[int, int]
    found: list[dict]


def detect_all(
    model: EarlyExitRetinaNet,
    dataset: CocoDataset,
    thresholds,
    exit: int | None,
    batch_size: int,
    workers: int = 0,
    progress: bool = False,
) -> list[Detected]:
    """The detections of every image in the order of image ids; each of several processes runs a share."""
    state, rows = process_state(), []
    mine = Subset(dataset, range(state.process_index, len(dataset), state.num_processes))
    for images, targets in batches_for(model, mine, batch_size, workers, "detecting" if progress else ""):
        with torch.inference_mode():
            detections = model(images, thresholds=thresholds, exit=exit)
        for image, target, detection in zip(images, targets, detections, strict=True):
            name = int(target["image_id"])
            found = to_coco(detection, name, dataset.category_ids)
            rows.append(Detected(name, detection["exit"], network_size(model, image), found))
    return sorted(gather(rows), key=lambda row: row.image_id)


def batches_for(
    model: nn.Module, dataset: Dataset, batch_size: int, workers: int, work: str = ""
) -> Iterator[tuple[list[Tensor], list[dict]]]:
    """Images, on the device of the model, and targets, batch by batch; the model is put in eval mode.

    The main process says how many batches of a `work` that has a name are done.
    """
    model.eval()
    device = next(model.parameters()).device
    batches = make_loader(dataset, batch_size, workers)
    items = without_traceback(batches)
    if work and process_state().is_main_process:
        items = shown(items, f"{work}, batches", len(batches))
    for images, targets in items:
        yield [image.to(device, non_blocking=True) for image in images], targets


def to_coco(detection: dict, image_id: int, category_ids: Sequence[int]) -> list[dict]:
    """One image's detections as rows of COCO's result format: boxes xywh, category ids instead of labels."""
    boxes = detection["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), detection["scores"].tolist(), detection["labels"].tolist(), strict=True)
    return [{"image_id": image_id, "category_id": category_ids[c], "bbox": b, "score": s} for b, s, c in rows]


def coco_metrics(dataset: CocoDataset, found: list[dict]) -> dict[str, float | None]:
    """COCO's average precisions in percent, by pycocotools."""
    results = index_coco({**dataset.coco.dataset, "annotations": found})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(dataset.coco, results, "bbox")
        evaluation.params.imgIds = list(dataset.ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats[: len(METRICS)]
    return {name: float(100 * s) if s >= 0 else None for name, s in zip(METRICS, stats, strict=True)}


def exit_accuracy(
    model: nn.Module, dataset: CocoDataset, *, batch_size: int = 32, workers: int = 0, progress: bool = False
) -> list[float]:
    """Share of single-object images, in percent, whose class each of the four exits says; see `exit_logits`.

    With one class it is the share of the images of which an exit says that it is there.
    """
    logits, targets = exit_logits(model, dataset, batch_size=batch_size, workers=workers, progress=progress)
    for target in targets:
        if len(target["labels"]) != 1:
            count, name = len(target["labels"]), int(target["image_id"])
            raise ValueError(f"accuracy needs exactly one object in each image, image {name} has {count}")
    labels = torch.cat([t["labels"] for t in targets])
    return (100 * (told_apart(logits).argmax(2) == labels).float().mean(1)).tolist()


def exit_confidences(
    model: nn.Module, dataset: CocoDataset, *, batch_size: int = 32, workers: int = 0, progress: bool = False
) -> Tensor:
    """Every image's confidence (see `exit_confidence`) at the four exits: (4, images); see `exit_logits`."""
    logits = exit_logits(model, dataset, batch_size=batch_size, workers=workers, progress=progress)[0]
    return exit_confidence(logits, getattr(model, "exit_target", "single"))


def exit_logits(
    model: nn.Module, dataset: CocoDataset, *, batch_size: int = 32, workers: int = 0, progress: bool = False
) -> tuple[Tensor, list[dict]]:
    """All four exits' logits, (4, images, classes) on the CPU, and the targets of the images.

    The model may be a detector or an `ExitClassifier`; the other arguments are those of `evaluate`.
    """
    parts, all_targets = [], []
    for images, targets in batches_for(model, dataset, batch_size, workers, "asking the exits" if progress else ""):
        with torch.inference_mode():
            logits = torch.empty(NUM_EXITS, len(images), model.backbone.num_classes)
            for group, batch in same_size_batches(model.transform, images):
                logits[:, group] = torch.stack(model.backbone(batch.tensors)).float().cpu()
            parts.append(logits)
        all_targets += targets
    return torch.cat(parts, dim=1), all_targets


def check_data(model: nn.Module, dataset: CocoDataset) -> None:
    """`ValueError` unless there are images, and as many classes as the model, one in PyTorch, tells apart."""
    if not len(dataset):
        raise ValueError("there are no images: the data set is empty")
    if not hasattr(dataset, "classes"):
        kind = type(dataset).__name__
        raise ValueError(
            f"a CocoDataset is needed, whose annotations say what is there, such as coco_split's, got {kind}"
        )
    if not hasattr(model.backbone, "num_classes"):
        raise ValueError("multiply-adds of graphs are not counted: evaluate the detector that was exported, in PyTorch")
    classes, known = len(dataset.classes), model.backbone.num_classes
    if classes != known:
        raise ValueError(f"the data has {classes} classes, the model knows {known}: they have to be the same")


def is_single_object(dataset: CocoDataset) -> bool:
    """Whether every image has exactly one object."""
    return all(len(dataset.objects(i)) == 1 for i in dataset.ids)


def checked(dataset: CocoDataset, classes: list[str]) -> CocoDataset:
    """The data set; `ValueError` if it has no images, other classes than the weights, or a photo that is not there."""
    if not len(dataset):
        raise ValueError(f"there are no images in {dataset.root!r}: its annotation file lists none")
    if dataset.classes != classes:
        raise ValueError(f"the data has the classes {dataset.classes}, the weights know {classes}")
    if process_state().is_main_process:  # the last photo, too, before the first is run
        dataset.check_photos()
    return dataset
