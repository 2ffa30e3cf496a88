"""Columns of text → columns of comparable forms and keys, without a loop over rows.

Step 1. The text of many rows becomes one array of characters.
Step 2. A table, filled from Python's own Unicode data as characters turn up, gives each character
its comparable form and what it is. So columns and `normalise` agree by construction.
Step 3. Spaces and punctuation go by masks over the whole array.
Step 4. Rows that need more than one character at a time (numbers to spell, letters that fold to
two, marks to compose or reorder, another variant of Chinese) are done by `normalise`.
"""

# N rows, C characters

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cslm_data.text.normal_form import CHINESE, DEFAULT_RULES, UNSPACED, TextRules, normalise
from cslm_data.text.numbers import can_count

_ROWS_AT_ONCE = 1 << 16
_BYTES_AT_ONCE = 1 << 24
_SPACE, _APOSTROPHE = 0x20, 0x27
_KNOWN, _DROPPED, _ALPHANUMERIC, _DIGIT, _ALONE, _MARK, _TWICE, _OUTSIDE_ASCII = (
    1 << bit for bit in range(8)
)
"""Of a character. Alone: its row is for `normalise` to do. Mark: it is sorted among its like.
Twice: it folds to two of its form, as ß does."""

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


def normalise_column(
    texts: pa.Array | pa.ChunkedArray,
    languages: pa.Array | pa.ChunkedArray | str,
    rules: TextRules = DEFAULT_RULES,
) -> pa.Array:
    """`normalise` of every row: string (N,) and the language of each or of all → string (N,).

    Null stays null. Works through some megabytes at a time.
    """
    rows = _plain(texts)
    codes = None if isinstance(languages, str) else _plain(languages).dictionary_encode()
    if codes is not None and len(codes) != len(rows):
        raise ValueError(f"{len(rows)} texts, but {len(codes)} languages")
    parts = []
    for start, length in _cut(rows):
        names = (
            _Languages([languages], np.zeros(length, np.int64))
            if codes is None
            else _languages(codes.slice(start, length))
        )
        parts.append(_normalise_rows(rows.slice(start, length), names, rules))
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


def text_keys_column(
    texts: pa.Array | pa.ChunkedArray,
    languages: pa.Array | pa.ChunkedArray | str,
    rules: TextRules = DEFAULT_RULES,
) -> pa.Array:
    """`text_key` of every row: string (N,) → uint64 (N,), null where the text is."""
    return md5_keys_column(normalise_column(texts, languages, rules))


def md5_keys_column(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """`md5_key` of every row, computed by DuckDB: string (N,) → uint64 (N,)."""
    table = pa.table({"text": texts})
    with duckdb.connect() as connection:
        connection.register("rows", table)
        keys = connection.sql("select md5_number_lower(text) as k from rows").to_arrow_table()
    chunks = [chunk.cast(pa.uint64()) for chunk in keys["k"].chunks]
    return pa.concat_arrays([pa.array([], pa.uint64()), *chunks])


@dataclass(frozen=True)
class _Languages:
    """The languages of some rows: their codes, and the place of each row's code among them."""

    codes: list[str]
    places_N: Integers

    def where(self, holds: Any) -> Booleans:
        """Whether each row's language is one for which `holds`: bool (N,)."""
        flags = np.array([bool(holds(code)) for code in self.codes], np.bool_)
        return np.asarray(flags[self.places_N])

    def of(self, row: int) -> str:
        """The language of a row."""
        place: int = self.places_N[row]
        return self.codes[place]


def _languages(codes: pa.DictionaryArray) -> _Languages:
    if codes.null_count:
        raise ValueError("a text without a language")
    return _Languages(codes.dictionary.to_pylist(), codes.indices.to_numpy().astype(np.int64))


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # more than fits one array of 2³¹ bytes
        whole = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in whole.chunks])
    return whole if pa.types.is_large_string(whole.type) else whole.cast(pa.string())


def _cut(rows: pa.Array) -> list[tuple[int, int]]:
    """Starts and lengths of stretches of rows that have few rows and few bytes."""
    offsets_N = _offsets(rows)
    stretches, start = [], 0
    while start < len(rows):
        fits = np.searchsorted(offsets_N, offsets_N[start] + _BYTES_AT_ONCE, "right") - 1 - start
        length = int(min(max(fits, 1), _ROWS_AT_ONCE, len(rows) - start))
        stretches.append((start, length))
        start += length
    return stretches


def _offsets(rows: pa.Array) -> Integers:
    kind = np.int64 if pa.types.is_large_string(rows.type) else np.int32
    all_offsets = np.frombuffer(rows.buffers()[1], kind) if len(rows) else np.zeros(1, kind)
    return all_offsets[rows.offset : rows.offset + len(rows) + 1].astype(np.int64)


