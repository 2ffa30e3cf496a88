"""Rejects of the stages that leave files: Parquet with the columns of the view `rejects`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.records import Reject
from cslm_data.workspace import atomic_path

_SCHEMA = pa.schema([(field.name, pa.string()) for field in dataclasses.fields(Reject)])
_ROWS = 10_000


class RejectFile:
    """Takes what is refused as it comes; keeps no more than the counts."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[Reject] = []
        self.reasons: Counter[str] = Counter()

    def add(self, reject: Reject) -> None:
        """Write one row."""
        self.reasons[reject.reason] += 1
        self._waiting.append(reject)
        if len(self._waiting) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Hand on what is waiting to be written."""
        rows = [dataclasses.asdict(reject) for reject in self._waiting]
        self._writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
        self._waiting = []


@contextlib.contextmanager
def open_rejects(path: Path) -> Iterator[RejectFile]:
    """A file that is there when the block ends well, also when nothing was refused."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink()
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA) as writer,
    ):
        file = RejectFile(writer)
        yield file
        file.flush()


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write what was refused, in order; the file is there also when nothing was."""
    with open_rejects(path) as file:
        for reject in rejects:
            file.add(reject)
