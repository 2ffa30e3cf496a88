"""The four kinds of rows that sources hold, with the tables they wait in and go to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cslm_data.records import Alignment, BitextPair, Dialogue, Utterance

_WORD = pa.struct(
    [
        ("word", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("score", pa.float64()),
    ]
)
_PHONE = pa.struct([("phone", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())])
_TURN = pa.struct(
    [
        *((name, pa.string()) for name in ("role", "language", "text", "audio")),
        ("offset_s", pa.float64()),
        *((name, pa.string()) for name in ("speaker", "utt_id")),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of row."""

    name: str
    """`utterances`: the raw table is `raw_utterances`."""
    id: str
    """Column of its id."""
    target: str
    """Table of the catalog; of alignments a view over their parts."""
    languages: str
    """SQL: the languages that a raw row says, as a list; empty: none."""
    corpus: str
    """SQL: corpus of a raw row."""
    schema: pa.Schema
    """Of raw rows that a reader gives as records."""

    @property
    def names(self) -> dict[str, str]:
        """What queries of ingest have as {placeholders}."""
        return {
            "raw": f"raw_{self.name}",
            "table": self.target,
            "id": self.id,
            "languages": self.languages,
            "corpus": self.corpus,
        }


def _strings(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.string()) for name in names]


KINDS: dict[type, Kind] = {
    Utterance: Kind(
        name="utterances",
        id="utt_id",
        target="all_utterances",
        languages='[raws."language"]',
        corpus="raws.corpus",
        schema=pa.schema(
            [
                *_strings("place", "utt_id", "corpus", "audio"),
                *((name, pa.float64()) for name in ("offset_s", "duration_s")),
                *((name, pa.int32()) for name in ("sample_rate_hz", "num_channels")),
                *_strings("language", "speaker", "text", "kind", "license", "split"),
            ]
        ),
    ),
    BitextPair: Kind(
        name="bitext",
        id="pair_id",
        target="all_bitext",
        languages="[raws.src_lang, raws.tgt_lang]",
        corpus="raws.corpus",
        schema=pa.schema(
            _strings("place", "pair_id", "corpus", "src_lang", "tgt_lang", "src", "tgt")
            + _strings("license", "split")
        ),
    ),
    Dialogue: Kind(
        name="dialogues",
        id="dialogue_id",
        target="all_dialogues",
        languages="list_distinct(list_transform(raws.turns, lambda turn: turn.language))",
        corpus="raws.corpus",
        schema=pa.schema(
            [
                *_strings("place", "dialogue_id", "corpus", "parallel_id"),
                ("turns", pa.list_(_TURN)),
                *_strings("license", "split"),
            ]
        ),
    ),
    Alignment: Kind(
        name="alignments",
        id="utt_id",
        target="imported_alignments",
        languages="[]::varchar[]",
        corpus="''",
        schema=pa.schema(
            [
                *_strings("place", "utt_id"),
                ("words", pa.list_(_WORD)),
                ("phones", pa.list_(_PHONE)),
            ]
        ),
    ),
}
"""By the record that a reader gives, in the order in which they are merged."""


def row_of(record: Utterance | BitextPair | Dialogue | Alignment) -> dict[str, Any]:
    """A record as a raw row of its kind; absent words or phones are null."""
    row = dict(vars(record))
    if isinstance(record, Dialogue):
        row["turns"] = [vars(turn) for turn in record.turns]
    if isinstance(record, Alignment):
        row["words"] = [vars(word) for word in record.words] or None
        row["phones"] = [vars(phone) for phone in record.phones] or None
    return row