def _normalise_rows(rows: pa.Array, languages: _Languages, rules: TextRules) -> pa.Array:
    offsets_N = _offsets(rows)
    data = rows.buffers()[2]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    bytes_C = whole[offsets_N[0] : offsets_N[-1]]
    offsets_N = offsets_N - offsets_N[0]
    characters_C: NDArray[Any] = bytes_C
    is_ascii = not len(bytes_C) or bool(bytes_C.max() < 0x80)
    if not is_ascii:
        text = bytes_C.tobytes().decode("utf-8")
        characters_C = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        starts = np.concatenate([[0], np.cumsum((bytes_C & 0xC0) != 0x80)])
        offsets_N = starts[offsets_N]
    table = _table(rules.numbers)
    forms_C, kinds_C = table.look_up(characters_C)
    twice_C = kinds_C & _TWICE != 0
    if twice_C.any():
        offsets_N = offsets_N + np.searchsorted(np.flatnonzero(twice_C), offsets_N)
        times_C = 1 + twice_C.astype(np.int64)
        forms_C, kinds_C = np.repeat(forms_C, times_C), np.repeat(kinds_C, times_C)
    alone_N = _alone(forms_C, kinds_C, offsets_N, languages, rules, table)
    forms_C, offsets_N = _squeeze(forms_C, kinds_C, offsets_N, languages)
    fast = _to_arrow(forms_C, offsets_N, is_ascii)
    alone_N &= ~rows.is_null().to_numpy(zero_copy_only=False)
    if alone_N.any():
        places = np.flatnonzero(alone_N)
        slow = [
            normalise(text, languages.of(int(row)), rules)
            for text, row in zip(rows.take(pa.array(places)).to_pylist(), places, strict=True)
        ]
        fast = pc.replace_with_mask(fast, pa.array(alone_N), pa.array(slow, pa.string()))
    if rows.null_count:
        fast = pc.if_else(rows.is_valid(), fast, pa.scalar(None, pa.string()))
    return fast


def _alone(
    forms_C: NDArray[Any],
    kinds_C: NDArray[np.uint8],
    offsets_N: Integers,
    languages: _Languages,
    rules: TextRules,
    table: _Table,
) -> Booleans:
    """The rows that are for `normalise` to do: bool (N,)."""
    num_rows = len(offsets_N) - 1
    alone_N = np.zeros(num_rows, np.bool_)
    if not len(kinds_C):
        return alone_N
    seen = int(np.bitwise_or.reduce(kinds_C))
    if seen & _ALONE:
        alone_N |= _has(kinds_C & _ALONE != 0, offsets_N)
    if rules.numbers and seen & _DIGIT:
        counted_N = languages.where(can_count)
        if counted_N.any():
            alone_N |= _has(kinds_C & _DIGIT != 0, offsets_N) & counted_N
    if rules.chinese != "keep" and seen & _OUTSIDE_ASCII:
        chinese_N = languages.where(CHINESE.__contains__)
        if chinese_N.any():
            alone_N |= _has(kinds_C & _OUTSIDE_ASCII != 0, offsets_N) & chinese_N
    if seen & _MARK:
        # Marks that stand one after another in the wrong order are sorted by NFKC.
        orders_C = table.orders(forms_C)
        wrong_C = np.zeros(len(orders_C), np.bool_)
        wrong_C[1:] = (orders_C[1:] > 0) & (orders_C[:-1] > orders_C[1:])
        alone_N |= _has(wrong_C, offsets_N)
    return alone_N


def _has(flags_C: Booleans, offsets_N: Integers) -> Booleans:
    """Whether any character of each row is flagged: bool (N,)."""
    flagged = np.flatnonzero(flags_C)
    rows = np.searchsorted(offsets_N, flagged, "right") - 1
    found = np.zeros(len(offsets_N) - 1, np.bool_)
    found[rows] = True
    return found


def _squeeze(
    forms_C: NDArray[Any], kinds_C: NDArray[np.uint8], offsets_N: Integers, languages: _Languages
) -> tuple[NDArray[Any], Integers]:
    """Drop what does not count: punctuation is a space, spaces are one, none at either end."""
    if not len(forms_C):
        return forms_C, offsets_N
    lengths_N = np.diff(offsets_N)
    full_N = lengths_N > 0
    starts = offsets_N[:-1][full_N]
    apostrophes = np.flatnonzero(forms_C == _APOSTROPHE)
    if len(apostrophes):
        is_edge = np.zeros(len(forms_C) + 1, np.bool_)
        is_edge[offsets_N] = True
        inner = ~is_edge[apostrophes] & ~is_edge[apostrophes + 1]
        places = apostrophes[inner]
        letter_C = kinds_C & _ALPHANUMERIC
        inner[inner] = (letter_C[places - 1] != 0) & (letter_C[places + 1] != 0)
        forms_C = forms_C.copy()
        forms_C[apostrophes[~inner]] = _SPACE
    dropped_C = forms_C == _SPACE
    unspaced_N = languages.where(UNSPACED.__contains__)
    again_C = np.empty(len(dropped_C), np.bool_)
    again_C[0] = True
    again_C[1:] = dropped_C[:-1]
    again_C[starts] = True
    if unspaced_N.any():
        again_C |= np.repeat(unspaced_N, lengths_N) if not unspaced_N.all() else True
    kept_C = ~(dropped_C & again_C)
    removed = np.flatnonzero(~kept_C)
    forms_C = forms_C[kept_C]
    offsets_N = offsets_N - np.searchsorted(removed, offsets_N)
    ends = offsets_N[1:] - 1
    trailing_N = np.diff(offsets_N) > 0
    trailing_N[trailing_N] = forms_C[ends[trailing_N]] == _SPACE
    if trailing_N.any():
        forms_C = np.delete(forms_C, ends[trailing_N])
        offsets_N = offsets_N - np.concatenate([[0], np.cumsum(trailing_N)])
    return forms_C, offsets_N


