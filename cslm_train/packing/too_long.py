"""Samples longer than a pack: left out, cut, or split; and the row that tells of it."""

# Q parts of samples longer than a pack, S tokens of a sample

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cslm_data.workspace import atomic_path

TooLong = Literal["skip", "cut", "split"]


class Part(NamedTuple):
    """A stretch of a sample: `num_positions` tokens from `first` on, each predicts the next."""

    first: int
    num_positions: int


def parts_of(trained_S: NDArray[np.bool_], *, pack_length: int, too_long: TooLong) -> list[Part]:
    """What of a sample goes into packs, given which of its tokens are trained.

    `split`: consecutive stretches as long as a pack and a shorter one at the end, so that every
    token is read and predicted once, though a later part does not see the earlier ones; parts
    where nothing is trained teach nothing and are left out. `cut`: the first of them.
    """
    num_positions = len(trained_S) - 1
    parts = [
        Part(first, min(pack_length, num_positions - first))
        for first in range(0, num_positions, pack_length)
    ]
    if too_long != "split":
        parts = parts[: too_long == "cut"]
    return [p for p in parts if trained_S[p.first + 1 : p.first + p.num_positions + 1].any()]


class PartsFile:
    """Takes samples that are in packs only in parts, as they come."""

    def __init__(self, writer: pq.ParquetWriter, too_long: TooLong) -> None:
        self._writer = writer
        self.too_long = too_long
        self._waiting: list[tuple[str, int, str, int, int]] = []
        self.num_samples = 0

    def add(self, key: str, num_tokens: int, parts: Sequence[Part]) -> None:
        """Write one row."""
        kept = sum(part.num_positions for part in parts)
        self._waiting.append((key, num_tokens, self.too_long, len(parts), kept))
        self.num_samples += 1
        if len(self._waiting) == 10_000:
            self.flush()

    def flush(self) -> None:
        """Hand on what is waiting to be written."""
        columns = zip(*self._waiting, strict=True) if self._waiting else [()] * len(_SCHEMA)
        self._writer.write_table(pa.table([*map(list, columns)], schema=_SCHEMA))
        self._waiting = []


_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("num_tokens", pa.uint32()),
        ("too_long", pa.string()),
        ("num_parts", pa.uint32()),
        ("num_positions", pa.uint32()),
    ]
)


@contextlib.contextmanager
def open_parts(path: Path, too_long: TooLong) -> Iterator[PartsFile]:
    """A file that is there when the block ends well, also when no sample was too long."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as writer:
        file = PartsFile(writer, too_long)
        yield file
        file.flush()
