"""The small trained checkpoints that come with the package, and how to load and save such files.

Beside each `NAME.safetensors` lies `NAME.json`, its card: command, seed, data, versions and metrics.
"""

import json
import textwrap
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..files import write_whole
from .card import parse_card

FOLDER = Path(__file__).parent
DEFAULT_WEIGHTS = "scenes-early"  # of the commands


def available_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def weights_path(weights: str | Path) -> Path:
    """The file behind a name of `available_weights()` or a path; `ValueError` if there is none."""
    for path in (FOLDER / f"{weights}.safetensors", Path(weights)):
        if path.is_file():
            return path
    raise ValueError(f"weights must be one of {available_weights()} or a safetensors file, got {str(weights)!r}")


def weights_card(name: str) -> dict:
    """The card of one of `available_weights()`: how the weights were made and what they reach."""
    return json.loads(weights_path(name).with_suffix(".json").read_text())


def load_weights(model: nn.Module, weights: str | Path) -> None:
    """Load weights into `model`, strictly; half precision on disk becomes the model's own.

    Raises:
        ValueError: if there is no such file, or with the first weights that are missing, unexpected or misshapen.
    """
    try:
        model.load_state_dict(load_state(weights))
    except RuntimeError as error:
        about = read_about(weights)
        made = {key: about[key] for key in ("model", "filler", "opinions", "exit_target") if key in about}
        made |= {"classes": len(about["classes"])} if "classes" in about else {}
        if about.get("task") == "detect":
            hint = f"earlyexit.load_detector({str(weights)!r}) makes the detector that they are of: {made}"
        else:
            hint = f"another number of classes? They are of {made or 'an unknown model'}"
        what = textwrap.shorten(str(error), 300)  # PyTorch lists every weight, each in a line of its own
        raise ValueError(f"the weights {str(weights)!r} do not fit; {hint}. {what}") from error


def load_state(weights: str | Path) -> dict[str, torch.Tensor]:
    """The state dict behind a name of `available_weights()` or a safetensors file."""
    with _opened(weights_path(weights)) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict


def save_weights(model: nn.Module, path: str | Path, *, half: bool = False, about: dict | None = None) -> None:
    """Write the model's weights to a safetensors file that appears whole or not at all.

    Args:
        model: the model.
        path: the file.
        half: store float32 weights in half precision.
        about: what `read_about` gives back: anything that JSON can hold, e.g. {"model": "nano", "classes": [...]}.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
        bad = [k for k, v in state.items() if not torch.isfinite(v).all()]
        if bad:
            raise ValueError(f"these weights do not fit into half precision, store them whole: {bad}")
    metadata = {"about": json.dumps(about or {})}
    write_whole(path, lambda temporary: save_file(state, temporary, metadata))


def read_about(weights: str | Path) -> dict:
    """What `save_weights` was told about the weights, see `parse_card`; empty for files made elsewhere."""
    with _opened(weights_path(weights)) as file:
        return parse_card((file.metadata() or {}).get("about", "{}"), weights)


def _opened(path: Path):
    try:
        return safe_open(path, "pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
