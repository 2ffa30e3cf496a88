"""NeMo manifests: JSONL of `audio_filepath, duration, offset, text`, and `lang`, `speaker`, `id`.

Source: NVIDIA NeMo, docs "Preparing Datasets" (ASR). With an `offset` a row is a stretch of a
longer recording.
"""

from __future__ import annotations

import dataclasses

from cslm_data.corpora import manifest
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields

_NAMES = {"audio": "audio_filepath", "sampling_rate": "sample_rate"}

COLUMNS = dataclasses.replace(
    manifest.COLUMNS,
    fields=tuple(_NAMES.get(field, field) for field in manifest.COLUMNS.fields),
    renamed={theirs: ours for ours, theirs in _NAMES.items()},
)
"""Our own manifest under other names."""


def recognises(source: Source) -> bool:
    """An `audio_filepath`."""
    return "audio_filepath" in first_fields(source)
