"""Normal forms of texts in SQL, by the rules of a workspace: those of its first ingest."""

from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.compute as pc
from duckdb import sqltypes
from duckdb.func import ARROW, SPECIAL

from cslm_data.catalog import Connection
from cslm_data.errors import UsageError
from cslm_data.settings import build, parse_yaml
from cslm_data.text import TextRules, normalise_column

_SETTING = "text_rules"


def choose_rules(connection: Connection, given: TextRules | None) -> TextRules:
    """The rules of a workspace; the first ingest sets them, for keys of sentences must agree.

    Raises UsageError where others are given than the catalog's rows were made with.
    """
    stored = read_rules(connection)
    if stored is None:
        chosen = given or TextRules()
        connection.execute(
            "insert into settings values (?, ?)",
            [_SETTING, json.dumps(dataclasses.asdict(chosen))],
        )
        return chosen
    if given is not None and given != stored:
        raise UsageError(
            f"--numbers, --chinese: this workspace compares texts with numbers "
            f"{'spelled out' if stored.numbers else 'as they are'} and chinese {stored.chinese!r}; "
            "leave the options out, or ingest into a new workspace"
        )
    return stored


def read_rules(connection: Connection) -> TextRules | None:
    """The rules that a catalog's texts were normalised by; None before the first ingest."""
    query = "select value from settings where name = ?"
    for (value,) in connection.execute(query, [_SETTING]).fetchall():
        return build(TextRules, parse_yaml(value, where="settings"), where="settings")
    return None


def register_normal_forms(connection: Connection, rules: TextRules) -> None:
    """Let SQL call normalise_text(text, language), and normalise_texts of lists of both."""

    def one(texts: pa.ChunkedArray, languages: pa.ChunkedArray) -> pa.Array:
        return normalise_column(texts, pc.fill_null(languages, ""), rules)

    def lists(texts: pa.ChunkedArray, languages: pa.ChunkedArray) -> pa.Array:
        rows = texts.combine_chunks()
        of_each = languages.combine_chunks().flatten()
        values = normalise_column(rows.flatten(), pc.fill_null(of_each, ""), rules)
        return pa.ListArray.from_arrays(_offsets(rows), values)

    text, texts = sqltypes.VARCHAR, "VARCHAR[]"
    connection.create_function(
        "normalise_text", one, [text, text], text, type=ARROW, null_handling=SPECIAL
    )
    connection.create_function("normalise_texts", lists, [texts, texts], texts, type=ARROW)


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Offsets into the flattened values, which begin with those of the first list."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])
