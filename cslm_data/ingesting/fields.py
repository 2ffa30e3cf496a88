"""A file of rows → batches and the SQL of the view `fields` over them: a column of text a field.

Columns besides: `number` of the row, and `reason`, `detail` of a row that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from cslm_data.corpora.cells import read_header
from cslm_data.corpora.columns import Columns, File
from cslm_data.corpora.lines import LINES, read_cells, read_json_list, read_lines
from cslm_data.corpora.source import Source
from cslm_data.ingesting.statements import quoted

_ENDS = r"e'\r\n'"
_BLANKS = "' \t\r\n\x0b\x0c\u00a0\u3000'"
"""White space, as a literal of SQL: no-break and ideographic spaces too."""

_BLANK_BEGINS = "-1, 9, 10, 11, 12, 13, 32, 160, 12288"
"""Code points that a blank value begins with; -1: an empty one. Most values begin with none,
so that one comparison is all that they cost."""
_NESTED_BEGINS = f"{ord('[')}, {ord('{')}"


@dataclass(frozen=True, kw_only=True)
class FieldStream:
    """Batches of rows, to be registered as `given`, and the query that makes fields of them."""

    batches: Iterable[pa.RecordBatch]
    schema: pa.Schema
    query: str


def open_fields(source: Source, file: File, columns: Columns) -> FieldStream:
    """The rows of a file, by its ending: JSONL, a JSON list, CSV, TSV, or the format's own way."""
    where = source.child(file.name) if file.name else source
    suffix = "" if file.batches else where.suffix
    if file.batches is not None:
        batches, schema = file.batches(source), _cells_schema(columns)
        rows = _of_cells(columns)
    elif suffix == ".csv":
        header, skip = _header(source, file, ",")
        names = _names(columns)
        batches = read_cells(source, file.name, header=header, skip=skip, fields=names)
        schema, rows = _cells_schema(columns), _of_cells(columns)
    elif suffix == ".tsv":
        header, skip = _header(source, file, "\t")
        batches, schema = read_lines(source, file.name), LINES
        rows = _of_tabs(columns, header, skip)
    elif suffix == ".json":
        batches, schema = read_json_list(source, file.name), LINES
        rows = _of_json(columns)
    else:
        batches, schema = read_lines(source, file.name), LINES
        rows = _of_json(columns)
    name = quoted(where.name if not source.is_folder else file.name)
    place = f"'{name}[' || number || ']'" if suffix == ".json" else f"'{name}:' || number"
    constants = ", ".join(
        f"coalesce({_name(field)}, '{quoted(value)}') as {_name(field)}"
        for field, value in file.constants.items()
    )
    renamed = ", ".join(f"{_name(old)} as {_name(new)}" for old, new in columns.renamed.items())
    replaced = f" replace ({constants})" if constants else ""
    replaced += f" rename ({renamed})" if renamed else ""
    query = f"select *{replaced}, {place} as place from ({rows})"
    return FieldStream(batches=batches, schema=schema, query=query)


def _header(source: Source, file: File, delimiter: str) -> tuple[list[str], int]:
    return (list(file.header), 0) if file.header else read_header(source, file.name, delimiter)


def _cells_schema(columns: Columns) -> pa.Schema:
    names = (*_names(columns), "reason", "detail")
    return pa.schema([("number", pa.int64()), *((name, pa.string()) for name in names)])


def _names(columns: Columns) -> tuple[str, ...]:
    return (*columns.fields, *columns.nested)


def _of_json(columns: Columns) -> str:
    """Lines as JSON objects. What is no object is refused; a list is no value of a scalar field."""
    kinds = {**dict.fromkeys(columns.fields, "VARCHAR"), **dict.fromkeys(columns.nested, "JSON")}
    parts = []
    for field in columns.fields:
        value = f"object.{_name(field)}"
        if field in columns.numbers:
            parts.append(f"{_filled(value)} as {_name(field)}")
            continue
        is_nested = f"json_type(line, '$.\"{field}\"') in ('ARRAY', 'OBJECT')"
        parts.append(
            f"case when ord({value}) in ({_NESTED_BEGINS}, {_BLANK_BEGINS}) "
            f"then if({is_nested} or {_is_blank(value)}, null, {value}) "
            f"else {value} end as {_name(field)}"
        )
    parts += [f"object.{_name(field)} as {_name(field)}" for field in columns.nested]
    is_object = f"ltrim(line, {_BLANKS})[1] = '{{'"
    wrong = "line is not null and object is null"
    return (
        f"select number, coalesce(reason, if({wrong}, 'bad_json', null)) as reason, "
        f"coalesce(detail, if({wrong}, 'one JSON object is expected', null)) as detail, "
        f"{', '.join(parts)} from (select *, "
        f"if({is_object}, try(json_transform(line, '{json.dumps(kinds)}')), null) as object "
        f"from given) where {_not_blank()}"
    )


def _of_tabs(columns: Columns, header: list[str], skip: int) -> str:
    """Lines as cells between tabs, no quoting."""
    wrong = f"len(cells) <> {len(header)}"
    parts = []
    for field in _names(columns):
        cell = "null::varchar"
        if field in header:
            cell = f"if({wrong}, null, {_filled(f'cells[{header.index(field) + 1}]')})"
        parts.append(f"{_as_kind(columns, field, cell)} as {_name(field)}")
    said = f"len(cells) || ' cells, the header has {len(header)}'"
    return (
        f"select number, coalesce(reason, if({wrong}, 'bad_row', null)) as reason, "
        f"coalesce(detail, if({wrong}, {said}, null)) as detail, {', '.join(parts)} "
        f"from (select *, string_split(rtrim(line, {_ENDS}), chr(9)) as cells from given) "
        f"where number > {skip} and {_not_blank()}"
    )


def _of_cells(columns: Columns) -> str:
    """Batches that have a column for each field already."""
    parts = []
    for field in _names(columns):
        cell = _filled(f"rtrim({_name(field)}, {_ENDS})")
        parts.append(f"{_as_kind(columns, field, cell)} as {_name(field)}")
    return f"select number, reason, detail, {', '.join(parts)} from given"


def _as_kind(columns: Columns, field: str, value: str) -> str:
    return f"to_json({value})" if field in columns.nested else value


def _filled(value: str) -> str:
    """A blank is no value."""
    return (
        f"case when ord({value}) in ({_BLANK_BEGINS}) then if({_is_blank(value)}, null, {value}) "
        f"else {value} end"
    )


def _is_blank(value: str) -> str:
    return f"trim({value}, {_BLANKS}) = ''"


def _not_blank() -> str:
    return f"(line is null or trim(line, {_BLANKS}) <> '')"


def _name(field: str) -> str:
    return f'"{field}"'
