"""Lhotse cuts: JSONL.gz of a MonoCut an utterance, a file a split.

Source: lhotse.readthedocs.io (cuts, corpus); lhotse/{cut/mono,supervision,audio/recording}.py. A
cut has one supervision, as long as it is. What a supervision says is relative to its cut, what its
alignment says is relative to the recording. A recording's own length is read from its header.
"""

from __future__ import annotations

import functools
import gzip
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from cslm_data.audio import AudioHeader, probe
from cslm_data.errors import AudioError
from cslm_data.exporting.folders import flat_stem
from cslm_data.exporting.job import Job, Row, local_path, problem_of_address, refusal, split_of
from cslm_data.keys import key64
from cslm_data.records import Reject

_HEADERS = 4096
"""How many headers are kept, so that a long recording with many segments is opened seldom."""
_DIGITS = 8
"""Decimals of seconds that Lhotse keeps."""


class _Known(NamedTuple):
    row: Row
    header: AudioHeader


def write(job: Job) -> None:
    """`<split>.cuts.jsonl.gz` for each split, `all.cuts.jsonl.gz` for what has none."""
    headers = functools.lru_cache(maxsize=_HEADERS)(probe)

    def look(row: Row) -> _Known | Reject:
        try:
            return _Known(row, headers(job.here(row)))
        except AudioError as error:
            return refusal(row, error.reason, error.detail)

    rows = job.sayable(job.rows("export_aligned_utterances"), _problem)
    for split, of_split in itertools.groupby(job.each(rows, look), key=lambda k: split_of(k.row)):
        name = f"{flat_stem(split)}.cuts.jsonl.gz"
        with _open_gzip(job.temporary / name) as stream:
            for row, header in of_split:
                line = _cut(job, row, header)
                stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                job.wrote("utterances", name)


def _problem(row: Row) -> str:
    if problem := problem_of_address(row, remote=True):
        return problem
    if row.num_channels > 1:
        return f"channels: {row.audio} has {row.num_channels}, of which a MonoCut is one"
    return ""


@contextmanager
def _open_gzip(path: Path) -> Iterator[BinaryIO]:
    """A compressed file to write, without time or name in it: equal content is equal bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=5, mtime=0) as stream,
    ):
        yield cast(BinaryIO, stream)


def _cut(job: Job, row: Row, header: AudioHeader) -> dict[str, Any]:
    """The cut; what a rounded duration, which the catalog allows, has beyond the end is cut off."""
    start_s = row.offset_s
    duration_s = min(row.duration_s, header.duration_s - start_s)
    address = job.place(row.audio)
    recording_id = f"{Path(local_path(row.audio)).stem}-{key64(row.audio):016x}"
    return {
        "id": row.utt_id,
        "start": start_s,
        "duration": duration_s,
        "channel": 0,
        "supervisions": [_supervision(row, recording_id, duration_s)],
        "recording": {
            "id": recording_id,
            "sources": [
                {
                    "type": "url" if "://" in address else "file",
                    "channels": [0],
                    "source": address,
                }
            ],
            "sampling_rate": header.sample_rate_hz,
            "num_samples": header.num_frames,
            "duration": header.duration_s,
            "channel_ids": [0],
        },
        "type": "MonoCut",
    }


def _supervision(row: Row, recording_id: str, duration_s: float) -> dict[str, Any]:
    words, phones = row.more
    tiers = {"word": words, "phone": phones}
    alignment = {
        kind: [_item(kind, item, row.offset_s) for item in tier]
        for kind, tier in tiers.items()
        if tier
    }
    custom = {
        name: value
        for name in ("corpus", "kind", "license", "split")
        if (value := getattr(row, name)) is not None
    }
    fields = {
        "id": row.utt_id,
        "recording_id": recording_id,
        "start": 0.0,
        "duration": duration_s,
        "channel": 0,
        "text": row.text,
        "language": row.language,
        "speaker": row.speaker,
        "custom": custom,
        "alignment": alignment or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _item(kind: str, item: dict[str, Any], offset_s: float) -> list[Any]:
    """`[symbol, start, duration, score]`."""
    start_s = round(offset_s + item["start_s"], _DIGITS)
    duration_s = round(item["end_s"] - item["start_s"], _DIGITS)
    return [item[kind], start_s, duration_s, item.get("score")]
