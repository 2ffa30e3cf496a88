"""Questions in SQL over everything a workspace holds. Reads, never writes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import duckdb

from cslm_data.catalog import Connection, confine, open_catalog
from cslm_data.errors import UsageError
from cslm_data.statements import reading_statements
from cslm_data.workspace import Workspace

_FETCH = 1000


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Column names and rows of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool = False
    """There are more rows than were asked for."""

    def records(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Column names and rows of a query, the rows as they come."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def run_query(
    workspace: Workspace,
    query: str,
    *,
    parameters: dict[str, Any] | None = None,
    limit: int | None = None,
) -> Answer:
    """Run one or more reading statements; the answer is the last one's, at most `limit` rows of it.

    Raises as `stream_query` does.
    """
    with stream_query(workspace, query, parameters=parameters) as stream:
        rows = list(stream.rows if limit is None else itertools.islice(stream.rows, limit))
        is_cut = limit is not None and next(stream.rows, None) is not None
    return Answer(columns=stream.columns, rows=rows, is_cut=is_cut)


@contextlib.contextmanager
def stream_query(
    workspace: Workspace,
    query: str,
    *,
    parameters: dict[str, Any] | None = None,
    unrestricted: bool = False,
) -> Iterator[Stream]:
    """The same with the rows of the last statement as they are computed, however many.

    The catalog is open for reading, only queries run, and they see no file outside the workspace.
    `unrestricted` lifts the second and the third: files, folders and addresses are read and written
    with the rights of the process. Raises UsageError when the SQL is wrong or wants more than it
    may, MissingArtefactError when there is no catalog.
    """
    with (
        open_catalog(workspace, doing="a query") as connection,
        ThreadPoolExecutor(1, thread_name_prefix="query") as thread,
    ):
        _bound(connection, workspace)
        try:
            if unrestricted:
                statements = duckdb.extract_statements(query)
            else:
                confine(connection, workspace)
                statements = reading_statements(query)
            if not statements:
                raise UsageError("the query is empty")
            for statement in statements:
                wanted = {
                    name: value
                    for name, value in (parameters or {}).items()
                    if name in statement.named_parameters
                }
                _interruptible(thread, connection, connection.execute, statement, wanted)
            columns = tuple(column[0] for column in connection.description or [])
            yield Stream(columns=columns, rows=_rows(thread, connection))
        except duckdb.Error as error:
            raise UsageError(f"SQL: {str(error).strip()}") from None


def _rows(thread: ThreadPoolExecutor, connection: Connection) -> Iterator[tuple[Any, ...]]:
    while batch := _interruptible(thread, connection, connection.fetchmany, _FETCH):
        yield from batch


def _interruptible(
    thread: ThreadPoolExecutor, connection: Connection, work: Callable[..., Any], *values: Any
) -> Any:
    """Work of DuckDB, which looks for no Ctrl-C while it computes rows: so we wait beside it."""
    future = thread.submit(work, *values)
    try:
        return future.result()
    except KeyboardInterrupt:
        connection.interrupt()
        raise


def _bound(connection: Connection, workspace: Workspace) -> None:
    """A query may take half of the memory, and half of what is free on the workspace's disk."""
    connection.execute("set memory_limit = '50%'")
    free = shutil.disk_usage(workspace.root).free
    connection.execute("set max_temp_directory_size = ?", [f"{free // 2**21} MiB"])
