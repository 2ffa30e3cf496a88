"""NeMo manifests: JSONL of `audio_filepath, duration, offset, text`, and `lang`, `speaker`, `id`.

Source: NVIDIA NeMo, docs "Preparing Datasets" (ASR). With an `offset` a row is a stretch of a
longer recording. A row without `id` is named after its audio,
and after its offset where it has one.
"""

from __future__ import annotations

from cslm_data.corpora.columns import Columns
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields

COLUMNS = Columns(
    table="utterances",
    fields=(
        *("id", "utt_id", "audio_filepath", "offset", "duration", "text", "lang", "language"),
        *("source_lang", "speaker", "speaker_id", "sample_rate", "license", "split", "corpus"),
    ),
    query="rows_of_nemo",
)


def recognises(source: Source) -> bool:
    """An `audio_filepath`."""
    return "audio_filepath" in first_fields(source)
