"""Trained weights: those that come with the package, files of them, and the card that says how to make their model.

Beside each `NAME.safetensors` of the package lies `NAME.json`: the card with command, seed, data, versions and metrics.
"""

import json
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..files import write_whole

FOLDER = Path(__file__).parent
# Experiments that lost: options of training that no longer exist, with the value under which each did nothing.
REMOVED = {"sandwich": False, "early_gradient": 1.0, "head_distillation": 0.0}
REMOVED_FILLERS = ("topdown",)
LAST_WITH_THEM = "0d16035"  # the last commit whose code has them


# What an entry of a card may be, by a word for it.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: value in ("detect", "classify"),
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: _each("text", value) and len(value) > 0,
    "whole": lambda value: type(value) is int,
    "wholes": lambda value: _each("whole", value),
    "size": lambda value: type(value) is int and value > 0,
    "number": lambda value: isinstance(value, Real) and not isinstance(value, bool),
    "pairs": lambda value: isinstance(value, list) and all(_each("number", pair) for pair in value),
    "limit": lambda value: value is None or (_KINDS["number"](value) and value >= 0),  # None: infinity is no JSON
    "limits": lambda value: _each("limit", value) and len(value) == 3,
}


def _each(kind: str, values: Any) -> bool:
    return isinstance(values, list) and all(map(_KINDS[kind], values))


def _entry(what: str, kind: str, *, makes: bool = True, **default) -> Any:
    return field(metadata={"what": what, "fits": _KINDS[kind], "makes": makes}, **default)


@dataclass(frozen=True)
class ModelConfig:
    """All that makes a model again, fresh; with the weights it is what a weight file holds. See `make_model`.

    Each entry is described where it takes effect: in `earlyexit train --help`, `EarlyExitRetinaNet` and the factories.
    Those that make the network are arguments of the factories.
    """

    task: str = _entry("detect or classify", "task", makes=False)
    model: str = _entry("the name of a model", "text", makes=False)
    classes: list[str] = _entry("a list of the classes' names", "texts", makes=False)
    trunk: str | None = _entry("the name of a trunk", "text", default=None)
    filler: str = _entry("the name of a filler", "text", default="downsample")
    widths: tuple[int, ...] | None = _entry("a list of numbers of channels", "wholes", default=None)
    opinions: tuple[int, ...] = _entry("a list of exits", "wholes", default=())
    exit_target: str = _entry("a word", "text", default="single")
    first_read: str = _entry("a word", "text", default="published")
    min_size: int | None = _entry("a number of pixels", "size", default=None)
    max_size: int | None = _entry("a number of pixels", "size", default=None)
    score_scales: list | None = _entry("a list of gains and shifts", "pairs", default=None)
    rule: str = _entry("the name of a rule", "text", makes=False, default="max softmax")
    thresholds: list | None = _entry("three numbers of at least 0", "limits", makes=False, default=None)

    @classmethod
    def of(cls, card: dict) -> "ModelConfig":
        """What a card says of the model, see `parse_card`; the rest of the card is its story."""
        return cls(**{entry.name: card[entry.name] for entry in fields(cls) if entry.name in card})

    def card(self) -> dict:
        """The entries that have a value, as plain values for `save_weights`."""
        return {name: value for name, value in json.loads(json.dumps(asdict(self))).items() if value is not None}

    def options(self) -> dict[str, Any]:
        """The entries that a factory takes and that have a value."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.metadata["makes"]}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def limits(self) -> list[float] | None:
        """The thresholds with infinity for never, for `model(images, thresholds=...)`; None if there are none."""
        return self.thresholds and [math.inf if t is None else t for t in self.thresholds]


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
    for entry in fields(ModelConfig):
        got = card.get(entry.name, entry.default)
        if got is not entry.default and not entry.metadata["fits"](got):
            what = entry.metadata["what"]
            raise ValueError(f"the card in {str(source)!r} is damaged: {entry.name} must be {what}, got {got!r:.100}")
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


def available_weights() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def weights_path(weights: str | Path) -> Path:
    """The file behind a name of `available_weights()`, a run's folder or a path; `ValueError` if there is none."""
    for path in (FOLDER / f"{weights}.safetensors", Path(weights, "model.safetensors"), Path(weights)):
        if path.is_file():
            return path
    kinds = f"one of {available_weights()}, a safetensors file or a run's folder"
    raise ValueError(f"weights must be {kinds}, got {str(weights)!r}")


