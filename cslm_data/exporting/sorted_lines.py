"""Lines that come in any order and are wanted each once, in that of their keys; kept on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

_SCHEMA = pa.schema([("key", pa.string()), ("line", pa.string())])
_ROWS = 50_000
_MEMORY = "1GB"


class SortedLines:
    """Holds what is added in a folder that is gone when the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "lines.parquet"
        self._waiting: list[tuple[str, str]] = []

    def __enter__(self) -> SortedLines:
        self._folder.mkdir()
        self._writer = pq.ParquetWriter(self._file, _SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import shutil

        self._writer.close()
        shutil.rmtree(self._folder)

    def add(self, key: str, line: str) -> None:
        """Take a line; neighbours that are equal are kept once."""
        if self._waiting and self._waiting[-1] == (key, line):
            return
        self._waiting.append((key, line))
        if len(self._waiting) == _ROWS:
            self._flush()

    def in_order(self) -> Iterator[tuple[str, str]]:
        """What was added, by the bytes of the keys. Nothing can be added after."""
        self._flush()
        self._writer.close()
        with duckdb.connect() as connection:
            connection.execute("set memory_limit = ?", [_MEMORY])
            connection.execute("set temp_directory = ?", [str(self._folder / "spill")])
            query = "select distinct key, line from read_parquet(?) order by key, line"
            result = connection.execute(query, [str(self._file)])
            while rows := result.fetchmany(_ROWS):
                yield from rows

    def _flush(self) -> None:
        keys, lines = zip(*self._waiting, strict=True) if self._waiting else ((), ())
        self._writer.write_table(pa.table([keys, lines], schema=_SCHEMA))
        self._waiting = []