def _to_arrow(forms_C: NDArray[Any], offsets_N: Integers, is_ascii: bool) -> pa.Array:
    if is_ascii:
        data = forms_C.astype(np.uint8, copy=False).tobytes()
    else:
        sizes = np.ones(len(forms_C), np.int64)
        for limit in (0x80, 0x800, 0x10000):
            sizes += forms_C >= limit
        offsets_N = np.concatenate([[0], np.cumsum(sizes)])[offsets_N]
        data = forms_C.astype("<u4", copy=False).tobytes().decode("utf-32-le").encode("utf-8")
    offsets = pa.py_buffer(offsets_N.astype(np.int32))
    return pa.StringArray.from_buffers(len(offsets_N) - 1, offsets, pa.py_buffer(data))


@functools.cache
def _table(fold_digits: bool) -> _Table:
    return _Table(fold_digits)


class _Table:
    """What becomes of each character, for all of Unicode, filled as they turn up."""

    def __init__(self, fold_digits: bool) -> None:
        self._fold_digits = fold_digits
        self._forms = np.zeros(0x110000, np.uint32)
        self._kinds = np.zeros(0x110000, np.uint8)
        self._orders = np.zeros(0x110000, np.uint8)
        for character in range(0x80):
            self._learn(character)
        self._ascii_forms = self._forms[:0x100].astype(np.uint8).tobytes()
        self._ascii_kinds = self._kinds[:0x100].tobytes()

    def look_up(self, characters_C: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Comparable form and kind of each character; the form has the type that came."""
        if characters_C.dtype == np.uint8:
            data = characters_C.tobytes()  # bytes.translate is several times faster than a[i]
            forms, kinds = data.translate(self._ascii_forms), data.translate(self._ascii_kinds)
            return np.frombuffer(forms, np.uint8), np.frombuffer(kinds, np.uint8)
        kinds_C = self._kinds[characters_C]
        unknown = kinds_C == 0
        if unknown.any():
            for character in np.unique(characters_C[unknown]).tolist():
                self._learn(character)
            kinds_C = self._kinds[characters_C]
        return self._forms[characters_C], kinds_C

    def orders(self, forms_C: NDArray[Any]) -> NDArray[np.uint8]:
        """Canonical combining class of each comparable form."""
        orders_C: NDArray[np.uint8] = self._orders[forms_C]
        return orders_C

    def _learn(self, character: int) -> None:
        form, kind = _describe(chr(character), self._fold_digits)
        self._forms[character] = ord(form)
        self._orders[ord(form)] = unicodedata.combining(form)
        outside = _OUTSIDE_ASCII if character >= 0x80 else 0
        self._kinds[character] = kind | outside | _KNOWN


def _describe(character: str, fold_digits: bool) -> tuple[str, int]:
    """Comparable form of a character, and its kind."""
    wide = unicodedata.normalize("NFKC", character)
    if all(_is_punctuation(part) for part in wide):
        return " ", _DROPPED
    if len(wide) != 1 or wide in _composing():
        return " ", _ALONE
    is_digit = unicodedata.category(wide) == "Nd"
    if is_digit and fold_digits:
        wide = str(unicodedata.decimal(wide))
    folded = wide.casefold().replace("’", "'")
    is_twice = len(folded) == 2 and folded[0] == folded[1]
    if is_twice:
        folded = folded[0]
    if len(folded) != 1 or unicodedata.combining(folded) != unicodedata.combining(wide):
        return " ", _ALONE
    kind = (_DIGIT if is_digit else 0) | (_TWICE if is_twice else 0)
    if unicodedata.combining(folded):
        kind |= _MARK
    category = unicodedata.category(folded)[0]
    if category in "LN":
        kind |= _ALPHANUMERIC
    return folded, kind


def _is_punctuation(character: str) -> bool:
    """Whether it is out whatever stands around it. An apostrophe is not, nor what may compose."""
    is_out = unicodedata.category(character)[0] not in "LMN" and character not in "'’"
    return is_out and character not in _composing() and not unicodedata.combining(character)


@functools.cache
def _composing() -> frozenset[str]:
    """The characters that NFKC may join to the one before: marks of letters, parts of Hangul."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(0xC0, 0x20000):
        parts = unicodedata.normalize("NFD", chr(code))
        if len(parts) > 1:
            found.add(parts[-1])
    return frozenset(found)
