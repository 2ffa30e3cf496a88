"""Findings of audits → short clips of the utterances they name, small enough to lie in a page.

MP3, because every browser plays it. A clip is what the catalog's stretch of the recording sounds
like, as loud as it is; audio that cannot be read becomes a note.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cslm_data.audio import SAMPLE_RATE_HZ, audio_version, decode
from cslm_data.auditing.results import AuditResult
from cslm_data.catalog import Connection, read_sql
from cslm_data.errors import AudioError
from cslm_data.keys import key64

MAX_CLIP_S = 5.0
MAX_TOTAL_BYTES = 8 << 20
"""Of all clips of a page, as the text that they are in it."""

_LONGEST_ID = 1000
"""Characters; a longer cell is no utterance's id."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The beginning of an utterance, or why it cannot be heard."""

    utt_id: str
    language: str
    text: str | None
    duration_s: float
    """Of the whole utterance."""
    clip_s: float
    """Of the part that is in the page."""
    address: str
    """A `data:` URI; empty: there is none."""
    note: str
    """What is wrong with it; empty: nothing."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """What of the findings can be heard."""

    by_utterance: dict[str, Clip]
    num_left_out: int
    """Clips that the page has no room for."""


def named_utterances(cells: Sequence[Any]) -> Iterator[str]:
    """Everything in a row that could be the id of an utterance: its texts, those in lists too."""
    for cell in cells:
        if isinstance(cell, str) and len(cell) <= _LONGEST_ID:
            yield cell
        elif isinstance(cell, list | tuple):
            yield from named_utterances(cell)


def cut_clips(
    connection: Connection,
    results: Sequence[AuditResult],
    *,
    per_audit: int,
    seed: int,
    max_clip_s: float = MAX_CLIP_S,
    max_total_bytes: int = MAX_TOTAL_BYTES,
) -> Clips:
    """Clips of up to `per_audit` utterances that each audit's examples name.

    `seed` draws the examples; each gives the clips of all utterances it names before the next one
    gives any. Audits take turns, so that the last one has its share of the room.
    """
    known = _find(connection, results)
    waiting = [_draw(result, known, per_audit, seed) for result in results]
    turns = max(map(len, waiting), default=0)
    order = [ids[turn] for turn in range(turns) for ids in waiting if turn < len(ids)]
    clips: dict[str, Clip] = {}
    room, left_out = max_total_bytes, set()
    for utt_id in order:
        if utt_id in clips or utt_id in left_out:
            continue
        clip = _cut(known[utt_id], max_clip_s)
        if len(clip.address) > room:
            left_out.add(utt_id)
            continue
        room -= len(clip.address)
        clips[utt_id] = clip
    return Clips(by_utterance=clips, num_left_out=len(left_out))


def _find(connection: Connection, results: Sequence[AuditResult]) -> dict[str, dict[str, Any]]:
    """The catalog's rows of utterances that any example names."""
    named = {
        cell for result in results for row in result.examples for cell in named_utterances(row)
    }
    answer = connection.execute(read_sql("report_clips"), {"utt_ids": sorted(named)})
    columns = [column[0] for column in answer.description or []]
    rows = [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]
    return {row["utt_id"]: row for row in rows}


def _draw(
    result: AuditResult, known: dict[str, dict[str, Any]], per_audit: int, seed: int
) -> list[str]:
    examples = [
        [cell for cell in dict.fromkeys(named_utterances(row)) if cell in known]
        for row in result.examples
    ]
    examples.sort(key=lambda ids: key64("clips", str(seed), result.name, *ids))
    return list(dict.fromkeys(utt_id for ids in examples for utt_id in ids))[:per_audit]


def _cut(row: dict[str, Any], max_clip_s: float) -> Clip:
    clip_s, address, note = 0.0, "", ""
    try:
        wave_T = decode(
            row["audio"],
            offset_s=row["offset_s"],
            duration_s=min(row["duration_s"], max_clip_s),
        )
        clip_s = len(wave_T) / SAMPLE_RATE_HZ
        address = _encode(wave_T)
        if audio_version(row["audio"]) != row["audio_version"]:
            note = "the file has changed since it was ingested"
    except (AudioError, OSError) as error:
        note = str(error)
    return Clip(
        utt_id=row["utt_id"],
        language=row["language"],
        text=row["text"],
        duration_s=row["duration_s"],
        clip_s=clip_s,
        address=address,
        note=note,
    )


def _encode(wave_T: np.ndarray[Any, np.dtype[np.float32]]) -> str:
    """A waveform at 16 kHz as a `data:` URI."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(
        stream, np.clip(wave_T, -1, 1), SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III"
    )
    return "data:audio/mpeg;base64," + base64.b64encode(stream.getvalue()).decode()
