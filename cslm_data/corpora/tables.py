"""Rows of JSONL, JSON, CSV and TSV files, with the place of each; bad lines become rejects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cslm_data.corpora.cells import read_cell_rows, read_header
from cslm_data.corpora.source import Source
from cslm_data.records import Reject

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is refused: a manifest row is never this large."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record of a file and where it stands."""

    place: str
    """`file.jsonl:12`, for messages."""
    fields: dict[str, Any]

    def text(self, *names: str) -> str | None:
        """The first of these fields that is there and not blank, as a string."""
        for name in names:
            value = self.fields.get(name)
            if value is None or isinstance(value, dict | list):
                continue
            text = str(value)
            if text.strip():
                return text
        return None

    def number(self, name: str) -> float | None:
        """A field as a float, None where absent or blank; ValueError if it is no finite number."""
        value = self.fields.get(name)
        if value is None or value == "":
            return None
        return to_number(value, name)


def to_number(value: Any, name: str) -> float:
    """A finite float. ValueError for anything else."""
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError(f"{name}: {str(value)[:40]!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name}: {number} is no time")
    return number


def first_row(source: Source) -> Row | None:
    """The first readable row of a file, by whose fields a format is guessed; None without one."""
    if source.is_folder or source.suffix not in SUFFIXES:
        return None
    if "row" not in source.peeked:
        rows = (row for row in read_rows(source) if isinstance(row, Row))
        source.peeked["row"] = next(rows, None)
    row: Row | None = source.peeked["row"]
    return row


def first_fields(source: Source) -> dict[str, Any]:
    """The fields of that row; none without one."""
    row = first_row(source)
    return {} if row is None else row.fields


def read_rows(source: Source) -> Iterator[Row | Reject]:
    """Every record of the file in order; blank lines are skipped, a BOM and CRLF are accepted."""
    suffix = source.suffix
    if suffix in (".csv", ".tsv"):
        yield from _read_delimited(source, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".json":
        yield from _read_json(source)
    else:
        yield from _read_json_lines(source)


def _read_json_lines(source: Source) -> Iterator[Row | Reject]:
    with source.open() as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{source.name}:{number}"
            if len(line) > MAX_LINE_BYTES:
                while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
                    pass
                yield _bad(place, "line_too_long", f"over {MAX_LINE_BYTES} bytes; split it")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _parse(line, place)


def _parse(line: bytes, place: str) -> Row | Reject:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _not_utf8(place, error.start)
    except (json.JSONDecodeError, RecursionError) as error:
        return _bad(place, "bad_json", f"{error}; one JSON object a line is expected")
    return _row(value, place)


def _read_json(source: Source) -> Iterator[Row | Reject]:
    try:
        with source.open() as stream:
            values = json.loads(stream.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        yield _not_utf8(source.name, error.start)
        return
    except (json.JSONDecodeError, RecursionError) as error:
        yield _bad(source.name, "bad_json", f"{error}; a JSON list of objects is expected")
        return
    if not isinstance(values, list):
        yield _bad(source.name, "bad_json", "a JSON list of objects is expected")
        return
    for index, value in enumerate(values):
        yield _row(value, f"{source.name}[{index}]")


def _read_delimited(source: Source, delimiter: str) -> Iterator[Row | Reject]:
    header, skip = list(headerless_names(source) or ()), 0
    if not header:
        header, skip = read_header(source, "", delimiter)
    for row in read_cell_rows(source, "", delimiter, header=header, skip=skip):
        place = f"{source.name}:{row.number}"
        if row.reason is not None:
            yield _bad(place, row.reason, row.detail or "")
        else:
            yield Row(place=place, fields=dict(zip(header, row.cells, strict=True)))


def headerless_names(source: Source) -> tuple[str, ...] | None:
    """Column names of a `name.en-zh.tsv`: two columns without a header, source and target."""
    return ("src", "tgt") if source.suffix == ".tsv" and language_pair_of(source.stem) else None


def language_pair_of(stem: str) -> tuple[str, str] | None:
    """`("en", "zh")` for `news.en-zh`, None without such a part in the name."""
    parts = stem.rsplit(".", 1)[-1].split("-")
    if "." in stem and len(parts) == 2 and all(part.isalpha() for part in parts):
        return parts[0], parts[1]
    return None


def _row(value: Any, place: str) -> Row | Reject:
    if not isinstance(value, dict):
        return _bad(place, "bad_json", "a JSON object is expected")
    if _has_lone_surrogate(value):
        return _not_utf8(place, None)
    return Row(place=place, fields=value)


def _has_lone_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(_has_lone_surrogate(item) for item in value.values())
    return isinstance(value, list) and any(_has_lone_surrogate(item) for item in value)


def _not_utf8(place: str, offset: int | None) -> Reject:
    where = "" if offset is None else f" at byte {offset} of the line"
    return _bad(place, "not_utf8", f"invalid UTF-8{where}; convert the file to UTF-8")


def _bad(place: str, reason: str, detail: str) -> Reject:
    return Reject(stage="ingest", corpus="", key=place, reason=reason, detail=detail)
