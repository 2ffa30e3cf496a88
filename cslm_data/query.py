"""Questions in SQL over everything a workspace holds. Reads, never writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from cslm_data.catalog import confine, open_catalog
from cslm_data.errors import UsageError
from cslm_data.workspace import Workspace

_READING = frozenset({"SELECT", "EXPLAIN", "RELATION"})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Column names and rows of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def run_query(
    workspace: Workspace, query: str, *, parameters: dict[str, Any] | None = None
) -> Answer:
    """Run one or more reading statements; the answer is the last one's.

    The connection is read-only and sees no file outside the workspace. Raises UsageError when the
    SQL is wrong or wants to write, MissingArtefactError when there is no catalog.
    """
    with open_catalog(workspace, doing="a query") as connection:
        confine(connection, workspace)
        try:
            statements = duckdb.extract_statements(query)
            for statement in statements:
                kind = statement.type.name
                if kind not in _READING:
                    raise UsageError(f"{kind} is refused: only queries that read are run here")
            if not statements:
                raise UsageError("the query is empty")
            for statement in statements:
                wanted = {
                    name: value
                    for name, value in (parameters or {}).items()
                    if name in statement.named_parameters
                }
                connection.execute(statement, wanted)
            columns = tuple(column[0] for column in connection.description or [])
            return Answer(columns=columns, rows=connection.fetchall())
        except duckdb.Error as error:
            raise UsageError(f"SQL: {str(error).strip()}") from None
