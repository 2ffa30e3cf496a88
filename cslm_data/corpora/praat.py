"""The text of a TextGrid → its tiers, in the long and the short format alike.

Source: fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html: what counts are the free-standing
numbers, strings and flags; all other words, and what follows a `!`, are for people.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(<[^>\s]*>)|(![^\n]*)|([^\s"]+)')
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A tier of intervals, in the order of the file."""

    name: str
    intervals: tuple[tuple[float, float, str], ...]
    """Start and end in seconds, label."""


def decode_text(data: bytes) -> str:
    """Text of a file with a BOM, or of UTF-8. Raises UnicodeDecodeError."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding)
    return data.decode("utf-8")


def parse_textgrid(text: str) -> list[Tier]:
    """The tiers of intervals; those of points are passed over.

    Raises ValueError that says what is missing, also for a file that is cut short.
    """
    tokens = _tokens(text)
    try:
        if not _string(tokens).startswith("ooTextFile") or _string(tokens) != "TextGrid":
            raise ValueError("not a text file of a TextGrid")
        _number(tokens), _number(tokens)
        if next(tokens) != ("flag", "<exists>"):
            return []
        return [tier for tier in [_tier(tokens) for _ in range(_count(tokens))] if tier]
    except StopIteration:
        raise ValueError("the file ends before its tiers do; fetch it again") from None


def _tier(tokens: Iterator[tuple[str, str]]) -> Tier | None:
    kind, name = _string(tokens), _string(tokens)
    _number(tokens), _number(tokens)
    if kind == "TextTier":
        for _ in range(_count(tokens)):
            _number(tokens), _string(tokens)
        return None
    if kind != "IntervalTier":
        raise ValueError(f"a tier of class {kind!r}")
    intervals = [(_number(tokens), _number(tokens), _string(tokens)) for _ in range(_count(tokens))]
    return Tier(name=name, intervals=tuple(intervals))


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The free-standing strings, flags and numbers."""
    for match in _TOKEN.finditer(text):
        string, flag, _, word = match.groups()
        if string is not None:
            yield "string", string.replace('""', '"')
        elif flag is not None:
            yield "flag", flag
        elif word is not None and _is_number(word):
            yield "number", word


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def _string(tokens: Iterator[tuple[str, str]]) -> str:
    kind, value = next(tokens)
    if kind != "string":
        raise ValueError(f"a string is expected where {value!r} stands")
    return value


def _number(tokens: Iterator[tuple[str, str]]) -> float:
    kind, value = next(tokens)
    if kind != "number":
        raise ValueError(f"a number is expected where {value!r} stands")
    return float(value)


def _count(tokens: Iterator[tuple[str, str]]) -> int:
    number = _number(tokens)
    if not 0 <= number <= 1e8:
        raise ValueError(f"{number} is no number of tiers or intervals")
    return int(number)
