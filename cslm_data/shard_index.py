"""What lies where in a shard: `<shard>.tar.idx.parquet`, a row for each sample, in order.

`ShardFile` reads samples through it without parsing the tar, and SQL sees it as `sample_places`.
By what the shard was made stands in the metadata of the file. The bytes depend on the rows alone.
"""

# N samples of a shard

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.workspace import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_VERSION = 1
INDEX_SUFFIX = ".idx.parquet"

_OLD_SUFFIX = ".idx.json"
_HEAD = b"cslm"
"""Under this name the metadata of the file hold version and identity, as JSON."""
_AGAIN = "build the mix again: cslm-data build-mix --overwrite"
_PARQUET: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "store_schema": False,
}
"""All that decides the bytes is said, and nothing of the clock or the machine goes in."""

_PLACES = ("json_offset", "json_bytes", "units_offset", "units_bytes", "num_units")

Places = NDArray[np.int64]


class IndexEntry(NamedTuple):
    """Where one sample lies: offset and size in bytes of the data of its members."""

    key: str
    task: str
    languages: str
    json: tuple[int, int]
    units: tuple[int, int] | None
    num_units: int
    checksum: int
    """xxHash64 of the JSON and the units member, one after the other."""


@dataclass(frozen=True, kw_only=True)
class ShardIdentity:
    """Which shard it is and by what it was made."""

    shard: str
    split: str
    tokenizer_id: str
    num_units: int
    """Units of the speech tokenizer: each unit of the shard is smaller."""
    template_version: str
    text_tokenizer_id: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex(ShardIdentity):
    """The identity of a shard and where each of its samples lies."""

    keys: tuple[str, ...]
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    json_offset_N: Places
    json_bytes_N: Places
    units_offset_N: Places
    """0 where a sample has no units."""
    units_bytes_N: Places
    num_units_N: Places
    checksum_N: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def entry(self, position: int) -> IndexEntry:
        """The row of one sample."""
        units_offset = int(self.units_offset_N[position])
        return IndexEntry(
            key=self.keys[position],
            task=self.tasks[position],
            languages=self.languages[position],
            json=(int(self.json_offset_N[position]), int(self.json_bytes_N[position])),
            units=(units_offset, int(self.units_bytes_N[position])) if units_offset else None,
            num_units=int(self.num_units_N[position]),
            checksum=int(self.checksum_N[position]),
        )

    @property
    def samples(self) -> tuple[IndexEntry, ...]:
        """The row of every sample."""
        return tuple(map(self.entry, range(len(self))))

    def position(self, key: str) -> int | None:
        """Where in the shard a key comes, None where it does not."""
        return self._positions.get(key)

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self.keys)}


def index_path(shard: Path) -> Path:
    """Where the index of a shard lies."""
    return shard.with_name(shard.name + INDEX_SUFFIX)


def write_index(shard: Path, identity: ShardIdentity, entries: Sequence[IndexEntry]) -> None:
    """Write the index of a shard, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    nothing = (None, None)
    table = pa.table(
        {
            "key": [e.key for e in entries],
            "task": [e.task for e in entries],
            "languages": [e.languages for e in entries],
            "json_offset": [e.json[0] for e in entries],
            "json_bytes": [e.json[1] for e in entries],
            "units_offset": [(e.units or nothing)[0] for e in entries],
            "units_bytes": [(e.units or nothing)[1] for e in entries],
            "num_units": [e.num_units for e in entries],
            "checksum": [e.checksum for e in entries],
        },
        schema=_schema(),
    )
    head = json.dumps({"version": INDEX_VERSION, **asdict(identity)})
    with (
        atomic_path(index_path(shard)) as temporary,
        pq.ParquetWriter(temporary, table.schema, **_PARQUET) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata({_HEAD: head})


def read_index(shard: Path) -> ShardIndex:
    """The index of a shard. Raises MissingArtefactError, CorruptArtefactError."""
    identity, columns = read_index_table(shard)
    return ShardIndex(
        **asdict(identity),
        keys=tuple(_strings(columns["key"])),
        tasks=tuple(_strings(columns["task"])),
        languages=tuple(_strings(columns["languages"])),
        checksum_N=columns["checksum"].to_numpy(),
        **{f"{name}_N": columns[name].to_numpy().astype(np.int64) for name in _PLACES},
    )


def read_index_table(shard: Path) -> tuple[ShardIdentity, pa.Table]:
    """The same as it lies in the file: a row for each sample, in order, and no number missing.

    Raises MissingArtefactError, CorruptArtefactError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = index_path(shard)
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            table = file.read(use_threads=False)
            head = json.loads((file.metadata.metadata or {})[_HEAD])
        version = head.pop("version")
        if version != INDEX_VERSION:
            raise CorruptArtefactError(
                f"{path}: an index of version {version}, this program reads {INDEX_VERSION}; "
                f"{_AGAIN}"
            )
        identity = ShardIdentity(**head)
        table = table.select(_schema().names).cast(_schema()).combine_chunks()
        for number, name in enumerate(table.column_names):
            if name in _PLACES:
                table = table.set_column(number, name, table[name].fill_null(0))
            elif table[name].null_count:
                raise ValueError(f"a {name} is missing")
        return identity, table
    except FileNotFoundError:
        if shard.with_name(shard.name + _OLD_SUFFIX).exists():
            raise MissingArtefactError(
                f"{path}: no such index; this mix was made by an earlier version of cslm-data; "
                f"{_AGAIN}"
            ) from None
        raise MissingArtefactError(f"{path}: no such index; {_AGAIN}") from None
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as error:
        raise CorruptArtefactError(f"{path}: not a shard index ({error}); {_AGAIN}") from None


@functools.cache
def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("task", pa.string()),
            ("languages", pa.string()),
            ("json_offset", pa.uint64()),
            ("json_bytes", pa.uint32()),
            ("units_offset", pa.uint64()),
            ("units_bytes", pa.uint32()),
            ("num_units", pa.uint32()),
            ("checksum", pa.uint64()),
        ]
    )


def _strings(column: Any) -> list[str]:
    strings: list[str] = column.to_numpy(zero_copy_only=False).tolist()
    return strings
