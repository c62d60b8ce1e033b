"""What a file says about the weights in it, checked before anything is made of it."""

import json
from collections.abc import Mapping
from numbers import Real

# Experiments that lost: options of training that no longer exist, with the value under which each did nothing.
REMOVED = {"sandwich": False, "early_gradient": 1.0, "head_distillation": 0.0}
REMOVED_FILLERS = ("topdown",)
LAST_WITH_THEM = "0d16035"  # the last commit whose code has them


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
