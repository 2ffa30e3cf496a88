"""Our own utterance manifest: JSONL, CSV or TSV with `id,audio,duration,text,language,speaker`.

Source: docs/formats.md. `audio` is relative to the folder of the file, absolute, or a URI. With
`offset` (seconds) a row is a segment of a longer recording, `duration` long; without, `duration` is
informative and the file's own length counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cslm_data.corpora.rows import reject
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import Row, first_fields, read_rows
from cslm_data.records import Reject, Utterance

if TYPE_CHECKING:
    from cslm_data.corpora import Defaults


def recognises(source: Source) -> bool:
    """An `audio` field, and neither words or phones with times nor turns."""
    fields = first_fields(source)
    is_alignment = isinstance(fields.get("phones"), list)
    return "audio" in fields and not {"words", "turns"} & fields.keys() and not is_alignment


def read(source: Source, defaults: Defaults) -> Iterator[Utterance | Reject]:
    """One utterance a row, in the order of the file."""
    for row in read_rows(source):
        yield _utterance(row, source, defaults) if isinstance(row, Row) else row


def _utterance(row: Row, source: Source, defaults: Defaults) -> Utterance | Reject:
    corpus = row.text("corpus") or defaults.corpus or source.stem
    audio = row.text("audio")
    key = row.text("id") or (f"{corpus}/{PurePosixPath(audio).stem}" if audio else row.place)
    if audio is None:
        return reject(corpus, key, "no_audio", f"{row.place}: the field `audio` is empty")
    language = row.text("language", "lang") or defaults.language
    if language is None:
        return reject(corpus, key, "no_language", f"{row.place}: no `language`; give --lang")
    try:
        offset_s = row.number("offset")
        duration_s = row.number("duration") if offset_s is not None else None
    except ValueError as error:
        return reject(corpus, key, "bad_number", f"{row.place}: {error}")
    if (offset_s or 0.0) < 0 or (duration_s is not None and duration_s < 0):
        return reject(corpus, key, "negative_time", f"{row.place}: offset and duration are >= 0 s")
    return Utterance(
        utt_id=key,
        corpus=corpus,
        audio=source.resolve(audio),
        offset_s=offset_s or 0.0,
        duration_s=duration_s,
        language=language,
        speaker=row.text("speaker"),
        text=row.text("text"),
        kind=row.text("kind") or "human",
        license=row.text("license") or defaults.license,
        split=row.text("split") or defaults.split,
        place=row.place,
    )