def own_weights(weights: str | Path) -> Path:
    """The same for a file that may be written to; `ValueError` for those that come with the package."""
    path = weights_path(weights)
    if path.parent == FOLDER:
        raise ValueError(f"the weights {str(weights)!r} belong to the package: export a run of your own first")
    return path


def weights_card(name: str) -> dict:
    """The card of one of `available_weights()`: how the weights were made and what they reach."""
    return json.loads(weights_path(name).with_suffix(".json").read_text())


def load_weights(model: nn.Module, weights: str | Path, *, rule: bool = True) -> None:
    """Load weights into `model`, strictly but for its rule; half precision on disk becomes the model's own.

    Args:
        rule: take the rule's weights from the file, too; False leaves the model's rule as it is. Those of a rule that
            the model does not have are left out.

    Raises:
        ValueError: if there is no such file, or with the first weights that are missing, unexpected or misshapen.
    """
    own, found = model.state_dict(), load_state(weights)
    of_rule = {name: value for name, value in (found if rule else own).items() if name.startswith("rule.")}
    found = {name: value for name, value in found.items() if not name.startswith("rule.")}
    try:
        model.load_state_dict(found | {name: value for name, value in of_rule.items() if name in own})
    except RuntimeError as error:
        about = read_about(weights)
        names = ("model", *(f.name for f in fields(ModelConfig) if f.metadata["makes"] and f.name != "score_scales"))
        made = {name: about[name] for name in names if name in about}
        made |= {"classes": len(about["classes"])} if "classes" in about else {}
        hint = f"another number of classes? They are of {made or 'an unknown model'}"
        if about.get("task") == "detect":
            hint = f"earlyexit.load_detector({str(weights)!r}), with trunk=... if it is yours, makes the model: {made}"
        what = textwrap.shorten(str(error), 300)  # PyTorch lists every weight, each in a line of its own
        raise ValueError(f"the weights {str(weights)!r} do not fit; {hint}. {what}") from error


def load_state(weights: str | Path) -> dict[str, torch.Tensor]:
    """The state dict behind a name of `available_weights()` or a safetensors file."""
    with _opened(weights_path(weights)) as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict


def misfit(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], optional: tuple[str, ...] = ()) -> str:
    """Where the state dict `found` is not as `own`, in words; "" if all fits. Parts `optional` may be missing."""
    others = [name for name in found if name in own and found[name].shape != own[name].shape]
    wrong = {
        "missing": [name for name in own if name not in found and not name.startswith(optional)],
        "unexpected": [name for name in found if name not in own],
        "of another shape": [f"{name} {tuple(found[name].shape)}, not {tuple(own[name].shape)}" for name in others],
    }
    return "; ".join(f"{kind} {names[:3]} ({len(names)} in all)" for kind, names in wrong.items() if names)


def load_parts(
    model: nn.Module, found: Mapping[str, torch.Tensor], optional: tuple[str, ...], otherwise: str
) -> list[str]:
    """Load `found`, in which only weights of the parts `optional` may be missing; gives the names of those that are."""
    own = model.state_dict()
    if wrong := misfit(own, found, optional):
        raise ValueError(f"{otherwise}: {wrong}")
    model.load_state_dict(found, strict=False)
    return [name for name in own if name not in found]


def save_weights(model: nn.Module, path: str | Path, *, half: bool = False, about: dict | None = None) -> None:
    """Write the model's weights to a safetensors file that appears whole or not at all.

    Args:
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


def store_in_card(weights: str | Path, entries: dict[str, Any], model: nn.Module) -> Path:
    """Write entries of a `ModelConfig` into the card of a weight file, whose weights stay; gives the file.

    Args:
        weights: a file or a run's folder, see `own_weights`.
        entries: for example {"rule": "router", "thresholds": [0.9, 0.8, None]}.
        model: its "rule." weights are stored, too, if its rule has some.
    """
    path = own_weights(weights)
    rule = {name: value.detach().cpu() for name, value in model.state_dict().items() if name.startswith("rule.")}
    state = {name: value for name, value in load_state(path).items() if not name.startswith("rule.")} | rule
    about = parse_card(json.dumps({**read_about(path), **entries}), path)
    write_whole(path, lambda temporary: save_file(state, temporary, {"about": json.dumps(about)}))
    return path


def read_about(weights: str | Path) -> dict:
    """What `save_weights` was told about the weights, see `parse_card`; empty for files made elsewhere."""
    with _opened(weights_path(weights)) as file:
        return parse_card((file.metadata() or {}).get("about", "{}"), weights)


def _opened(path: Path):
    try:
        return safe_open(path, "pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
