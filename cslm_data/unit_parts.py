"""Units on disk: plans and parts. Reads audio, writes units/<tokenizer_id>/.

`plan-0000.parquet` says which stretches of audio go into which part; `part-0000-00002.parquet`
holds the units of its third part. A plan holds all that its parts need, and a part appears whole
or not at all: a kill at any moment and a second run give the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data import tokenizer_folders
from cslm_data.engines import Worker
from cslm_data.errors import AudioError
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.stretches import Stretch, cut_by_seconds
from cslm_data.workspace import atomic_path

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


@dataclass(frozen=True)
class Part:
    """A file to write and what goes into it."""

    path: Path
    stretches: tuple[Stretch, ...]


def write_plan(folder: Path, stretches: Iterable[Stretch], part_seconds: float) -> Path:
    """Write the next plan of a folder, in the order given."""
    path = folder / f"plan-{len(list_plans(folder)):04d}.parquet"
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, _PLAN_SCHEMA, **_PARQUET) as writer,
    ):
        for index, part in enumerate(cut_by_seconds(stretches, part_seconds)):
            columns = [[index] * len(part), *map(list, zip(*part, strict=True))]
            writer.write_table(pa.table(columns, schema=_PLAN_SCHEMA))
    return path


def list_plans(folder: Path) -> list[Path]:
    """The plans of a folder, oldest first."""
    return sorted(folder.glob("plan-*.parquet"))


def unfinished_parts(folder: Path) -> Iterator[Part]:
    """The planned parts that have no file yet, plan by plan."""
    for plan in list_plans(folder):
        missing = _missing_parts(plan)
        if not missing:
            continue
        with pq.ParquetFile(plan) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches())
            rows = itertools.chain.from_iterable(batches)
            for index, group in itertools.groupby(rows, key=lambda row: row.pop("part")):
                if index in missing:
                    yield Part(_part_path(plan, index), tuple(Stretch(**row) for row in group))


def count_unfinished(folder: Path) -> int:
    """How many utterances wait in planned parts."""
    return sum(sum(_missing_parts(plan).values()) for plan in list_plans(folder))


def forget_rejected(folder: Path) -> int:
    """Remove the parts that hold refused utterances, so that their plan does them again."""
    forgotten = 0
    for path in sorted(folder.glob("part-*.parquet")):
        reasons = pq.read_table(path, columns=["reject_reason"])["reject_reason"]
        if reasons.null_count < len(reasons):
            path.unlink()
            forgotten += 1
    return forgotten


def _missing_parts(plan: Path) -> dict[int, int]:
    """Parts of a plan that have no file yet, and the number of their utterances."""
    indices, sizes = np.unique(
        pq.read_table(plan, columns=["part"])["part"].to_numpy(), return_counts=True
    )
    there = {path.name for path in plan.parent.glob("part-*.parquet")}
    return {
        int(index): int(size)
        for index, size in zip(indices, sizes, strict=True)
        if _part_path(plan, int(index)).name not in there
    }


def _part_path(plan: Path, index: int) -> Path:
    return plan.with_name(f"{plan.stem.replace('plan', 'part')}-{index:05d}.parquet")


def make_encoder(tokenizer_folder: Path, *, device: str, dtype: str) -> Worker:
    """A worker that writes a part and returns the number of its utterances."""
    tokenizer = tokenizer_folders.load(tokenizer_folder, device=device, dtype=dtype)
    # Now, not with the first utterance: the engine limits the threads of what is loaded by then.
    _ = tokenizer.features

    def work(part: Part) -> int:
        _write_part(tokenizer, part)
        return len(part.stretches)

    return work


def _write_part(tokenizer: SpeechTokenizer, part: Part) -> None:
    rows = [_encode(tokenizer, stretch) for stretch in part.stretches]
    table = pa.table(list(map(list, zip(*rows, strict=True))), schema=_PART_SCHEMA)
    with atomic_path(part.path) as temporary:
        pq.write_table(table, temporary, **_PARQUET)


def _encode(tokenizer: SpeechTokenizer, stretch: Stretch) -> tuple[Any, ...]:
    """A row of a part: units, or why there are none."""
    try:
        units, durations, num_frames = tokenizer.encode(stretch.waveform())
    except AudioError as error:
        return stretch.utt_id, [], [], 0, stretch.audio_version, error.reason, error.detail
    return stretch.utt_id, units, durations, num_frames, stretch.audio_version, None, None
