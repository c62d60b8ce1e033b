"""The process in which a student's notebook runs: python -m earlyexit.homework.worker READ_END WRITE_END SECONDS.

It runs `answer.ipynb` from the file, cell by cell, and then calls its functions as it is asked to.
"""

import ast
import contextlib
import json
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from .student import receive, send

SKIPPED = ("training", "earlyexit-skip")  # tags of cells that are not run again: trained weights are handed in


def code_cells(path: Path) -> list[tuple[int, dict, str]]:
    """Number, metadata and code of a notebook's code cells; `ValueError` if the file is no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        there = [(number, cell) for number, cell in enumerate(cells) if cell.get("cell_type") == "code"]
        return [(number, dict(cell.get("metadata", {})), "".join(cell.get("source", ""))) for number, cell in there]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        raise ValueError("the file is no notebook") from None


def run_cells(path: Path, seconds: float) -> tuple[dict, list[str]]:
    """What the code cells of a notebook define, and what went wrong in them.

    Cells that train are left out, and those that nbgrader locks: they are the lecturer's, and say nothing new.
    """
    names, problems = {"__name__": "__main__"}, []
    try:
        cells = code_cells(path)
    except ValueError as error:
        return names, [str(error)]
    for number, about, code in cells:
        try:
            if set(about.get("tags", ())) & set(SKIPPED) or dict(about.get("nbgrader", {})).get("locked"):
                continue
            with limited(seconds):
                exec(compile(parsed(code), f"<cell {number}>", "exec"), names)
        except BaseException as error:  # noqa: BLE001 - exit() and Ctrl-C of a cell, too, end that cell alone
            problems.append(f"cell {number}: {type(error).__name__}: {error}"[:500])
    return names, problems


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """`TimeoutError` if what is done inside takes more than so many seconds of the processor."""

    def stop(*_) -> None:
        raise TimeoutError(f"it takes longer than {seconds:g} seconds")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def parsed(code: str) -> ast.Module:
    """A cell's code; lines for the notebook alone, as `%pip` and `!ls`, do nothing."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return ast.parse(re.sub(r"^([ \t]*)[%!].*", r"\1pass", code, flags=re.MULTILINE))


def reply_to(request: dict, names: dict) -> dict:
    """Call a function as asked; with "to", also the gradient of the sum of its value with respect to that input."""
    answer = names.get(request["call"])
    if not callable(answer):
        return {"unfinished": True} if answer is None else {"error": f"{request['call']} should be a function"}
    inputs = [x.clone() if isinstance(x, Tensor) else x for x in request["inputs"]]
    place = request.get("to")
    if place is not None:
        inputs[place].requires_grad_()
    before = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    start = time.process_time()
    call = counted if request.get("count") else lambda answer, *given, **named: (answer(*given, **named), 0.0)
    value, gmacs = call(answer, *inputs, **request["named"])
    seconds = time.process_time() - start
    if value is None or value is ...:
        return {"unfinished": True}
    gradient = None
    if place is not None and isinstance(value, Tensor) and value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), inputs[place], allow_unused=True)
    changed = [
        i
        for i, (old, new) in enumerate(zip(before, inputs, strict=True))
        if isinstance(old, Tensor) and not torch.equal(old, new)
    ]
    return {"value": plain(value), "gradient": gradient, "changed": changed, "gmacs": gmacs, "seconds": seconds}


def counted(answer: Callable, *inputs, **named) -> tuple[object, float]:
    """The value of a function, and its multiply-adds in 10^9."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        value = answer(*inputs, **named)
    return value, counter.get_total_flops() / 2e9


def plain(value):
    """A value as tensors, numbers and words in lists and dicts, which the other side reads without running anything."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return type(value)([plain(one) for one in value]) if type(value) in (list, tuple) else [*map(plain, value)]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (int, float, bool, str)) or value is None:
        return value
    if hasattr(value, "__array__"):
        return torch.as_tensor(value.__array__())
    return f"a {type(value).__name__}"


def main() -> None:
    """Run the notebook, then answer until the other side ends."""
    reads, writes, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    names, problems = run_cells(Path("answer.ipynb"), seconds)
    send(writes, {"problems": problems, "defined": [name for name in names if not name.startswith("__")]})
    while True:
        try:
            request = receive(reads)
        except EOFError:
            return
        try:
            with limited(seconds):
                reply = reply_to(request, names)
        except NotImplementedError:
            reply = {"unfinished": True}
        except BaseException as error:  # noqa: BLE001 - whatever the student's function raises is said to its author
            lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<cell")]
            where = f" in {lines[-1].filename[1:-1]}, line {lines[-1].lineno}" if lines else ""
            reply = {"error": f"{type(error).__name__}: {error}{where}"[:500]}
        send(writes, reply)


if __name__ == "__main__":
    main()
