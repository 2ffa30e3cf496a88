"""Records and rows on stdout: as tables that fit, or as JSON."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

from cslm_data.plain_text import visible, visible_json

_WIDEST_CELL = 60
_PIPE_WIDTH = 160


def print_json(value: Any) -> None:
    """Print a record, or any JSON-like value, as JSON on stdout."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, indent=2)
    typer.echo(visible_json(text))


def print_json_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a JSON list of objects, one a line, as they come."""
    before = "["
    for row in rows:
        record = dict(zip(columns, row, strict=True))
        text = json.dumps(record, default=_plain, ensure_ascii=False)
        typer.echo(f"{before}\n  {visible_json(text)}", nl=False)
        before = ","
    typer.echo("[]" if before == "[" else "\n]")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV, as they come: bytes as they are for a program, visible for a person."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([visible(str(v)) for v in row] if sys.stdout.isatty() else row)


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
    columns = [visible(column) for column in columns]
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
    heading = None if title is None else Text(visible(title))
    table = Table(title=heading, title_justify="left", header_style="bold", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(kept) and all(isinstance(r[index], int | float | None) for r in kept)
        table.add_column(
            Text(column), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
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
    return "" if value is None else visible(str(value))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
