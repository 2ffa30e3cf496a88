"""SQL that a person, a recipe or a file brings along → what of it may run: reading alone.

The kind of a statement does not say it: `explain analyze copy …` and `with x as (copy …)` count as
reading to DuckDB, and write. So the parsed statement is looked through, and what is not known to
read is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from cslm_data.errors import UsageError

_READING = frozenset({"SELECT", "EXPLAIN", "RELATION"})
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Parts of a statement that only read; insert, update, delete and copy are none of them."""
_WRITING = frozenset({"write_log", "setval", "nextval"})
"""Functions of a value that do more than read."""
_TABLES = re.compile(
    r"(read|parquet|duckdb|pragma|histogram|show|test|repeat|icu|pg)(_\w+)?"
    r"|unnest|range|generate_series|glob|json_each|json_tree|query_table|sniff_csv|summary"
)
"""Table functions that read files or values. Others run SQL out of a string, follow addresses in
memory, or change the session."""
_OF_VALUES = frozenset({"unnest", "range", "generate_series"})
"""Table functions of a predicate: they read no file."""
_DEEPEST, _LONGEST = 200, 100_000
"""Brackets inside of brackets, characters of a predicate: the parser's memory grows with both."""
_SHOWN = 200
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?(\s*\([^()]*\))?\s", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """One expression over a row."""

    text: str
    """SQL without comments, to stand between brackets."""
    columns: frozenset[str]
    """Last parts of all names of columns in it, lower case."""


def reading_statements(query: str) -> list[duckdb.Statement]:
    """The statements of a query. Raises UsageError unless there is one and each only reads."""
    _require_shallow(query, "SQL")
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise UsageError(f"SQL: {str(error).strip()}") from None
    if not statements:
        raise UsageError("the query is empty")
    with duckdb.connect() as parser:
        for statement in statements:
            _require_reading(parser, statement)
    return statements


def parse_predicate(text: str, *, where: str) -> Predicate:
    """One expression that reads no file. Raises UsageError that begins with `where`."""
    _require_shallow(text, where)
    said = f"{where} {text[:_SHOWN]!r}"
    if len(text) > _LONGEST:
        raise UsageError(f"{where}: {len(text)} characters; a predicate has at most {_LONGEST}")
    try:
        # Between brackets as well: else what follows an expression might belong to it.
        duckdb.SQLExpression(f"({text}\n)")
        plain = str(duckdb.SQLExpression(text))
        with duckdb.connect() as parser:
            tree = _parse(parser, f"select ({plain}\n)")
    except duckdb.Error as error:
        raise UsageError(f"{said}: one SQL expression is expected; {str(error).strip()}") from None
    columns: set[str] = set()
    for node in _nodes(tree):
        _require_known(node, said)
        if node.get("class") == "WINDOW":
            raise UsageError(f"{said}: a predicate is about one row; no window functions")
        if node.get("type") == "TABLE_FUNCTION" and _function_of(node) not in _OF_VALUES:
            raise UsageError(f"{said}: a predicate may not read with {_function_of(node)}(…)")
        if node.get("class") == "PARAMETER":
            raise UsageError(f"{said}: a predicate has no parameters ($x, ?)")
        if node.get("class") == "COLUMN_REF":
            columns.add(str(node["column_names"][-1]).lower())
    return Predicate(text=plain, columns=frozenset(columns))


def _require_reading(parser: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
    kind, text = statement.type.name, statement.query
    if kind == "EXPLAIN":
        start = _EXPLAIN.match(text)
        if start is None:
            raise UsageError("EXPLAIN is refused in this form; write: explain [analyze] select …")
        inner = duckdb.extract_statements(text[start.end() :])
        if len(inner) != 1 or inner[0].type.name != "SELECT":
            found = ", ".join(each.type.name for each in inner)
            raise UsageError(f"EXPLAIN of {found} is refused: only queries that read are run here")
        kind, text = "SELECT", inner[0].query
    if kind not in _READING:
        raise UsageError(
            f"{kind} is refused: only queries that read are run here (see --unrestricted)"
        )
    try:
        tree = _parse(parser, text)
    except duckdb.Error as error:
        raise UsageError(f"SQL: {str(error).strip()}") from None
    for node in _nodes(tree):
        _require_known(node, "SQL")


def _require_known(node: dict[str, Any], where: str) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _NODES:
        raise UsageError(
            f"{where}: {kind.split('_')[0]} is refused: only queries that read are run here"
        )
    is_table = kind == "TABLE_FUNCTION"
    name = _function_of(node) if is_table else str(node.get("function_name", "")).lower()
    if name in _WRITING or (is_table and not _TABLES.fullmatch(name)):
        raise UsageError(f"{where}: the function {name} is refused: it may do more than read")


def _function_of(node: dict[str, Any]) -> str:
    """Name of a table function."""
    return str(node["function"].get("function_name", "")).lower()


def _require_shallow(text: str, where: str) -> None:
    depth = deepest = 0
    for bracket in re.findall(r"[()\[\]{}]", text):
        depth = depth + 1 if bracket in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise UsageError(f"{where}: brackets {deepest} deep; at most {_DEEPEST} are read")


def _parse(parser: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    """The tree of a SELECT statement; anything else is a duckdb.Error."""
    row = parser.execute("select json_serialize_sql($text)", {"text": text}).fetchone()
    tree: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise duckdb.ParserException(str(tree.get("error_message", "cannot be parsed")))
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a tree, without recursion: a hostile one is deep."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
