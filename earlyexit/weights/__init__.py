"""The small trained checkpoints that come with the package, and how to load and save such files.

Beside each `NAME.safetensors` lies `NAME.json`, its card: command, seed, data, versions and metrics.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER = Path(__file__).parent


def available_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def weights_path(weights: str | Path) -> Path:
    """The file behind a name of `available_weights()` or a path; `ValueError` if there is none."""
    for path in (FOLDER / f"{weights}.safetensors", Path(weights)):
        if path.is_file():
            return path
    raise ValueError(
        f"weights must be one of {available_weights()} or a safetensors file, got {str(weights)!r}"
    )


def weights_card(name: str) -> dict:
    """The card of one of `available_weights()`: how the weights were made and what they reach."""
    return json.loads(weights_path(name).with_suffix(".json").read_text())


def load_weights(model: nn.Module, weights: str | Path) -> None:
    """Load weights into `model`, strictly; half precision on disk becomes the model's own.

    Raises:
        ValueError: if there is no such file, or with the missing, unexpected and misshapen weights listed.
    """
    path = weights_path(weights)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {path} do not fit this model (another number of classes?): {error}"
        ) from error


def save_weights(model: nn.Module, path: str | Path, *, half: bool = False) -> None:
    """Write the model's weights to a safetensors file, in half precision if asked; the file appears whole or not at all."""
    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
