"""Units on disk: plans and parts. Reads audio, writes units/<tokenizer_id>/.

`plan-0000.parquet` says which stretches of audio go into which part; `part-0000-00002.parquet`
holds the units of its third part. A plan holds all that its parts need, and a part appears whole
or not at all: a kill at any moment and a second run give the same bytes.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.engines import Worker
from cslm_data.errors import AudioError, StorageError
from cslm_data.speech_tokenizer import Encoded, SpeechTokenizer
from cslm_data.storage import Folder
from cslm_data.units.agreement import Agreement, Probe, measure_agreement
from cslm_data.units.extraction import encode_stretches
from cslm_data.units.stretches import Stretch, cut_by_seconds

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
_PART_SCHEMA = pa.schema(
    [
        ("utt_id", pa.string()),
        ("units", pa.list_(pa.uint16())),
        ("durations", pa.list_(pa.uint16())),
        ("num_frames", pa.uint32()),
        ("audio_version", pa.string()),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)
_PARQUET: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "store_schema": False,
}
"""All that decides the bytes is said, and nothing of the clock or the machine goes in."""

_READERS = 16
"""Parts looked into at once: from another machine each takes its time to come."""


@dataclass(frozen=True)
class Part:
    """A file to write and what goes into it."""

    name: str
    stretches: tuple[Stretch, ...]

    def __str__(self) -> str:
        return self.name


def write_plan(folder: Folder, stretches: Iterable[Stretch], part_seconds: float) -> str:
    """Write the next plan of a folder, in the order given; its name."""
    plan = f"plan-{len(list_plans(folder)):04d}.parquet"
    with (
        folder.writing(plan) as temporary,
        pq.ParquetWriter(temporary, _PLAN_SCHEMA, **_PARQUET) as writer,
    ):
        for index, part in enumerate(cut_by_seconds(stretches, part_seconds)):
            columns = [[index] * len(part), *map(list, zip(*part, strict=True))]
            writer.write_table(pa.table(columns, schema=_PLAN_SCHEMA))
    return plan


def list_plans(folder: Folder) -> list[str]:
    """The plans of a folder, oldest first."""
    return folder.names("plan-*.parquet")


def list_parts(folder: Folder) -> list[str]:
    """The finished parts of a folder."""
    return folder.names("part-*.parquet")


def unfinished_parts(folder: Folder) -> Iterator[Part]:
    """The planned parts that have no file yet, plan by plan."""
    for plan, missing in missing_parts(folder).items():
        with folder.reading(plan) as stream, pq.ParquetFile(stream) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches())
            rows = itertools.chain.from_iterable(batches)
            for index, group in itertools.groupby(rows, key=lambda row: row.pop("part")):
                if index in missing:
                    yield Part(part_name(plan, index), tuple(Stretch(**row) for row in group))


def count_unfinished(folder: Folder) -> int:
    """How many utterances wait in planned parts."""
    return sum(sum(missing.values()) for missing in missing_parts(folder).values())


def forget_rejected(folder: Folder) -> int:
    """Remove the parts that hold refused utterances, so that their plan does them again."""

    def forget(part: str) -> bool:
        with folder.reading(part) as stream:
            reasons = pq.read_table(stream, columns=["reject_reason"])["reject_reason"]
        refused = bool(reasons.null_count < len(reasons))
        if refused:
            folder.remove(part)
        return refused

    with ThreadPoolExecutor(_READERS) as pool:
        return sum(pool.map(forget, list_parts(folder)))


def missing_parts(folder: Folder) -> dict[str, dict[int, int]]:
    """Per plan the parts that have no file yet, and the number of their utterances."""
    there = set(list_parts(folder))
    missing: dict[str, dict[int, int]] = {}
    for plan in list_plans(folder):
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
    stem = plan.removesuffix(".parquet").replace("plan", "part")
    return f"{stem}-{index:05d}.parquet"


def make_encoder(
    tokenizer: SpeechTokenizer, folder: Folder, batch_s: float | None = None
) -> Worker:
    """A worker that writes a part of `folder` and returns the number of its utterances.

    Given a Probe instead of a part, it returns the Agreement measured on it. The tokenizer comes
    with it, so that the machine it works on need not see the workspace. Raises StorageError where
    the folder cannot be seen.
    """
    if not list_plans(folder):
        raise StorageError(
            f"{folder.address}: machine {platform.node()} does not see the plan that lies there; "
            "mount the workspace on every machine under this path, or put the units into an "
            "object store with --units-at"
        )
    # Now, not with the first utterance: the engine limits the threads of what is loaded by then.
    _ = tokenizer.features

    def work(part: Part | Probe) -> int | Agreement:
        if isinstance(part, Probe):
            return measure_agreement(tokenizer, part, batch_s=batch_s)
        encoded = encode_stretches(tokenizer, part.stretches, batch_s=batch_s)
        rows = [_row(*pair) for pair in zip(part.stretches, encoded, strict=True)]
        write_part(folder, part.name, rows)
        return len(part.stretches)

    return work


def write_part(folder: Folder, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a part: its rows in the order of its plan, each with the columns of a part."""
    table = pa.table(list(map(list, zip(*rows, strict=True))), schema=_PART_SCHEMA)
    with folder.writing(name) as temporary:
        pq.write_table(table, temporary, **_PARQUET)


def _row(stretch: Stretch, encoded: Encoded | AudioError) -> tuple[Any, ...]:
    """A row of a part: units, or why there are none."""
    if isinstance(encoded, AudioError):
        return stretch.utt_id, [], [], 0, stretch.audio_version, encoded.reason, encoded.detail
    return stretch.utt_id, *encoded, stretch.audio_version, None, None
