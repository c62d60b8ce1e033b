"""The processes of a run: one, or many that `torchrun` or `accelerate launch` started."""

import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # Accelerate imports tqdm's notebook bars, which warn where no widgets are installed
    from accelerate import PartialState
    from accelerate.utils import gather_object


def only_cpu() -> bool:
    """Whether there is no accelerator. Accelerate has to be told, or it takes CPU processes for separate runs."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def process_state() -> PartialState:
    """Accelerate's view of this process: `num_processes`, `process_index`, `is_main_process`, `device`."""
    return PartialState(cpu=only_cpu())


def gather(items: list) -> list:
    """The lists of all processes, one after the other, in every process."""
    process_state()
    return gather_object(items)
