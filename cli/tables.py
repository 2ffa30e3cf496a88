"""Records and rows on stdout: as tables that fit, or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

_WIDEST_CELL = 60
_PIPE_WIDTH = 160


def print_json(value: Any) -> None:
    """Print a record, or any JSON-like value, as JSON on stdout."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    exact: bool = False,
) -> None:
    """Print a table on stdout, numbers to the right; `exact`: numbers as they are, not rounded.

    Into a pipe it is as wide as it needs to be. On a terminal too narrow for it, each row becomes
    a list of its fields.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cell: Callable[[Any], str] = _exact if exact else _cell
    kept = [list(row) for row in rows]
    texts = [[cell(value) for value in row] for row in kept]
    widths = [
        max([cell_len(name), *(min(cell_len(row[i]), _WIDEST_CELL) for row in texts)])
        for i, name in enumerate(columns)
    ]
    needed = sum(widths) + 3 * len(widths) + 1
    console = Console(width=None if sys.stdout.isatty() else max(_PIPE_WIDTH, needed))
    if needed > 2 * console.width and len(columns) > 4:
        for number, row in enumerate(texts, 1):
            print_table([f"row {number}", ""], zip(columns, row, strict=True), title=title)
        return
    table = Table(title=title, title_justify="left", header_style="bold", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(kept) and all(isinstance(r[index], int | float | None) for r in kept)
        table.add_column(
            column, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
        )
    for texts_of_row in texts:
        table.add_row(*map(Text, texts_of_row))
    console.print(table)


def print_fields(title: str, fields: dict[str, Any], *, exact: bool = False) -> None:
    """Print named values, one a line."""
    cell: Callable[[Any], str] = _exact if exact else _cell
    print_table(["", title], [(name, cell(value)) for name, value in fields.items()])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return _exact(value)


def _exact(value: Any) -> str:
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
