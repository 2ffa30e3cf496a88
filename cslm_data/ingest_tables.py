"""Records → Arrow tables with the columns of the catalog; imported alignments → Parquet parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import Connection
from cslm_data.keys import key64
from cslm_data.records import Alignment, BitextPair, Dialogue, Turn, Utterance
from cslm_data.text import normalise, text_key
from cslm_data.workspace import Workspace, atomic_path

IMPORTED = "imported"
"""`aligner_id` of word and phone times that came with a corpus."""

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
        ("role", pa.string()),
        ("language", pa.string()),
        ("text", pa.string()),
        ("text_key", pa.uint64()),
        ("audio", pa.string()),
        ("offset_s", pa.float64()),
        ("speaker", pa.string()),
        ("utt_id", pa.string()),
    ]
)
_ENDING = [
    ("license", pa.string()),
    ("split", pa.string()),
    ("key_hash", pa.uint64()),
    ("source_uri", pa.string()),
    ("place", pa.string()),
    ("row_hash", pa.uint64()),
]
_UTTERANCES = pa.schema(
    [
        *((name, pa.string()) for name in ("utt_id", "corpus", "audio")),
        *((name, pa.float64()) for name in ("offset_s", "duration_s")),
        *((name, pa.int32()) for name in ("sample_rate_hz", "num_channels")),
        *((name, pa.string()) for name in ("language", "speaker", "text", "text_norm")),
        ("text_key", pa.uint64()),
        ("kind", pa.string()),
        ("audio_version", pa.string()),
        *_ENDING,
    ]
)
_BITEXT = pa.schema(
    [
        *((n, pa.string()) for n in ("pair_id", "corpus", "src_lang", "tgt_lang", "src", "tgt")),
        ("src_key", pa.uint64()),
        ("tgt_key", pa.uint64()),
        *_ENDING,
    ]
)
_DIALOGUES = pa.schema(
    [
        *((n, pa.string()) for n in ("dialogue_id", "corpus", "parallel_id", "language")),
        ("turns", pa.list_(_TURN)),
        *_ENDING,
    ]
)
_ALIGNMENTS = pa.schema(
    [
        ("utt_id", pa.string()),
        ("words", pa.list_(_WORD)),
        ("phones", pa.list_(_PHONE)),
        ("source_uri", pa.string()),
        ("row_hash", pa.uint64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the catalog: its id column, and its rows made from records."""

    name: str
    id: str
    record: type
    schema: pa.Schema
    row: Callable[[Any], dict[str, Any]]

    def arrow(self, records: Iterable[Any], source: str) -> pa.Table:
        """The records as rows of this table, in order."""
        rows = []
        for record in records:
            row = self.row(record)
            said = (repr(item) for item in row.items() if item[0] != "place")
            row["row_hash"] = key64(*said)
            rows.append({**row, "key_hash": key64(row[self.id]), "source_uri": source})
        return pa.Table.from_pylist(rows, schema=self.schema)


def id_of(record: Utterance | BitextPair | Dialogue | Alignment) -> str:
    """The id of any record."""
    return str(getattr(record, TABLES[type(record)].id))


def _utterance(record: Utterance) -> dict[str, Any]:
    text = record.text
    known = {
        "text_norm": None if text is None else normalise(text, record.language),
        "text_key": None if text is None else text_key(text, record.language),
    }
    return {**vars(record), **known}


def _pair(record: BitextPair) -> dict[str, Any]:
    keys = {
        "src_key": text_key(record.src, record.src_lang),
        "tgt_key": text_key(record.tgt, record.tgt_lang),
    }
    return {**vars(record), **keys}


def _dialogue(record: Dialogue) -> dict[str, Any]:
    first = next(turn for turn in record.turns if turn.role == "user")
    turns = [_turn(turn) for turn in record.turns]
    return {**vars(record), "language": first.language, "turns": turns}


def _turn(turn: Turn) -> dict[str, Any]:
    key = None if turn.text is None else text_key(turn.text, turn.language)
    return {**vars(turn), "text_key": key}


def _alignment(record: Alignment) -> dict[str, Any]:
    return {
        "utt_id": record.utt_id,
        "words": [dict(vars(word)) for word in record.words] or None,
        "phones": [dict(vars(phone)) for phone in record.phones] or None,
    }


TABLES: dict[type, Table] = {
    table.record: table
    for table in (
        Table(
            name="all_utterances", id="utt_id", record=Utterance, schema=_UTTERANCES, row=_utterance
        ),
        Table(name="all_bitext", id="pair_id", record=BitextPair, schema=_BITEXT, row=_pair),
        Table(
            name="all_dialogues",
            id="dialogue_id",
            record=Dialogue,
            schema=_DIALOGUES,
            row=_dialogue,
        ),
        Table(
            name="imported_alignments",
            id="utt_id",
            record=Alignment,
            schema=_ALIGNMENTS,
            row=_alignment,
        ),
    )
}
"""The table of each kind of record, in the order in which they are merged."""


def stage_imported_alignments(connection: Connection, workspace: Workspace) -> None:
    """Make the temporary table `imported_alignments` of all that was imported so far."""
    files = sorted((workspace.alignments / IMPORTED).glob("part-*.parquet"))
    tables = [_ALIGNMENTS.empty_table(), *(pq.read_table(file) for file in files)]
    rows = pa.concat_tables(tables, promote_options="default")
    connection.register("imported_rows", rows)
    connection.execute("create or replace temp table imported_alignments as from imported_rows")
    connection.unregister("imported_rows")


def write_imported_alignments(workspace: Workspace, source: str, rows: pa.Table) -> None:
    """One part per source, replaced whole; a source without alignments has no part."""
    path = workspace.alignments / IMPORTED / f"part-{key64(source):016x}.parquet"
    if rows.num_rows == 0:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        pq.write_table(rows.sort_by("utt_id"), temporary, compression="zstd")
