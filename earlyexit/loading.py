"""Batches whose order and augmentation are a function of the seed and the epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .data.coco import collate


class EpochSampler(Sampler[int]):
    """A permutation that is a function of the seed and the epoch alone, so that a resumed run sees the same order."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        return iter(torch.randperm(self.length, generator=generator).tolist())


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for each epoch: what is random in it (order, flips) depends on nothing that came before."""
    return 1_000_003 * seed + epoch


def make_loader(dataset: Dataset, batch_size: int, sampler: Sampler, workers: int = 0) -> DataLoader:
    """Batches for training, as a list of images and a list of targets.

    The last batch is left out if it is not full: it could be of one image, with which BatchNorm1d cannot work.
    """
    full = len(dataset) > batch_size
    pin = torch.cuda.is_available()
    return DataLoader(
        dataset, batch_size, sampler=sampler, collate_fn=collate, num_workers=workers, drop_last=full, pin_memory=pin
    )
