"""A run's files after each epoch: what resuming needs, the log, the weights."""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from torch import nn

from ..files import write_whole
from ..weights import save_weights


def save_checkpoint(
    out: Path, parts: dict, rows: Sequence[dict], model: nn.Module, about: dict | None, pending: dict | None = None
) -> None:
    """Write the log, the weights and, last, the checkpoint that makes the epoch count as done.

    Args:
        out: the run's folder.
        parts: what has a state to be restored, by name; None for what a run does not have.
        rows: the log.
        model: goes into `model.safetensors`.
        about: see `save_weights`.
        pending: the row of an epoch whose steps are done, but not yet what comes after them: it is not in the log.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the checkpoint before is then untouched.
    """
    state = {name: part.state_dict() for name, part in parts.items() if part is not None}
    state |= {"rows": list(rows), "pending": pending}
    try:
        if rows:
            write_whole(out / "log.csv", lambda path: _write_rows(path, rows))
        save_weights(model, out / "model.safetensors", about=about)
        write_whole(out / "checkpoint.pt", lambda path: torch.save(state, path))
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own word for a full disk
        epoch = len(rows) + (pending is not None)
        raise OSError(
            f"epoch {epoch} cannot be written to {str(out)!r} ({error}); what was there before is whole: make room "
            "and go on with --resume"
        ) from error


def load_checkpoint(path: Path, parts: dict) -> tuple[list[dict[str, float]], dict[str, float] | None]:
    """Restore `parts` from a checkpoint; gives its rows and the pending one, see `save_checkpoint`.

    No rows if there is no file.

    Raises:
        ValueError: if the file is not a whole checkpoint, or that of another run.
    """
    if not path.exists():
        return [], None
    if not zipfile.is_zipfile(path):  # which is what torch.save writes, with the list of its content at the end
        raise ValueError(f"{str(path)!r} is no checkpoint or only a part of one: remove it to start again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        if not isinstance(state["rows"], list):
            raise TypeError(f"its rows must be a list, got {state['rows']!r}")
        return state["rows"], state.get("pending")  # which older runs do not have
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0][:200]
        raise ValueError(f"{str(path)!r} is not a checkpoint of this run ({type(error).__name__}: {what})") from error


def remove_half_written(out: Path) -> None:
    """Remove what a run that was killed while it wrote has left in its folder."""
    for path in [*out.glob(".*.tmp"), *out.glob("*/.*.tmp")]:
        path.unlink(missing_ok=True)


def _write_rows(path: Path, rows: Sequence[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
