"""CSV and TSV files → rows of cells, each with the number of its line; bad rows say why."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, NamedTuple

from cslm_data.corpora.source import Source


class CellRow(NamedTuple):
    """A row below the header; where `reason` is said, its cells are all null."""

    number: int
    cells: list[str | None]
    reason: str | None = None
    detail: str | None = None


def read_header(source: Source, name: str, delimiter: str) -> tuple[list[str], int]:
    """Names of the columns of a file and the number of its line; none of an empty file."""
    with source.open_text(name) as stream:
        rows = _open_csv(stream, delimiter)
        for cells in _survive(rows):
            if not isinstance(cells, str) and any(cell.strip() for cell in cells):
                return [cell.strip() for cell in cells], rows.line_num
    return [], 0


def read_cell_rows(
    source: Source, name: str, delimiter: str, *, header: list[str], skip: int
) -> Iterator[CellRow]:
    """The rows of a file after line `skip`, blank ones left out.

    A comma: RFC 4180, quoted cells may hold ends of lines. A tab: no quoting.
    """
    with source.open_text(name) as stream:
        rows = _open_csv(stream, delimiter)
        for cells in _survive(rows):
            row = _check(rows.line_num, cells, len(header))
            if row is not None and row.number > skip:
                yield row


def _open_csv(stream: Any, delimiter: str) -> Any:
    if delimiter == "\t":
        return csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(stream, delimiter=delimiter)


def _survive(rows: Any) -> Iterator[list[str] | str]:
    """The rows; for one that the csv module refuses, what it says."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(error)


def _check(number: int, cells: list[str] | str, width: int) -> CellRow | None:
    nothing: list[str | None] = [None] * width
    if isinstance(cells, str):
        return CellRow(number, nothing, "bad_row", cells)
    if not any(cell.strip() for cell in cells):
        return None
    if any("\ud800" <= character <= "\udfff" for cell in cells for character in cell):
        detail = "invalid UTF-8; convert the file to UTF-8"
        return CellRow(number, nothing, "not_utf8", detail)
    if len(cells) != width:
        detail = f"{len(cells)} cells, the header has {width}"
        return CellRow(number, nothing, "bad_row", detail)
    return CellRow(number, list(cells))
