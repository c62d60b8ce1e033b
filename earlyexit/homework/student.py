"""A student's notebook in a process of its own: its functions are called from here, and judged here.

What the student's code does to `earlyexit`, to the checks or to its own process changes nothing of the mark: that is
computed in this process from the values that come back. They are read as tensors and plain values, never as objects.

    python -m earlyexit.homework.student READ_END WRITE_END SECONDS

is the student's process: it runs `answer.ipynb` cell by cell, and then calls its functions as it is asked to.
"""

import ast
import contextlib
import ctypes
import fcntl
import functools
import io
import json
import math
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..checks.verdicts import SlipError, called, pulled

START, LIMIT = 120.0, 5.0  # seconds for the notebook; of the processor for a cell or a call, which may last PATIENCE
PATIENCE = 4  # times that by the clock, and more where the machine has more to do than it has cores
MEMORY, FILE, WRITTEN = 6 << 30, 64 << 20, 256 << 20  # bytes of address space, of a file or a message, of all files
CPU, PROCESSES = 300, 1024  # seconds of processor; processes and threads beside all others (no limit for root)
# Where it is allowed: no network, no other process in sight, and with bubblewrap a file system that can only be read.
BUBBLE = "bwrap --ro-bind / / --dev /dev --proc /proc --unshare-net --unshare-pid --die-with-parent"
ALONE = "unshare --user --map-root-user --net --pid --fork --kill-child --mount-proc"
SKIPPED = ("training", "earlyexit-skip")  # tags of cells that are not run again: trained weights are handed in


class LostError(RuntimeError):
    """The student's process has ended, or does not answer in time."""


