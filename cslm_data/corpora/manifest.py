"""Our own utterance manifest: JSONL, CSV or TSV with `id,audio,duration,text,language,speaker`.

Source: docs/formats.md. `audio` is relative to the folder of the file, absolute, or a URI. With
`offset` (seconds) a row is a segment of a longer recording, `duration` long; without, `duration` is
informative and the file's own length counts.
"""

from __future__ import annotations

from cslm_data.corpora.columns import Columns
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import first_fields

COLUMNS = Columns(
    table="utterances",
    fields=(
        *("id", "audio", "offset", "duration", "text", "language", "lang", "speaker"),
        *("sampling_rate", "num_channels", "kind", "license", "split", "corpus"),
    ),
    numbers=("offset", "duration"),
    query="rows_of_manifest",
)


def recognises(source: Source) -> bool:
    """An `audio` field, and neither words or phones with times nor turns."""
    fields = first_fields(source)
    is_alignment = isinstance(fields.get("phones"), list)
    return "audio" in fields and not {"words", "turns"} & fields.keys() and not is_alignment
