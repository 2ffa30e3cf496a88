"""Plans and parts: how work over all the speech lies on disk, of units and of measures alike.

`plan-0000.parquet` says which stretches of audio go into which part; `part-0000-00002.parquet`
holds what was made of its third part. A plan holds all that its parts need, and a part appears
whole or not at all: a kill at any moment and a second run give the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.storage import Folder
from cslm_data.units.stretches import Stretch

_PLAN_SCHEMA = pa.schema(
    [
        ("part", pa.uint32()),
        ("utt_id", pa.string()),
        ("audio", pa.string()),
        ("offset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("language", pa.string()),
        ("audio_version", pa.string()),
    ]
)
_TEXT = pa.field("text", pa.string())
"""A further column of plans whose parts need the transcripts, too."""
_PARQUET: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "store_schema": False,
}
"""All that decides the bytes is said, and nothing of the clock or the machine goes in."""

PLANS, PARTS = "plan-*.parquet", "part-*.parquet"

_READERS = 16
"""Parts looked into at once: from another machine each takes its time to come."""


@dataclass(frozen=True)
class Part:
    """A file to write and what goes into it."""

    plan: str
    index: int
    stretches: tuple[Stretch, ...]

    @property
    def name(self) -> str:
        """Of the file."""
        return part_name(self.plan, self.index)

    def __str__(self) -> str:
        return self.name


def next_plan(folder: Folder) -> str:
    """Name of a new plan of a folder."""
    return f"plan-{len(list_plans(folder)):04d}.parquet"


def write_plan(
    folder: Folder,
    plan: str,
    parts: Iterable[tuple[int, Sequence[Stretch]]],
    *,
    with_text: bool = False,
) -> None:
    """Write a plan: the stretches of each part with its index, which only grows."""
    schema = _PLAN_SCHEMA.append(_TEXT) if with_text else _PLAN_SCHEMA
    with (
        folder.writing(plan) as temporary,
        pq.ParquetWriter(temporary, schema, **_PARQUET) as writer,
    ):
        for index, part in parts:
            stretches = [list(column) for column in zip(*part, strict=True)]
            columns = [[index] * len(part), *stretches[: len(schema) - 1]]
            writer.write_table(pa.table(columns, schema=schema))


def list_plans(folder: Folder, pattern: str = PLANS) -> list[str]:
    """The plans of a folder, oldest first."""
    return folder.names(pattern)


def list_parts(folder: Folder, pattern: str = PARTS) -> list[str]:
    """The finished parts of a folder."""
    return folder.names(pattern)


def unfinished_parts(folder: Folder, plans: str = PLANS) -> Iterator[Part]:
    """The planned parts that have no file yet, plan by plan and by index."""
    for plan, missing in missing_parts(folder, plans).items():
        with folder.reading(plan) as stream, pq.ParquetFile(stream) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches())
            rows = itertools.chain.from_iterable(batches)
            for index, group in itertools.groupby(rows, key=lambda row: row.pop("part")):
                if index in missing:
                    yield Part(plan, index, tuple(Stretch(**row) for row in group))


def count_unfinished(folder: Folder) -> int:
    """How many utterances wait in planned parts."""
    return sum(sum(missing.values()) for missing in missing_parts(folder).values())


def forget_rejected(folder: Folder, pattern: str = PARTS) -> int:
    """Remove the parts that hold refused utterances, so that their plan does them again."""

    def forget(part: str) -> bool:
        with folder.reading(part) as stream:
            reasons = pq.read_table(stream, columns=["reject_reason"])["reject_reason"]
        refused = bool(reasons.null_count < len(reasons))
        if refused:
            folder.remove(part)
        return refused

    with ThreadPoolExecutor(_READERS) as pool:
        return sum(pool.map(forget, list_parts(folder, pattern)))


def missing_parts(folder: Folder, plans: str = PLANS) -> dict[str, dict[int, int]]:
    """Per plan the parts that have no file yet, and the number of their utterances."""
    there = set(list_parts(folder))
    missing: dict[str, dict[int, int]] = {}
    for plan in list_plans(folder, plans):
        with folder.reading(plan) as stream:
            parts = pq.read_table(stream, columns=["part"])["part"].to_numpy()
        indices, sizes = np.unique(parts, return_counts=True)
        counts = dict(zip(indices.tolist(), sizes.tolist(), strict=True))
        waiting = {i: n for i, n in counts.items() if part_name(plan, i) not in there}
        if waiting:
            missing[plan] = waiting
    return missing


def part_name(plan: str, index: int) -> str:
    """`plan-0002.parquet`, 17 → `part-0002-00017.parquet`."""
    stem = plan.removesuffix(".parquet").removeprefix("plan-")
    return f"part-{stem}-{index:05d}.parquet"


def write_part(
    folder: Folder, name: str, rows: Sequence[tuple[Any, ...]], schema: pa.Schema
) -> None:
    """Write a part: its rows in the order of its plan, each with the columns of the schema."""
    table = pa.table(list(map(list, zip(*rows, strict=True))), schema=schema)
    with folder.writing(name) as temporary:
        pq.write_table(table, temporary, **_PARQUET)
