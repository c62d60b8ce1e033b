"""A student's notebook in a process of its own: its functions are called from here, and judged here.

What the student's code does to `earlyexit`, to the checks or to its own process changes nothing of the mark: that is
computed in this process from the values that come back. They are read as tensors and plain values, never as objects.
"""

import contextlib
import io
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..checks.verdicts import SlipError

START, CALL = 120.0, 10.0  # seconds for the notebook as a whole, and for one call of a function
MEMORY, DISK, CPU = 6 << 30, 64 << 20, 300  # bytes of address space, bytes of a file, seconds of processor
# Where it is allowed: no network, no other process in sight, a file system that can only be read.
SANDBOX = (
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--unshare-net",
    "--unshare-pid",
    "--die-with-parent",
)


class LostError(RuntimeError):
    """The student's process has ended, or does not answer in time."""


class Student:
    """A notebook that was run, and whose functions can be called: a context manager.

    Attributes:
        problems: what the notebook's cells raised, with the number of the cell.
        defined: the names that it has.
        lost: why the process does not answer any more, or None.

    Args:
        notebook: the file that was handed in.
        start, call: seconds that the notebook and one call may take.
    """

    def __init__(self, notebook: Path, *, start: float = START, call: float = CALL):
        self.limit, self.lost = call, None
        self.folder = Path(tempfile.mkdtemp(prefix="homework-"))
        shutil.copy(notebook, self.folder / "answer.ipynb")
        for weights in notebook.parent.glob("*.safetensors"):  # trained by the student, and handed in with the notebook
            if weights.stat().st_size <= DISK:
                shutil.copy(weights, self.folder)
        ours, theirs = os.pipe(), os.pipe()
        with open(self.folder / "output.txt", "wb") as output:
            self.process = subprocess.Popen(
                [*sandbox(self.folder), sys.executable, "-m", f"{__package__}.worker", str(theirs[0]), str(ours[1])],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
                pass_fds=(theirs[0], ours[1]), start_new_session=True, preexec_fn=_limit, env=_environment(self.folder),
            )  # fmt: skip
        os.close(theirs[0])
        os.close(ours[1])
        self.reads, self.writes = ours[0], theirs[1]
        try:
            ready = self._receive(start)
        except LostError:
            self.close()
            raise
        self.problems, self.defined = ready["problems"], ready["defined"]

    def __enter__(self) -> "Student":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the process with all that it started, and remove its folder."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
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

        call.pulled = pulled
        call.__module__ = "__main__"  # as in the notebook
        return call

    def _ask(self, request: dict) -> dict:
        with contextlib.suppress(BrokenPipeError):  # the process has ended, which is said when its answer is read
            send(self.writes, request)
        reply = self._receive(self.limit)
        if reply.get("unfinished"):
            raise NotImplementedError
        if "error" in reply:
            raise RuntimeError(reply["error"])
        if reply["changed"]:
            raise SlipError(f"your function changes its input number {reply['changed'][0] + 1}: work on a copy")
        return reply

    def _receive(self, limit: float) -> dict:
        try:
            if not select.select([self.reads], [], [], limit)[0]:
                raise LostError(f"your code takes longer than {limit:g} seconds")
            return receive(self.reads)
        except EOFError:
            self.lost = LostError("your code ended the process that it ran in")
        except LostError as error:
            self.lost = error
        raise self.lost


def sandbox(folder: Path) -> list[str]:
    """What a command begins with to run without a network and write to `folder` alone; nothing where that cannot be."""
    tool = shutil.which("bwrap")
    if not tool:
        return []
    command = [tool, *SANDBOX, "--bind", str(folder), str(folder), "--chdir", str(folder)]
    works = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if works else []


def _limit() -> None:
    """What the student's process may use; it begins with this."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _environment(folder: Path) -> dict[str, str]:
    """The environment of the student's process: no secrets of the lecturer's, one thread, a home of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def send(end: int, message: dict) -> None:
    """Write a message, tensors and plain values, into a pipe."""
    held = io.BytesIO()
    torch.save(message, held)
    data = struct.pack("<Q", held.tell()) + held.getvalue()
    while data:
        data = data[os.write(end, data) :]


def receive(end: int) -> dict:
    """Read a message from a pipe; `EOFError` if the other side has ended, or sent what is no message."""
    (size,) = struct.unpack("<Q", _read(end, 8))
    if size > DISK:
        raise EOFError
    try:
        message = torch.load(
            io.BytesIO(_read(end, size)), weights_only=True
        )  # objects are refused: they could run code
    except Exception as error:  # noqa: BLE001 - what is no message raises anything
        raise EOFError from error
    if not isinstance(message, dict):
        raise EOFError
    return message


def _read(end: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(end, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data
