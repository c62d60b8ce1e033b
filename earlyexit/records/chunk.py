"""Some images at all four exits: the one place where the detector runs for the records."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ..backbone import NUM_EXITS
from ..batching import same_size_batches
from ..data.coco import CocoDataset, collate
from ..detector import EarlyExitRetinaNet
from ..evaluation import network_size
from ..targets import check_images
from .record import Detections, Truth, offsets_of


def run_chunk(
    model: EarlyExitRetinaNet, dataset: CocoDataset, batch_size: int, images: range, fillers: Sequence[str | None]
) -> dict:
    """Run some images of a data set.

    Returns:
        "image_ids", "logits" and "truth" as in `ExitRecords`, "found" {filler: detections} and "sizes", height and
        width of each image inside the network.
    """
    loader = DataLoader(Subset(dataset, images), batch_size, collate_fn=collate)
    device = next(model.parameters()).device
    logits: list[Tensor] = []
    found: dict[str | None, list[dict]] = {name: [] for name in fillers}  # four of each image
    sizes: list[tuple[int, int]] = []
    for batch, _ in loader:
        check_images(batch, model)
        with torch.inference_mode():
            batch_logits, batch_found = run_all_exits(model, [image.to(device) for image in batch], fillers)
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
                    detections = model.detect_from(reached, batch, range(len(group)), sizes)
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
