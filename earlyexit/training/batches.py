"""Batches whose order is a function of the seed and the epoch alone, on any number of processes."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from ..data.coco import epoch_seed


class StepSampler(Sampler[list[int]]):
    """The images of each optimiser step, in equal parts: one part is what one process sees in one forward pass.

    The images of a step are a function of the seed, the epoch and `batch_size`, not of `parts`: one process with a
    batch of 16, two with 8 and four that accumulate two batches of 2 take the same steps. Accelerate deals the parts
    out to the processes in turn.

    A last step that is not full is left out. If the data set is smaller than one step, the step is made of what
    there is; images are repeated where the parts need it.

    Args:
        length: images in the data set.
        batch_size: images of an optimiser step, over all processes and accumulated batches.
        parts: processes times accumulated batches; `batch_size` must be a multiple of it.
        seed: of the order.
        groups: a number for each image; images of one step are of one group as far as possible. With the shape of
            the image as its group, less of a batch is padding.
    """

    def __init__(
        self, length: int, batch_size: int, parts: int = 1, seed: int = 0, groups: Sequence[int] | None = None
    ):
        if length < 1:
            raise ValueError(f"there is nothing to train on: {length} images")
        if batch_size < 1 or parts < 1 or batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of processes x accumulate, got batch_size {batch_size} for {parts}"
            )
        if groups is not None and len(groups) != length:
            raise ValueError(f"groups must hold one number for each of {length} images, got {len(groups)}")
        self.length, self.parts, self.seed, self.epoch, self.groups = length, parts, seed, 0, groups
        self.step = min(batch_size, math.ceil(length / parts) * parts)
        self.batch_size, self.drop_last = self.step // parts, False  # names that Accelerate reads

    def __len__(self) -> int:
        return max(1, self.length // self.step) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        order += [order[i % self.length] for i in range(self.step - self.length)]
        if self.groups is not None:
            order = self._by_group(order, generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]

    def _by_group(self, order: list[int], generator: torch.Generator) -> list[int]:
        """`order` with the steps of one group each, in random order; what is left of the groups comes last."""
        steps, left = [], []
        for group in sorted(set(self.groups)):
            mine = [i for i in order if self.groups[i] == group]
            full = len(mine) - len(mine) % self.step
            steps += [mine[start : start + self.step] for start in range(0, full, self.step)]
            left += mine[full:]
        shuffled = torch.randperm(len(steps), generator=generator).tolist()
        return [i for k in shuffled for i in steps[k]] + left


def check_dataset(dataset, *, allow_empty: bool = False, single: bool = True) -> None:
    """Look at all annotations before the first step, rather than stop in the middle of an epoch.

    Args:
        dataset: a `CocoDataset`.
        allow_empty: whether images may have no box.
        single: whether they may have one box only.

    Raises:
        ValueError: names the first image that cannot be trained on.
    """
    if not dataset.classes:
        raise ValueError(f"there is nothing to learn in {dataset.root!r}: its annotations have no categories")
    for image_id in dataset.ids:
        image, boxes = dataset.coco.imgs[image_id], [found["bbox"] for found in dataset.objects(image_id)]
        name = f"image {image_id!r}, {image['file_name']!r},"
        if not boxes and not allow_empty:
            raise ValueError(f"{name} has no box; leave such images out, or use --allow-empty")
        if len(boxes) > 1 and single:
            many = f"{len(boxes)} objects, but the exits learn one class per image: filter to single-object"
            raise ValueError(f"{name} has {many} images (data_prep/), or use --exit-target largest")
        out = [box for box in boxes if not _mostly_inside(box, image["width"], image["height"])]
        if out:
            size = f"{image['width']} x {image['height']}"
            raise ValueError(f"{name} has the box {out[0]}, most of which is outside its {size} pixels")


def _mostly_inside(box: Sequence[float], width: int, height: int) -> bool:
    x, y, w, h = box
    seen = max(0, min(x + w, width) - max(x, 0)) * max(0, min(y + h, height) - max(y, 0))
    return seen >= 0.5 * w * h


def shape_groups(dataset) -> list[int]:
    """For each image of a `CocoDataset` 1 if it is wider than high, else 0: the groups of a `StepSampler`."""
    images = (dataset.coco.imgs[i] for i in dataset.ids)
    return [int(image["width"] > image["height"]) for image in images]
