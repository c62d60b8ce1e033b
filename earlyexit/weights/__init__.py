"""The small trained checkpoints that come with the package, and how to load and save such files.

Beside each `NAME.safetensors` lies `NAME.json`, its card: command, seed, data, versions and metrics.
"""

import json
import textwrap
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..files import write_whole

FOLDER = Path(__file__).parent
DEFAULT_WEIGHTS = "scenes-early"  # of the commands
# Experiments that lost: options of training that no longer exist, with the value under which each did nothing.
REMOVED = {"sandwich": False, "early_gradient": 1.0, "head_distillation": 0.0}
REMOVED_FILLERS = ("topdown",)
LAST_WITH_THEM = "0d16035"  # the last commit whose code has them


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


def _is_size(value) -> bool:
    return type(value) is int and value > 0


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _are_names(value) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _are_exits(value) -> bool:
    return isinstance(value, list) and all(type(exit) is int for exit in value)


def _are_thresholds(value) -> bool:  # None stands for infinity, which JSON does not have
    three = isinstance(value, list) and len(value) == 3
    return value is None or (three and all(t is None or (_is_number(t) and t >= 0) for t in value))


def _are_scales(value) -> bool:
    pairs = isinstance(value, list) and all(isinstance(pair, list) for pair in value)
    return value is None or (pairs and all(_is_number(number) for pair in value for number in pair))


def _is_text(value) -> bool:
    return isinstance(value, str)


_FIELDS = {
    "model": ("the name of a model", _is_text),
    "classes": ("a list of the classes' names", _are_names),
    "filler": ("the name of a filler", _is_text),
    "exit_target": ("a word", _is_text),
    "opinions": ("a list of exits", _are_exits),
    "min_size": ("a number of pixels", _is_size),
    "max_size": ("a number of pixels", _is_size),
    "thresholds": ("three numbers of at least 0", _are_thresholds),
    "score_scales": ("a list of gains and shifts", _are_scales),
}


def parse_card(text: str, source: object) -> dict:
    """The card that `source`, a file, holds as JSON; `ValueError` that names the file and what is wrong in it.

    A card may be empty, as those of files that were made elsewhere; one that names a task needs a model and classes.
    """
    try:
        card = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the card in {str(source)!r} is damaged, it is no JSON: {error}") from None
    if not isinstance(card, dict):
        raise ValueError(f"the card in {str(source)!r} must be names with values, got {card!r:.100}")
    missing = [name for name in ("model", "classes") if "task" in card and name not in card]
    if missing:
        raise ValueError(f"the card in {str(source)!r} lacks {' and '.join(missing)}: it has {sorted(card)}")
    for name, (what, fits) in _FIELDS.items():
        if name in card and not fits(card[name]):
            raise ValueError(f"the card in {str(source)!r} is damaged: {name} must be {what}, got {card[name]!r:.100}")
    refuse_removed(card, source)
    return card


def refuse_removed(values: Mapping, source: object) -> None:
    """`ValueError` if the settings `values` of `source` have an option that no longer exists at work.

    Settings of old runs name all options; a value under which an option did nothing is as good as none.
    """
    gone = {name: values[name] for name, nothing in REMOVED.items() if values.get(name, nothing) != nothing}
    gone |= {"filler": values["filler"]} if values.get("filler") in REMOVED_FILLERS else {}
    if gone:
        said = ", ".join(f"{name}={value!r}" for name, value in gone.items())
        raise ValueError(
            f"{str(source)!r} was made with {said}, which no longer exists: it lost, and the last commit that has it "
            f"is {LAST_WITH_THEM}"
        )
