"""Normal forms of texts in SQL: functions of a connection that writes the catalog."""

from __future__ import annotations

import pyarrow as pa
from duckdb import sqltypes
from duckdb.func import ARROW, SPECIAL

from cslm_data.catalog import Connection
from cslm_data.text import normalise


def register_normal_forms(connection: Connection) -> None:
    """Let SQL call normalise_text(text, language), and normalise_texts of lists of both."""
    text = sqltypes.VARCHAR
    connection.create_function(
        "normalise_text", _normalise, [text, text], text, type=ARROW, null_handling=SPECIAL
    )
    texts = "VARCHAR[]"
    connection.create_function(
        "normalise_texts", _normalise_lists, [texts, texts], texts, type=ARROW
    )


def _normalise(texts: pa.ChunkedArray, languages: pa.ChunkedArray) -> pa.Array:
    values = [
        None if text is None else normalise(text, language)
        for text, language in zip(texts.to_pylist(), languages.to_pylist(), strict=True)
    ]
    return pa.array(values, pa.string())


def _normalise_lists(texts: pa.ChunkedArray, languages: pa.ChunkedArray) -> pa.Array:
    lists = texts.combine_chunks()
    of_each = languages.combine_chunks()
    values = _normalise(pa.chunked_array([lists.flatten()]), pa.chunked_array([of_each.flatten()]))
    return pa.ListArray.from_arrays(_offsets(lists), values, mask=lists.is_null())


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Offsets into the flattened values, which begin with those of the first list."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    return pa.concat_arrays(
        [pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())]
    )
