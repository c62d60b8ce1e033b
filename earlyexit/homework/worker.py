"""The process in which a student's notebook runs: python -m earlyexit.homework.worker READ_END WRITE_END.

It runs `answer.ipynb` from the file, cell by cell, and then calls its functions as it is asked to.
"""

import ast
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from .student import receive, send

SKIPPED = ("training", "earlyexit-skip")  # tags of cells that are not run again: trained weights are handed in


def run_cells(path: Path) -> tuple[dict, list[str]]:
    """What the code cells of a notebook define, and what went wrong in them."""
    names, problems = {"__name__": "__main__"}, []
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        return names, ["the file is no notebook"]
    for number, cell in enumerate(cells):
        if cell.get("cell_type") != "code" or set(cell.get("metadata", {}).get("tags", [])) & set(SKIPPED):
            continue
        code = "".join(cell.get("source", ""))
        plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.split("\n"))
        try:
            exec(compile(ast.parse(plain), f"<cell {number}>", "exec"), names)
        except BaseException as error:  # noqa: BLE001 - exit() and Ctrl-C of a cell, too, end that cell alone
            problems.append(f"cell {number}: {type(error).__name__}: {error}")
    return names, problems


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
    value = answer(*inputs, **request["named"])
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
    return {"value": plain(value), "gradient": gradient, "changed": changed}


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
    reads, writes = (int(end) for end in sys.argv[1:3])
    names, problems = run_cells(Path("answer.ipynb"))
    send(writes, {"problems": problems, "defined": [name for name in names if not name.startswith("__")]})
    while True:
        try:
            request = receive(reads)
        except EOFError:
            return
        try:
            reply = reply_to(request, names)
        except NotImplementedError:
            reply = {"unfinished": True}
        except BaseException as error:  # noqa: BLE001 - whatever the student's function raises is said to its author
            reply = {"error": f"{type(error).__name__}: {error}"}
        send(writes, reply)


if __name__ == "__main__":
    main()
