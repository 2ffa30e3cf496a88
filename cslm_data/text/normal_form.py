"""Transcript and translation text → the form that sentences are compared in. Raw text is kept."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cslm_data.keys import md5_key
from cslm_data.text.numbers import fold_digits, mark_digits, spell_numbers

if TYPE_CHECKING:
    from opencc import OpenCC

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue"})
"""Languages written without spaces between words."""

CHINESE = frozenset({"zh", "cmn", "yue", "wuu", "hak", "nan"})
"""Languages written in Chinese characters of two variants."""

_CONVERSIONS = {"simplified": "t2s", "traditional": "s2t"}


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """What the comparable form does beyond width, case and punctuation."""

    numbers: bool = True
    """Spell numbers out, in languages that we can count in; digits are 0-9 in all others."""
    chinese: Literal["keep", "simplified", "traditional"] = "keep"
    """Characters that Chinese text is turned into, by the tables of OpenCC."""


DEFAULT_RULES = TextRules()


def normalise(text: str, language: str, rules: TextRules = DEFAULT_RULES) -> str:
    """Comparable form: NFKC, numbers spelled out, case folded, punctuation out, single spaces.

    Spaces go altogether in languages that are written without them. An apostrophe inside a word
    stays. Text of punctuation alone becomes the empty string.
    """
    if rules.numbers:
        wide = unicodedata.normalize("NFKC", mark_digits(text, language))
        written = spell_numbers(fold_digits(wide), language)
    else:
        written = unicodedata.normalize("NFKC", text)
    if rules.chinese != "keep" and language in CHINESE:
        written = _converter(rules.chinese).convert(written)
    folded = written.casefold().replace("’", "'")
    if "'" in folded:
        folded = _OUTER_APOSTROPHE.sub(" ", folded)
    words = folded.translate(_KEPT).split()
    return ("" if language in UNSPACED else " ").join(words)


def text_key(text: str, language: str, rules: TextRules = DEFAULT_RULES) -> int:
    """64-bit key of the sentence: equal for texts of one comparable form.

    The same as `md5_number_lower` of that form in SQL.
    """
    return md5_key(normalise(text, language, rules))


class _Kept(dict[int, int]):
    """Letters, marks and numbers as they are, an inner apostrophe too, all else as a space."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        kept = character == "'" or unicodedata.category(character)[0] in "LMN"
        self[code] = code if kept else ord(" ")
        return self[code]


_KEPT = _Kept()
_OUTER_APOSTROPHE = re.compile(r"'(?![^\W_])|(?<![^\W_])'")


@functools.cache
def _converter(variant: str) -> OpenCC:
    from opencc import OpenCC

    return OpenCC(_CONVERSIONS[variant])
