"""A source → its raw rows in temporary tables, in batches: memory does not grow with the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from cslm_data.catalog import Connection, read_sql
from cslm_data.corpora import Defaults, Reader, Record
from cslm_data.corpora.columns import Columns, File
from cslm_data.corpora.source import Source
from cslm_data.ingesting.fields import open_fields
from cslm_data.ingesting.kinds import KINDS, row_of
from cslm_data.ingesting.statements import insert_rows, run_sql
from cslm_data.progress import Progress
from cslm_data.records import Reject

_BATCH_ROWS = 8192


def stage_source(
    connection: Connection,
    source: Source,
    reader: Reader,
    defaults: Defaults,
    *,
    trust_manifest: bool,
    bar: Progress,
) -> None:
    """Fill the raw tables with all rows of a source, what its reader refuses included."""
    run_sql(connection, "ingest_raw")
    if isinstance(reader.read, Columns):
        for file in reader.read.files(source):
            _stage_file(connection, source, reader.read, file, defaults, trust_manifest, bar)
    else:
        _stage_records(connection, reader.read(source, defaults), bar)


def _stage_file(
    connection: Connection,
    source: Source,
    columns: Columns,
    file: File,
    defaults: Defaults,
    trust_manifest: bool,
    bar: Progress,
) -> None:
    """The rows of one file, by the format's query over the view `fields`."""
    stream = open_fields(source, file, columns)
    batches = _completed(stream.batches, stream.schema, bar)
    connection.register("given", pa.RecordBatchReader.from_batches(stream.schema, batches))
    connection.execute(f"create or replace temp view fields as {stream.query}")
    values = {
        "corpus": defaults.corpus,
        "language": defaults.language,
        "license": defaults.license,
        "split": defaults.split,
        "trust": trust_manifest,
        "stem": source.name if source.is_folder else source.stem,
        "folder": source.folder(),
    }
    query = read_sql(columns.query)
    asked = {name: value for name, value in values.items() if f"${name}" in query}
    connection.execute(f"insert into raw_{columns.table} by name {query}", asked)
    connection.unregister("given")


def _completed(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, bar: Progress
) -> Iterator[pa.RecordBatch]:
    """The batches, counted, with nulls for the columns of the schema that they do not have."""
    for batch in batches:
        bar.advance(len(batch))
        there = set(batch.schema.names)
        columns = [
            batch[field.name] if field.name in there else pa.nulls(len(batch), field.type)
            for field in schema
        ]
        yield pa.record_batch(columns, schema=schema)


def _stage_records(
    connection: Connection, records: Iterator[Record | Reject], bar: Progress
) -> None:
    """The records of a reader, each kind into its raw table as they come."""
    waiting: dict[type, list[Any]] = {kind: [] for kind in (*KINDS, Reject)}
    for record in records:
        bar.advance()
        rows = waiting[type(record)]
        rows.append(record)
        if len(rows) == _BATCH_ROWS:
            _insert(connection, type(record), rows)
            rows.clear()
    for kind, rows in waiting.items():
        if rows:
            _insert(connection, kind, rows)


def _insert(connection: Connection, kind: type, records: list[Any]) -> None:
    if kind is Reject:
        name = "raw_rejects"
        said = ("corpus", "key", "reason", "detail")
        rows = pa.table({field: [getattr(each, field) for each in records] for field in said})
    else:
        name = f"raw_{KINDS[kind].name}"
        rows = pa.Table.from_pylist([row_of(record) for record in records], KINDS[kind].schema)
    insert_rows(connection, name, rows)
