"""Is an answer right, and if not, which likely slip does it look like?"""

import importlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TRIALS = 3  # random inputs that an answer is tried on
TURN = "your turn"
SECONDS = 2.0  # of the processor, for one call of an answer
clock = time.process_time  # what others do on the machine does not count
# The file that has the exercises of a chapter or an assignment.
ROOMS = {
    **dict.fromkeys(("0", "1", "2"), "leaving_early"),
    **dict.fromkeys(("3", "4", "10"), "network"),
    **dict.fromkeys(("5", "6", "7", "8", "9"), "study"),
    **dict.fromkeys(("hw1", "hw3", "hw4"), "homework_network"),
    **dict.fromkeys(("11", "hw2", "hw5"), "who_leaves"),
}


class SlipError(AssertionError):
    """What is wrong with an answer, in words for the one who wrote it."""


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer; true if it is right. Its text is what a notebook shows."""

    name: str  # of the exercise, as "2.iou"
    passed: bool
    message: str  # "right", "your turn", or what seems to be wrong

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{self.name}: {self.message}"


def check(name: str, answer: Callable | object, *, seed: int = 0) -> Verdict:
    """Try an answer, the reader's own function, class or value, on random inputs and say whether it is right.

    The exercise is called "CHAPTER.NAME" as the chapter gives it, or "hw1.NAME"; `ValueError` for a name that none has.
    """
    page, _, short = name.partition(".")
    known = exercises_of(page)
    if short not in known:
        raise ValueError(f"no exercise is called {name!r}; there are {', '.join(f'{page}.{one}' for one in known)}")
    theirs = str(getattr(answer, "__module__", "")).split(".")[0]
    if callable(answer) and theirs in ("earlyexit", "torch", "torchvision"):
        return Verdict(name, False, f"this is {theirs}'s own {getattr(answer, '__name__', 'function')}: write yours")
    try:
        for turn in range(TRIALS):
            # An unfinished or random answer must not move the random numbers of the reader's own cells.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + turn)
                known[short](answer, torch.Generator().manual_seed(1_000 * seed + turn))
    except SlipError as slip:
        return Verdict(name, False, str(slip))
    except NotImplementedError:
        return Verdict(name, False, TURN)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer's and is said to its author
        return Verdict(name, False, _raised(error))
    return Verdict(name, True, "right")


def exercises_of(page: str) -> dict[str, Callable[[Any, torch.Generator], None]]:
    """The exercises of a chapter, "2", or an assignment, "hw1", in their order; `ValueError` if there are none.

    Each returns if the answer that it is given is right, and raises `SlipError` if not.
    """
    if page not in ROOMS:
        raise ValueError(f"there are no exercises of {page!r}; names look like '2.iou' or 'hw1.x2z'")
    start = f"ch{page}_" if page.isdecimal() else f"{page}_"
    functions = vars(importlib.import_module(f".{ROOMS[page]}", __package__))
    return {name.removeprefix(start): tried for name, tried in functions.items() if name.startswith(start)}


def called(answer: Callable, *inputs, **named):
    """What the answer gives for some inputs; "your turn" if it gives nothing.

    `SlipError` if it changed them, or takes longer than `SECONDS`.
    """
    before = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
    start = clock()
    got = answer(*inputs, **named)
    seconds = clock() - start
    if seconds > SECONDS:
        slow = "is there a loop over images or places that one operation on the whole tensor can do?"
        raise SlipError(f"your function takes {seconds:.1f} seconds, {SECONDS:g} are more than enough: {slow}")
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


def gradient(of: Tensor, to: Tensor, what: str) -> None:
    """`SlipError` unless a gradient flows from the value `of` back to `to`."""
    found = torch.autograd.grad(of.sum(), to, allow_unused=True, retain_graph=True)[0] if of.requires_grad else None
    if found is None or not found.abs().sum() > 0:
        raise SlipError(f"{what} should get a gradient: look at where you detach")


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
