"""Plans and parts of a job of synthesis, as units/parts.py has them of recordings.

`plan-0000.parquet` says which texts go into which part and in which voices. A part is two files:
`part-0000-00002.pack` holds what was spoken, one FLAC after the other, and
`part-0000-00002.parquet` says what lies where; it is written last, and makes the part done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.storage import LocalFolder
from cslm_data.units.parts import missing_parts, part_name, write_part
from cslm_data.workspace import atomic_path

PLANS, PARTS = "plan-*.parquet", "part-*.parquet"

_TURN = [("role", pa.string()), ("language", pa.string()), ("text", pa.string())]
_TURN += [("voice", pa.string())]
_ITEM = [(name, pa.string()) for name in ("id", "version", "corpus")]
_ITEM += [(name, pa.string()) for name in ("license", "split", "parallel_id")]
_PLAN_SCHEMA = pa.schema([("part", pa.uint32()), *_ITEM, ("turns", pa.list_(pa.struct(_TURN)))])
_PLACE = [("start", pa.uint64()), ("length", pa.uint64()), ("duration_s", pa.float64())]
_PLACE += [("sample_rate_hz", pa.int32())]
PART_SCHEMA = pa.schema(
    [
        *_ITEM,
        ("turns", pa.list_(pa.struct([*_TURN, *_PLACE]))),
        ("made_by", pa.string()),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)
_SECONDS_PER_BYTE = 0.07
"""About what a byte of text takes to be said, in Latin letters as in Hanzi of three bytes."""


class PlannedTurn(TypedDict):
    """A text and the voice that speaks it; without a voice it stays text."""

    role: str
    language: str
    text: str
    voice: str | None


class Item(NamedTuple):
    """A row of the catalog to speak: a dialogue, a translation, a transcript."""

    id: str
    version: str
    """Hash of its texts."""
    corpus: str
    license: str | None
    split: str | None
    parallel_id: str | None
    turns: list[PlannedTurn]

    @property
    def seconds(self) -> float:
        """About how long its speech will be."""
        spoken = (turn["text"] for turn in self.turns if turn["voice"] is not None)
        return sum(len(text.encode("utf-8", "replace")) for text in spoken) * _SECONDS_PER_BYTE


@dataclass(frozen=True)
class SpeechPart:
    """A part to write and what goes into it."""

    plan: str
    index: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """Of its Parquet file."""
        return part_name(self.plan, self.index)


def write_speech_plan(
    folder: LocalFolder, plan: str, items: Iterable[Item], *, part_seconds: float
) -> int:
    """Write a plan of items in their order, parts of about so much speech; returns how many."""
    number = 0
    with (
        folder.writing(plan) as temporary,
        pq.ParquetWriter(temporary, _PLAN_SCHEMA, compression="zstd", store_schema=False) as writer,
    ):
        for index, part in enumerate(_cut(items, part_seconds)):
            rows = [{"part": index, **item._asdict()} for item in part]
            writer.write_table(pa.Table.from_pylist(rows, _PLAN_SCHEMA))
            number += len(part)
    return number


def unfinished_speech(folder: LocalFolder) -> Iterator[SpeechPart]:
    """The planned parts that are not done, plan by plan and by index."""
    for plan, missing in missing_parts(folder).items():
        with folder.reading(plan) as stream, pq.ParquetFile(stream) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches())
            rows = itertools.chain.from_iterable(batches)
            for index, group in itertools.groupby(rows, key=lambda row: row.pop("part")):
                if index in missing:
                    yield SpeechPart(plan, index, tuple(Item(**row) for row in group))


def write_speech_part(
    folder: LocalFolder, name: str, rows: Sequence[tuple[Any, ...]], sounds: Iterable[bytes]
) -> None:
    """Write a part: the sounds one after the other, then what lies where."""
    with atomic_path(folder.path / pack_name(name)) as temporary, temporary.open("wb") as stream:
        for sound in sounds:
            stream.write(sound)
    write_part(folder, name, rows, PART_SCHEMA)


def pack_name(part: str) -> str:
    """`part-0000-00002.parquet` → `part-0000-00002.pack`."""
    return part.removesuffix(".parquet") + ".pack"


def _cut(items: Iterable[Item], seconds: float) -> Iterator[list[Item]]:
    """Runs of neighbours, each ended by the item that fills it."""
    part: list[Item] = []
    filled_s = 0.0
    for item in items:
        part.append(item)
        filled_s += item.seconds
        if filled_s >= seconds:
            yield part
            part, filled_s = [], 0.0
    if part:
        yield part
