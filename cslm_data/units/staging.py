"""Lines of unit files → one Parquet file, each line checked by itself. Step 1 of importing.

Units are brought to the form the workspace keeps: runs with durations; runs alone where the file
does not say how long they last.
"""

# R runs of units

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.progress import progress
from cslm_data.speech_tokenizer import dedup
from cslm_data.units.formats import BadLine, Line, Source
from cslm_data.workspace import atomic_path

LineKind = Literal["frames", "runs", "durations"]
"""A unit for each frame, runs whose lengths are lost, or runs with durations."""

_STAGED = pa.schema(
    [
        ("line", pa.uint64()),
        ("place", pa.string()),
        ("name", pa.string()),
        ("path", pa.string()),
        ("stem", pa.string()),
        ("units", pa.list_(pa.uint16())),
        ("durations", pa.list_(pa.uint16())),
        ("num_frames", pa.uint64()),
        ("num_samples", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
_ROWS = 2000
_LONGEST_FRAMES = 1 << 26
"""More frames than any utterance has: fifteen days at 50 a second."""
_RECORDING_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".sph")


def stage_lines(
    path: Path,
    sources: Iterator[tuple[Source, LineKind]],
    num_units: int,
) -> None:
    """Write every line of the files, each checked by itself, as a Parquet file."""
    number = itertools.count()
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, _STAGED) as writer,
        progress("read", total=None, unit="line") as bar,
    ):
        for source, kind in sources:
            lines = source.read()
            while batch := list(itertools.islice(lines, _ROWS)):
                rows = [(next(number), *_staged_row(line, kind, num_units)) for line in batch]
                writer.write_table(
                    pa.table(list(map(list, zip(*rows, strict=True))), schema=_STAGED)
                )
                bar.advance(len(batch))


def _staged_row(line: Line | BadLine, kind: LineKind, num_units: int) -> tuple[Any, ...]:
    """The columns after the number of the line."""
    if isinstance(line, BadLine):
        return line.place, line.name, "", "", None, None, 0, None, line.reason, line.detail
    stem = line.name.rsplit("/", 1)[-1]
    for suffix in _RECORDING_SUFFIXES:
        stem = stem.removesuffix(suffix)
    names = line.place, line.name, line.path, stem
    reason, detail = _judge(line, kind, num_units)
    if reason is not None:
        return *names, None, None, 0, line.num_samples, reason, detail
    units_R = line.units_R.astype(np.uint16)
    if kind == "runs":
        return *names, units_R, None, len(units_R), line.num_samples, None, None
    frames = units_R if line.durations_R is None else np.repeat(units_R, line.durations_R)
    units, durations = dedup(frames)
    return *names, units, durations, len(frames), line.num_samples, None, None


def _judge(line: Line, kind: LineKind, num_units: int) -> tuple[str | None, str | None]:
    """Why a line is wrong whatever it is of; None, None if it is not."""
    units_R, durations_R = line.units_R, line.durations_R
    if not len(units_R):
        return "empty", "the line has no units"
    low, high = int(units_R.min()), int(units_R.max())
    if low < 0 or high >= num_units:
        wrong = low if low < 0 else high
        return "unknown_unit", (
            f"unit {wrong}, but the tokenizer has 0 to {num_units - 1}; the file is of another one"
        )
    if durations_R is not None:
        if len(durations_R) != len(units_R):
            return "bad_durations", f"{len(durations_R)} durations for {len(units_R)} units"
        if durations_R.min() < 1 or float(durations_R.astype(float).sum()) > _LONGEST_FRAMES:
            return "bad_durations", "durations are numbers of frames, 1 or more"
    if kind == "runs" and (units_R[1:] == units_R[:-1]).any():
        return "not_runs", (
            "has equal neighbours, so it holds a unit for each frame; say so with --no-dedup"
        )
    return None, None
