"""The processes of a run, one or many that `torchrun` or `accelerate launch` started, and their devices."""

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


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is cuda if there is one, and each of several processes has its own."""
    if name == "auto" and process_state().num_processes > 1:
        return process_state().device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu, cuda or auto, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices here")
    return device
