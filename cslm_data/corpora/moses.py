"""Moses bitext: a folder with files of one sentence a line, `NAME.en-zh.en` beside `NAME.en-zh.zh`.

Source: the Moses format of OPUS and WMT. Line n of one file is the translation of line n of the
other; also `NAME.en` beside `NAME.zh`, where a folder holds two such files of a name. A pair of
which one side is blank is refused, and so is what one file has beyond the end of the other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pyarrow as pa

from cslm_data.corpora.columns import Columns, File
from cslm_data.corpora.lines import read_lines
from cslm_data.corpora.source import Source
from cslm_data.corpora.tables import SUFFIXES, language_pair_of
from cslm_data.languages import known_language


def recognises_folder(source: Source) -> bool:
    """At least one pair of files, and no manifest beside them."""
    names = source.names("*")
    has_manifest = any(name.lower().endswith(SUFFIXES) for name in names)
    return not has_manifest and bool(_pairs(source, names))


def _pairs(source: Source, names: list[str]) -> list[tuple[str, str, str, str]]:
    """(first file, second file, language, language) of each pair, in order."""
    by_name: dict[str, dict[str, str]] = {}
    for name in names:
        stem, dot, language = source.child(name).plain_name.rpartition(".")
        if dot and known_language(language):
            by_name.setdefault(stem, {})[language] = name
    pairs = []
    for stem, files in sorted(by_name.items()):
        named = language_pair_of(stem)
        if len(files) == 2:
            first, second = named if named and set(named) == set(files) else sorted(files)
            pairs.append((files[first], files[second], first, second))
    return pairs


def _files(source: Source) -> list[File]:
    return [
        File(
            name=first,
            constants={"src_lang": language, "tgt_lang": other},
            batches=functools.partial(_read_pair, first=first, second=second),
        )
        for first, second, language, other in _pairs(source, source.names("*"))
    ]


def _read_pair(source: Source, *, first: str, second: str) -> Iterator[pa.RecordBatch]:
    """Batches of two files, line by line beside each other."""
    sides = [_rebatched(read_lines(source, name)) for name in (first, second)]
    waiting: list[pa.Table | None] = [None, None]
    while True:
        for index, side in enumerate(sides):
            if waiting[index] is None:
                waiting[index] = next(side, None)
        left, right = waiting
        if left is None and right is None:
            return
        if left is None or right is None:
            rest = left if right is None else right
            assert rest is not None  # noqa: S101 - both None is handled above
            longer, shorter = (first, second) if right is None else (second, first)
            detail = f"{longer} goes on beyond the end of {shorter}; the files are not aligned"
            yield from _batches(rest, rest, refuse=detail)
            waiting = [None, None]
            continue
        size = min(len(left), len(right))
        yield from _batches(left.slice(0, size), right.slice(0, size))
        waiting = [side.slice(size) if len(side) > size else None for side in (left, right)]


def _rebatched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        if len(batch):
            yield pa.Table.from_batches([batch])


def _batches(
    left: pa.Table, right: pa.Table, *, refuse: str | None = None
) -> Iterator[pa.RecordBatch]:
    import pyarrow.compute as pc

    def said(name: str, otherwise: str | None) -> pa.ChunkedArray:
        if refuse is not None:
            return pa.chunked_array([pa.array([otherwise] * len(left), pa.string())])
        return pc.coalesce(left[name], right[name])

    nothing = pa.nulls(len(left), pa.string())
    table = pa.table(
        {
            "number": left["number"],
            "src": left["line"] if refuse is None else nothing,
            "tgt": right["line"] if refuse is None else nothing,
            "reason": said("reason", "not_aligned"),
            "detail": said("detail", refuse),
        }
    )
    yield from table.combine_chunks().to_batches()


COLUMNS = Columns(
    table="bitext",
    fields=("id", "src_lang", "tgt_lang", "src", "tgt", "license", "split", "corpus"),
    query="rows_of_bitext",
    files=_files,
)