class Student:
    """A notebook that was run, and whose functions can be called: a context manager.

    Attributes:
        problems: what the notebook's cells raised, with the number of the cell.
        defined: the names that it has.
        lost: why the process does not answer any more, or None.

    Args:
        start: seconds that the notebook may take.
        limit: seconds of the processor that one cell or one call may take; the clock allows `PATIENCE` times as many,
            and more on a busy machine.
    """

    def __init__(self, notebook: Path, *, start: float = START, limit: float = LIMIT):
        busy = os.getloadavg()[0] / (os.cpu_count() or 1)
        self.limit, self.lost = math.ceil(PATIENCE * limit * max(1.0, busy)), None
        self.folder = Path(tempfile.mkdtemp(prefix="homework-"))
        shutil.copy(notebook, self.folder / "answer.ipynb")
        for weights in notebook.parent.glob("*.safetensors"):  # trained by the student, and handed in with the notebook
            if weights.stat().st_size <= FILE:
                shutil.copy(weights, self.folder)
        ours, theirs = os.pipe(), os.pipe()
        for end in (ours[0], theirs[1]):  # where it is Linux, with room: fewer turns on a busy machine
            with contextlib.suppress(AttributeError, OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
        command = [sys.executable, "-m", "earlyexit.homework.student", str(theirs[0]), str(ours[1]), str(limit)]
        with open(self.folder / "output.txt", "wb") as output:
            self.process = subprocess.Popen(
                [*sandbox(self.folder), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
                pass_fds=(theirs[0], ours[1]), start_new_session=True, preexec_fn=_limit, env=_environment(self.folder),
            )  # fmt: skip
        os.close(theirs[0])
        os.close(ours[1])
        self.reads, self.writes = ours[0], theirs[1]
        os.set_blocking(self.writes, False)  # a process that does not read must not hold this one
        try:
            ready = self._talk(start)
        except LostError:
            self.close()
            raise
        told = (ready.get("problems"), ready.get("defined"))
        self.problems, self.defined = ([*map(str, x)] if isinstance(x, list) else [] for x in told)

    def __enter__(self) -> "Student":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the process with all that it started, and remove its folder."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for _ in range(20):  # what has left the group, and may be having children while it is looked for
            left = list(stragglers(self.folder))
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if not left:
                break
        for end in (self.reads, self.writes):
            os.close(end)
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self, name: str) -> Callable:
        """The student's function of a name, to be called with tensors and plain values, as a check does."""

        def call(*inputs, **named):
            return self._ask({"call": name, "inputs": inputs, "named": named})["value"]

        def pulled(inputs: tuple, to: int) -> tuple[object, Tensor | None]:
            found = self._ask({"call": name, "inputs": inputs, "named": {}, "to": to})
            return found["value"], found["gradient"]

        def counted(*inputs) -> tuple[object, float]:
            found = self._ask({"call": name, "inputs": inputs, "named": {}, "count": True})
            return found["value"], float(found["gmacs"])

        call.pulled, call.counted = pulled, counted
        call.__module__ = "__main__"  # as in the notebook
        return call

    def _ask(self, request: dict) -> dict:
        reply = self._talk(self.limit, request)
        if reply.get("unfinished"):
            raise NotImplementedError
        if "slip" in reply:
            raise SlipError(str(reply["slip"]))
        if "error" in reply:
            raise SlipError(f"your code raised {reply['error']}")
        return reply

    def _talk(self, limit: float, request: dict | None = None) -> dict:
        """Send what is asked, if anything, and wait for the answer, both within the limit."""
        until = time.monotonic() + limit
        try:
            if request is not None:
                with contextlib.suppress(BrokenPipeError):  # it has ended, which is said when its answer is read
                    send(self.writes, request, lambda: self._wait(limit, until, ([], [self.writes], [])))
            return receive(self.reads, lambda: self._wait(limit, until, ([self.reads], [], [])))
        except EOFError:
            self.lost = LostError("your code ended the process that it ran in")
        except LostError as error:
            self.lost = error
        raise self.lost

    def _wait(self, limit: float, until: float, ends: tuple) -> None:
        """Return as soon as there is something to read, or room to write."""
        while time.monotonic() < until:
            if any(select.select(*ends, 0.2)):
                return
            with contextlib.suppress(FileNotFoundError):  # it was there a moment ago
                if sum(path.lstat().st_size for path in self.folder.rglob("*")) > WRITTEN:
                    raise LostError(f"your code writes more than {WRITTEN >> 20} MB")
        raise LostError(f"your code takes longer than {limit:g} seconds")


def sandbox(folder: Path) -> list[str]:
    """What a command begins with to run without a network and to see no other process; nothing where that cannot be.

    With bubblewrap it can also write to `folder` alone.
    """
    here = str(folder)
    for command in ([*BUBBLE.split(), "--bind", here, here, "--chdir", here], ALONE.split()):
        if shutil.which(command[0]) and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


def stragglers(folder: Path) -> Iterator[int]:
    """Processes (Linux) that began with this folder as their home."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # somebody else's, or it has just ended
            if f"HOME={folder}".encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def end_with_parent() -> None:
    """Let the kernel, where it is Linux, end this process as soon as the one that started it has ended."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _limit() -> None:
    """What the student's process may use; it begins with this."""
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = len(list(Path("/proc").glob("[0-9]*/task/*"))) + PROCESSES
    allowed = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if allowed == resource.RLIM_INFINITY or most < allowed:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _environment(folder: Path) -> dict[str, str]:
    """The environment of the student's process: no secrets of the lecturer's, one thread, a home of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def send(end: int, message: dict, wait: Callable[[], None] = lambda: None) -> None:
    """Write a message, tensors and plain values, into a pipe; `wait` is called before each part."""
    held = io.BytesIO()
    torch.save(message, held)
    data = struct.pack("<Q", held.tell()) + held.getvalue()
    while data:
        wait()
        data = data[os.write(end, data) :]


def receive(end: int, wait: Callable[[], None] = lambda: None) -> dict:
    """Read a message from a pipe; `EOFError` if the other side has ended, or sent what is no message."""
    (size,) = struct.unpack("<Q", _read(end, 8, wait))
    if size > FILE:
        raise EOFError
    data = io.BytesIO(_read(end, size, wait))
    try:
        message = torch.load(data, weights_only=True)  # objects are refused: they could run code
    except Exception as error:  # noqa: BLE001 - what is no message raises anything
        raise EOFError from error
    if not isinstance(message, dict):
        raise EOFError
    return message


def _read(end: int, size: int, wait: Callable[[], None]) -> bytes:
    data = bytearray()
    while len(data) < size:
        wait()
        part = os.read(end, size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


# What follows runs in the student's process.


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
    answer, inputs, gradient, gmacs = names.get(request["call"]), request["inputs"], None, 0.0
    if answer is None:
        raise NotImplementedError
    if not callable(answer):
        return {"error": f"{request['call']} should be a function"}
    if "to" in request:
        value, gradient = pulled(answer, inputs, request["to"])
    elif "count" in request:
        value, gmacs = counted(functools.partial(called, answer), *inputs)
    else:
        value = called(answer, *inputs, **request["named"])
    return {"value": detached(value), "gradient": gradient, "gmacs": gmacs}


def counted(answer: Callable, *inputs, **named) -> tuple[object, float]:
    """The value of a function, and its multiply-adds in 10^9."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        value = answer(*inputs, **named)
    return value, counter.get_total_flops() / 2e9


def detached(value):
    """A value as tensors, numbers and words in lists and dicts, which the other side reads without running anything."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return (
            type(value)([detached(one) for one in value]) if type(value) in (list, tuple) else [*map(detached, value)]
        )
    if isinstance(value, dict):
        return {str(key): detached(one) for key, one in value.items()}
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
        except SlipError as slip:
            reply = {"slip": str(slip)}
        except BaseException as error:  # noqa: BLE001 - whatever the student's function raises is said to its author
            lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<cell")]
            where = f" in {lines[-1].filename[1:-1]}, line {lines[-1].lineno}" if lines else ""
            reply = {"error": f"{type(error).__name__}: {error}{where}"[:500]}
        send(writes, reply)


if __name__ == "__main__":
    main()
