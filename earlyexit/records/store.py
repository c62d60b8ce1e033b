"""Where a collection keeps what it has finished, so that a killed one goes on where it stopped."""

import shutil
from pathlib import Path

from .describe import check_same
from .record import ExitRecords, join_records


class Store:
    """The file that a collection ends as, and a folder beside it with the chunks that are finished.

    Args:
        path: the file; None keeps nothing on disk.
        about: what the records are made of; what lies at `path` already must be made of the same.
    """

    def __init__(self, path: Path | None, about: dict):
        self.path, self.about = path, about
        self.chunks: dict[int, ExitRecords] = {}
        self.finished: ExitRecords | None = None
        if path is None:
            return
        if path.exists():
            self.finished = self._checked(path)
            shutil.rmtree(self.folder, ignore_errors=True)  # a collection killed at its very end leaves it
        else:
            self.chunks = {int(file.stem): self._checked(file) for file in self.folder.glob("[0-9]*.safetensors")}

    @property
    def folder(self) -> Path:
        """The folder of the chunks."""
        return self.path.with_name(self.path.name + ".chunks")

    def lacks(self, number: int) -> bool:
        """Whether chunk `number` still has to be made."""
        return self.finished is None and number not in self.chunks

    def add(self, number: int, records: ExitRecords) -> None:
        """Keep a chunk."""
        self.chunks[number] = records
        if self.path is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            records.save(self.folder / f"{number:05d}.safetensors")

    def finish(self) -> ExitRecords:
        """All chunks as one; the file takes the place of the folder."""
        if self.finished is None:
            self.finished = join_records([self.chunks[number] for number in sorted(self.chunks)])
            if self.path is not None:
                self.finished.save(self.path)
                shutil.rmtree(self.folder, ignore_errors=True)
        return self.finished

    def _checked(self, path: Path) -> ExitRecords:
        records = ExitRecords.load(path)
        check_same(records.about, self.about, path)
        return records
