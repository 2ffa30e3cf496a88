"""Rows → tables of the audit page that page_script.js sorts and searches. Every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from cslm_data.auditing.overview import Listing
from cslm_data.html import format_number

LONGEST_TEXT = 400
"""Characters of a cell that are shown."""

LONGEST_LIST = 20
"""Elements of a list that are shown."""

_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}
"""Characters that nobody sees, as the pictures that Unicode has of them."""


def plain(value: Any) -> Any:
    """A value whose numbers are Python's own: DuckDB has exact decimals too."""
    return float(value) if isinstance(value, Decimal) else value


def show(value: Any) -> str:
    """Anything that a query gives as text, of bounded length; not escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        shown = ", ".join(show(each) for each in value[:LONGEST_LIST])
        more = len(value) - LONGEST_LIST
        text = f"{shown} … and {more:,} more" if more > 0 else shown
    else:
        text = str(value)
    text = text.encode("utf-8", "replace").decode().translate(_CONTROLS)
    if len(text) > LONGEST_TEXT:
        return f"{text[:LONGEST_TEXT]} … ({len(text):,} characters)"
    return text


def percent(share: float) -> str:
    """`12.3 %`."""
    return f"{100 * share:.1f} %"


def cell(value: Any, *, is_number: bool, is_share: bool = False, bar: float | None = None) -> str:
    """A cell; numbers keep their value in `data-value`, `bar` is drawn behind them, from 0 to 1."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        kind = "none number" if is_number else "none"
        return f'<td class="{kind}">{escape(show(value or None))}</td>'
    if not is_number:
        text = show(value)
        word = " word" if text.isascii() and " " not in text else ""
        kind = "text short" if len(text) <= 16 else f"text{word}"
        return f'<td class="{kind}" dir="auto">{escape(text)}</td>'
    drawn = "" if bar is None else f' style="--share:{bar:.3f}"'
    kind = "number" if bar is None else "number bar"
    text = percent(value) if is_share else show(value)
    return f'<td class="{kind}" data-value="{float(value)!r}"{drawn}>{escape(text)}</td>'


def find_numbers(columns: int, rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Which columns hold nothing but numbers; one without any value holds none."""
    return [
        all(
            row[column] is None
            or (isinstance(row[column], int | float) and not isinstance(row[column], bool))
            for row in rows
        )
        and any(row[column] is not None for row in rows)
        for column in range(columns)
    ]


def head(columns: Sequence[str], numbers: Sequence[bool]) -> str:
    """The row of heads, each a button to sort by; a column without a name has none."""
    cells = "".join(
        f'<th scope="col" aria-sort="none"{" class=number" if is_number else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        if name
        else "<td></td>"
        for name, is_number in zip(columns, numbers, strict=True)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def tools(what: str, all_of_them: str, more: str = "") -> str:
    """The line over a table: its search, how many rows are shown, and what else there is."""
    return (
        f'<div class="tools"><input type="search" placeholder="Search" aria-label="Search {what}">'
        f'{more}<output aria-live="polite" data-all="{escape(all_of_them)}">{escape(all_of_them)}'
        "</output></div>"
    )


def table(
    what: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], bars: Collection[str] = ()
) -> str:
    """A table of `what`; the numbers of the columns `bars` have bars up to the column's largest."""
    numbers = find_numbers(len(columns), rows)
    largest = [
        max((row[place] or 0 for row in rows), default=0) if name in bars else 0
        for place, name in enumerate(columns)
    ]
    body = "".join(
        "<tr>"
        + "".join(
            cell(
                value,
                is_number=is_number,
                is_share=name.endswith("share"),
                bar=value / most if most and value is not None else None,
            )
            for name, value, is_number, most in zip(columns, row, numbers, largest, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return boxed(what, count(len(rows), "row"), head(columns, numbers), body)


def boxed(what: str, shown: str, heads: str, body: str) -> str:
    """A table that scrolls in a frame of its own, under its tools."""
    return (
        f'<div class="box">{tools(what, shown)}<div class="frame" tabindex="0" role="region" '
        f'aria-label="Table of {what}"><table>{heads}<tbody>{body}</tbody></table></div></div>'
    )


def listing(what: str, found: Listing, *, empty: str, bars: Collection[str] = ()) -> str:
    """A table of the overview, or a sentence in its place; it says when there are more rows."""
    if not found.rows:
        return f'<p class="empty">{escape(empty)}</p>'
    more = found.num_groups - len(found.rows)
    note = (
        f'<p class="about">The first {len(found.rows):,} of {found.num_groups:,} rows; '
        "the others are in SQL: cslm-data sql.</p>"
        if more > 0
        else ""
    )
    return note + table(what, found.columns, found.rows, bars)


def count(number: int, what: str, plural: str | None = None) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"
