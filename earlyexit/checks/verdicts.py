"""Is an answer right, and if not, which likely slip does it look like?"""

import importlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

ROUNDS = 3  # random inputs that an answer is tried on
TURN = "your turn"
# The file that has a part's exercises, and its chapters; an assignment's file has its name.
PARTS = {"leaving_early": range(3), "network": range(3, 5), "study": range(5, 10), "beyond": range(10, 12)}


class SlipError(AssertionError):
    """What is wrong with an answer, in words for the one who wrote it."""


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer; true if it is right. Its text is what a notebook shows.

    Attributes:
        name: of the exercise, as "2.iou".
        passed: whether the answer is right.
        message: "right", "your turn", or what seems to be wrong.
    """

    name: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{self.name}: {self.message}"


def check(name: str, answer: Callable | object, *, seed: int = 0) -> Verdict:
    """Try an answer on random inputs and say whether it is right.

    Args:
        name: of the exercise, "CHAPTER.NAME" as the chapter gives it, or "hw1.NAME" for homework.
        answer: the reader's own function, class or value.
        seed: of the random inputs.

    Raises:
        ValueError: for a name that no exercise has.
    """
    tried = exercise(name)
    theirs = str(getattr(answer, "__module__", "")).split(".")[0]
    if callable(answer) and theirs in ("earlyexit", "torch", "torchvision"):
        return Verdict(name, False, f"this is {theirs}'s own {getattr(answer, '__name__', 'function')}: write yours")
    try:
        for turn in range(ROUNDS):
            # An unfinished or random answer must not move the random numbers of the reader's own cells.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + turn)
                tried(answer, torch.Generator().manual_seed(1_000 * seed + turn))
    except SlipError as slip:
        return Verdict(name, False, str(slip))
    except NotImplementedError:
        return Verdict(name, False, TURN)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer's and is said to its author
        return Verdict(name, False, _raised(error))
    return Verdict(name, True, "right")


def exercise(name: str) -> Callable[[Any, torch.Generator], None]:
    """What tries answers to an exercise: it returns if the answer is right and raises `SlipError` if not."""
    page, _, short = name.partition(".")
    chapter = int(page) if page.isdecimal() else None
    room = next((part for part, chapters in PARTS.items() if chapter in chapters), page)
    try:
        module = importlib.import_module(f".{room}", __package__)
    except ModuleNotFoundError:
        raise ValueError(f"there are no exercises of {page!r}; names look like '2.iou' or 'hw1.x2z'") from None
    start = "" if chapter is None else f"ch{chapter}_"
    if short not in names(module, start):
        there = ", ".join(f"{page}.{known}" for known in names(module, start))
        raise ValueError(f"no exercise is called {name!r}; there are {there}")
    return getattr(module, start + short)


def names(module: ModuleType, start: str = "") -> list[str]:
    """The exercises of a module, in their order: its public functions, those that begin with `start` without that."""
    own = [n for n, f in vars(module).items() if callable(f) and f.__module__ == module.__name__ and n[0] != "_"]
    return [name.removeprefix(start) for name in own if name.startswith(start)]


def called(answer: Callable, *inputs, **named):
    """What the answer gives for some inputs; `SlipError` if it changed them, "your turn" if it gives nothing."""
    before = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
    got = answer(*inputs, **named)
    for place, (old, new) in enumerate(zip(before, inputs, strict=True)):
        if isinstance(old, Tensor) and not torch.equal(old, new):
            raise SlipError(f"your function changes its input number {place + 1}: work on a copy")
    if got is None or got is ...:
        raise NotImplementedError
    return got


def pulled(answer: Callable, inputs: tuple, to: int) -> tuple[Tensor, Tensor | None]:
    """What the answer gives, and the gradient of its sum with respect to input number `to`, None if there is none."""
    if hasattr(answer, "pulled"):  # it runs in another process, which differentiates it there
        return answer.pulled(inputs, to)
    inputs = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
    inputs[to].requires_grad_()
    value = called(answer, *inputs)
    there = isinstance(value, Tensor) and value.requires_grad
    return value, torch.autograd.grad(value.sum(), inputs[to], allow_unused=True)[0] if there else None


def same(
    got: object, wanted: Tensor | float, what: str, slips: Mapping[str, Tensor | float] | None = None, tol: float = 1e-4
) -> None:
    """`SlipError` unless `got` is `wanted`, a tensor or a number, to within `tol` (absolute and relative).

    Args:
        what: what the value is, for the message: "the IoU of every pair".
        slips: the values that likely mistakes give, by the message that names the mistake.
    """
    wanted = torch.as_tensor(wanted)
    if not isinstance(got, (Tensor, float, int, bool)) and not hasattr(got, "__array__"):
        raise SlipError(f"{what} should be a tensor or a number, you gave {type(got).__name__}")
    got = torch.as_tensor(got).detach().to("cpu")
    for message, value in (slips or {}).items():
        if _close(got, torch.as_tensor(value), tol) and not _close(torch.as_tensor(value), wanted, tol):
            raise SlipError(message)
    if got.shape != wanted.shape:
        raise SlipError(f"{what} should have shape {tuple(wanted.shape)}, yours has {tuple(got.shape)}")
    if not _close(got, wanted, tol):
        raise SlipError(f"{what} differs from what was expected{_where(got, wanted, tol)}")


def gradient(of: Tensor, to: Tensor | nn.Parameter, what: str, *, flows: bool = True) -> None:
    """`SlipError` unless a gradient flows, or does not flow, from the value `of` back to `to`."""
    found = torch.autograd.grad(of.sum(), to, allow_unused=True, retain_graph=True)[0] if of.requires_grad else None
    if flows != (found is not None and bool(found.abs().sum() > 0)):
        raise SlipError(f"{what} should {'' if flows else 'not '}get a gradient: look at where you detach")


def _close(got: Tensor, wanted: Tensor, tol: float) -> bool:
    return got.shape == wanted.shape and torch.allclose(got.double(), wanted.double(), tol, tol, equal_nan=True)


def _where(got: Tensor, wanted: Tensor, tol: float) -> str:
    """The first place in which two tensors of one shape differ, with both values."""
    off = ~torch.isclose(got.double(), wanted.double(), tol, tol, equal_nan=True)
    place = tuple(off.nonzero()[0].tolist())
    at = f" at index {list(place)}" if place else ""
    count = f" ({int(off.sum())} of {off.numel()} values differ)" if off.numel() > 1 else ""
    return f"{at}: yours {got[place].item():.6g}, expected {wanted[place].item():.6g}{count}"


def _raised(error: Exception) -> str:
    """An exception of the answer, with the line of the reader's code in which it was raised last."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/earlyexit/checks/" not in f.filename]
    line = f', at "{frames[0].line}"' if frames and frames[0].line else ""
    return f"your code raised {type(error).__name__}: {error}{line}"
