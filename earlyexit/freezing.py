"""Which parts of a model are not trained, and how its normalisation layers count."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .backbone import DynPerceiver
from .detector import EarlyExitRetinaNet
from .processes import process_state

NORMS = ("batch", "frozen", "sync")


def freeze_stages(backbone: DynPerceiver, stages: int) -> None:
    """Freeze the stem and the first `stages` stages of both branches; 0 freezes nothing.

    The published code freezes the stem, stage 1 and its attention, which is `stages=1`.
    """
    check_frozen(stages)
    if stages:
        for module in (backbone.stem, *backbone.stages[:stages], *backbone.reads[:stages]):
            module.requires_grad_(False)


def check_frozen(stages: int) -> None:
    """`ValueError` unless a backbone has so many stages to freeze."""
    if stages not in range(5):
        raise ValueError(f"freeze must be the number of frozen stages, 0 to 4, got {stages!r}")


def freeze_all_but_early(model: EarlyExitRetinaNet) -> None:
    """Freeze everything except the necks, heads and opinions of early exits: full depth stays as it is, bit for bit.

    Raises:
        ValueError: if the detector has no such parts.
    """
    if not model.early_necks:
        raise ValueError('there is nothing to train but early exits\' own necks and heads: use filler="learned"')
    model.requires_grad_(False)
    opinions = (opinion for exit, opinion in model.opinions.items() if exit in model.early_heads)
    for part in (model.early_necks, model.early_heads, *opinions):
        part.requires_grad_(True)


def set_norms(model: nn.Module, norm: str) -> nn.Module:
    """Choose what the batch normalisations use in training.

    Args:
        model: the model; changed in place.
        norm: "batch": the statistics of the batch in one process; noise if that holds few images. "frozen": the
            statistics and weights that were loaded, for good; right for small batches from pretrained weights.
            "sync": the statistics over all processes, on several GPUs.

    Returns:
        The model; use this one, since "sync" replaces layers.

    Raises:
        ValueError: for another word, or "sync" without a GPU.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
    if norm == "sync" and not torch.cuda.is_available():
        raise ValueError("norm 'sync' needs GPUs, there is none here: use 'batch', or 'frozen' with pretrained weights")
    if norm == "sync" and process_state().num_processes > 1:  # one process has nothing to synchronise
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if norm == "frozen":
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False)
    return model


def train_mode(model: nn.Module) -> None:
    """Put a model in training mode, except normalisations whose weights are frozen: they keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            module.eval()
