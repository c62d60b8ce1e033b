"""Tables as CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ..files import write_whole


def write_table(path: Path, rows: Sequence[dict]) -> None:
    """Write rows with the same keys as CSV, whole or not at all; None becomes an empty field."""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def read_table(path: str | Path) -> list[dict]:
    """Read what `write_table` wrote: numbers as numbers, empty fields as None."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> float | int | str | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text or None
