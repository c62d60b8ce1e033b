"""The processes of a run: one, or many that `torchrun` or `accelerate launch` started."""

import torch
from accelerate import PartialState


def only_cpu() -> bool:
    """Whether there is no accelerator. Accelerate has to be told, or it takes CPU processes for separate runs."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available())


def process_state() -> PartialState:
    """Accelerate's view of this process: `num_processes`, `process_index`, `is_main_process`, `device`."""
    return PartialState(cpu=only_cpu())
