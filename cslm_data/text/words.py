"""text → its words, also where no space parts them. Pure functions.

Mandarin is cut by a dictionary segmenter (rjieba); languages that write spaces at white space;
other languages without spaces by characters, since the project knows no words of theirs.
"""

from __future__ import annotations

import re

SEGMENTED = frozenset({"zh", "yue"})
"""Languages that a dictionary cuts into words."""

UNSPACED = frozenset({"ja", "th", "lo", "km", "my", "bo"})
"""Languages that write no spaces and have no dictionary here: each character is a word."""

_SPACED = re.compile(r"\s+|\S+")


def split_words(text: str, language: str) -> list[str]:
    """The words of a text, and what stands between them, as pieces that spell the text again."""
    if language in SEGMENTED:
        import rjieba

        return list(rjieba.cut(text))
    if language in UNSPACED:
        return list(text)
    return _SPACED.findall(text)
