"""A run's files after each epoch: what resuming needs, the log, the weights."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from .files import write_whole
from .weights import save_weights


def save_checkpoint(out: Path, parts: dict, rows: Sequence[dict], about: dict | None = None) -> None:
    """Write the log, the weights and, last, the checkpoint that makes the epoch count as done."""
    state = {name: part.state_dict() for name, part in parts.items()} | {"rows": list(rows)}
    write_whole(out / "log.csv", lambda path: _write_rows(path, rows))
    save_weights(parts["model"], out / "model.safetensors", about=about)
    write_whole(out / "checkpoint.pt", lambda path: torch.save(state, path))


def load_checkpoint(path: Path, parts: dict) -> list[dict[str, float]]:
    """Restore `parts` from a checkpoint and give the rows of the epochs that are done; none if there is no file."""
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["rows"]


def _write_rows(path: Path, rows: Sequence[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
