"""What happened to the records that could not be taken as they were: dropped or mended, each with its reason."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from ...files import write_whole


@dataclass
class Report:
    """Files or records that were dropped or mended while a data set was prepared, in the order of the events.

    A reason is "what is wrong" or "what is wrong: the details"; `counts` and `lines` group by what stands before the
    first ": ".

    Attributes:
        dropped: (file or record, reason) of everything that was left out.
        mended: (file or record, what was done) of everything that was put right.
    """

    dropped: list[tuple[str, str]] = field(default_factory=list)
    mended: list[tuple[str, str]] = field(default_factory=list)

    def drop(self, file: str, reason: str) -> None:
        """Note that a file or record is left out."""
        self.dropped.append((str(file), reason))

    def mend(self, file: str, what: str) -> None:
        """Note that a file or record was put right."""
        self.mended.append((str(file), what))

    def extend(self, other: "Report") -> None:
        """Take over everything from another report."""
        self.dropped += other.dropped
        self.mended += other.mended

    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason, without its details, the most frequent first."""
        return {reason: len(files) for reason, files in _groups(self.dropped)}

    def lines(self, limit: int = 10) -> list[str]:
        """The report for people: each reason with its count and, indented, at most `limit` files with details."""
        found = []
        for action, entries in (("dropped", self.dropped), ("mended", self.mended)):
            for reason, files in _groups(entries):
                found.append(f"{action}, {reason}: {len(files)}")
                found += [f"  {file}" for file in files[:limit]]
                if len(files) > limit:
                    found.append(f"  and {len(files) - limit} more")
        return found

    def check_strict(self, limit: int = 10) -> None:
        """`ValueError` that lists the first `limit` if anything was dropped."""
        if not self.dropped:
            return
        listed = [f"{file}: {reason}" for file, reason in self.dropped[:limit]]
        more = [f"and {len(self.dropped) - limit} more"] if len(self.dropped) > limit else []
        raise ValueError("\n  ".join([f"{len(self.dropped)} cannot be used:", *listed, *more]))

    def write(self, path: str | Path) -> Path:
        """Write a CSV with the columns file, action (dropped or mended) and reason; whole or not at all."""
        return write_whole(path, self._write_csv)

    def _write_csv(self, path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("file", "action", "reason"))
            rows.writerows((name, "dropped", reason) for name, reason in self.dropped)
            rows.writerows((name, "mended", what) for name, what in self.mended)


def _groups(entries: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Reasons with their files, the most frequent first; details follow the file in brackets."""
    groups = defaultdict(list)
    for file, reason in entries:
        kind, _, details = reason.partition(": ")
        groups[kind].append(f"{file} ({details})" if details else file)
    return sorted(groups.items(), key=lambda group: -len(group[1]))
