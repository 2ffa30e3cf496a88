"""Queries of `cslm_data/sql` with names filled in: tables cannot be bound, values are."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from cslm_data.catalog import Connection, read_sql


def fill(name: str, names: dict[str, str]) -> str:
    """Text of `<name>.sql`, its {placeholders} filled; callers escape what stands in quotes."""
    text = read_sql(name)
    for placeholder, value in names.items():
        text = text.replace("{" + placeholder + "}", value)
    return text


def run_sql(
    connection: Connection,
    name: str,
    *,
    names: dict[str, str] | None = None,
    values: dict[str, Any] | None = None,
) -> Connection:
    """Run every statement of `<name>.sql`, each with those of the values that it asks for."""
    result = connection
    for statement in duckdb.extract_statements(fill(name, names or {})):
        wanted = {k: v for k, v in (values or {}).items() if k in statement.named_parameters}
        result = connection.execute(statement, wanted)
    return result


def insert_rows(connection: Connection, table: str, rows: pa.Table) -> None:
    """Add Arrow rows to a table, by the names of their columns."""
    connection.register("given", rows)
    connection.execute(f"insert into {table} by name from given")
    connection.unregister("given")


def quoted(value: str) -> str:
    """A value as it stands between single quotes of SQL."""
    return value.replace("'", "''")
