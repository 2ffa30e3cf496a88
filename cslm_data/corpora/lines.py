"""Files of rows → Arrow batches of lines, or of cells; no Python for each row.

A batch has `number` (of the line, or place in a JSON list), then `line`, or a column for each name
of the header, then `reason` and `detail` for what cannot be read: such a row has nothing else.
"""

# N lines of a block

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from cslm_data.corpora.cells import read_cell_rows
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import MAX_LINE_BYTES

_BLOCK_BYTES = 8 * 2**20
_CELL_ROWS = 8192
_BOM = b"\xef\xbb\xbf"

LINES = pa.schema(
    [
        ("number", pa.int64()),
        ("line", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def read_lines(source: Source, name: str = "") -> Iterator[pa.RecordBatch]:
    """Every line of a file (of one in this folder) with its number from 1, batches of LINES.

    Ends of lines may be LF or CRLF, a BOM is left out. A line that is no UTF-8 or longer than
    MAX_LINE_BYTES is refused.
    """
    with source.open(name) as stream:
        number = 1
        for block, too_long in _whole_lines(stream):
            if too_long:
                detail = f"over {MAX_LINE_BYTES} bytes; split it"
                yield _refused(number, "line_too_long", detail)
                number += 1
                continue
            batch = _batch_of(block, number)
            yield batch
            number += len(batch)


def _whole_lines(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Blocks that end with the end of a line; an overlong line is an empty block and True."""
    rest = stream.read(len(_BOM)).removeprefix(_BOM)
    skipping = False
    while block := stream.read(_BLOCK_BYTES):
        if skipping:
            end = block.find(b"\n")
            if end < 0:
                continue
            skipping, block = False, block[end + 1 :]
        block = rest + block
        cut = block.rfind(b"\n") + 1
        rest = block[cut:]
        if cut:
            yield block[:cut], False
        if len(rest) > MAX_LINE_BYTES:
            yield b"", True
            rest, skipping = b"", True
    if rest:
        yield rest + b"\n", False


def _batch_of(block: bytes, number: int) -> pa.RecordBatch:
    ends_N = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    starts_N = np.concatenate([[0], ends_N[:-1] + 1])
    numbers = pa.array(np.arange(number, number + len(ends_N)))
    nothing = pa.nulls(len(ends_N), pa.string())
    if int((ends_N - starts_N).max()) <= MAX_LINE_BYTES:
        offsets = np.concatenate([starts_N, [len(block)]]).astype(np.int32)
        lines = pa.StringArray.from_buffers(len(ends_N), pa.py_buffer(offsets), pa.py_buffer(block))
        try:
            lines.validate(full=True)
        except pa.ArrowInvalid:
            pass
        else:
            return pa.record_batch([numbers, lines, nothing, nothing], schema=LINES)
    checked = [_check_line(line) for line in block.split(b"\n")[:-1]]
    columns = [pa.array(column, pa.string()) for column in zip(*checked, strict=True)]
    return pa.record_batch([numbers, *columns], schema=LINES)


def _check_line(line: bytes) -> tuple[str | None, str | None, str | None]:
    if len(line) > MAX_LINE_BYTES:
        return None, "line_too_long", f"over {MAX_LINE_BYTES} bytes; split it"
    try:
        return line.decode("utf-8"), None, None
    except UnicodeDecodeError as error:
        where = f"invalid UTF-8 at byte {error.start} of the line"
        return None, "not_utf8", f"{where}; convert the file to UTF-8"


def _refused(number: int, reason: str, detail: str) -> pa.RecordBatch:
    columns = [[number], [None], [reason], [detail]]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, LINES, strict=True)],
        schema=LINES,
    )


def read_json_list(source: Source, name: str = "") -> Iterator[pa.RecordBatch]:
    """The objects of a JSON list, each as a line of its own, batches of LINES counted from 0."""
    import orjson

    try:
        with source.open(name) as stream:
            values = orjson.loads(stream.read().removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        yield _refused(0, "bad_json", f"{error}; a JSON list of objects is expected")
        return
    if not isinstance(values, list):
        yield _refused(0, "bad_json", "a JSON list of objects is expected")
        return
    for start in range(0, len(values), _CELL_ROWS):
        some = values[start : start + _CELL_ROWS]
        lines = pa.array([orjson.dumps(value).decode() for value in some], pa.string())
        nothing = pa.nulls(len(some), pa.string())
        numbers = pa.array(range(start, start + len(some)), pa.int64())
        yield pa.record_batch([numbers, lines, nothing, nothing], schema=LINES)


def read_cells(
    source: Source, name: str, *, header: list[str], skip: int, fields: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Rows of a CSV below its header, whose last line is `skip`: a column a field.

    A field that the header does not have is null.
    """
    places = [header.index(field) if field in header else None for field in fields]
    rows = read_cell_rows(source, name, ",", header=header, skip=skip)
    while chunk := list(itertools.islice(rows, _CELL_ROWS)):
        numbers, cells, reasons, details = zip(*chunk, strict=True)
        columns = list(zip(*cells, strict=True))
        nothing = (None,) * len(chunk)
        yield pa.record_batch(
            [
                pa.array(numbers, pa.int64()),
                *(
                    pa.array(nothing if place is None else columns[place], pa.string())
                    for place in places
                ),
                pa.array(reasons, pa.string()),
                pa.array(details, pa.string()),
            ],
            names=["number", *fields, "reason", "detail"],
        )
