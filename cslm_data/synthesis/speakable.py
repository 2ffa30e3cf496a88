"""text → the line that is spoken, or why it should not be. Pure, the same for all backends.

Answers of instructions hold what nobody says: code, addresses, tables. Markdown that only shows
how a text looks (`**bold**`, `# heading`) is left out of what is spoken.
"""

from __future__ import annotations

import re
import unicodedata

from cslm_data.synthesis.backend import UnspeakableError

UNFIT = frozenset({"no_words", "too_long", "code", "address", "markup", "table"})
"""Reasons that lie in a text, not in a backend: no surprise."""

_MOST_LETTERS_PER_S, _WIDE_LETTERS = 30, 3
"""Nobody speaks faster, a wide character counting as three letters: what is longer is not tried."""
_CODE = re.compile(
    r"```|~~~|[{}]\s*$|[)\w]\s*=>|[\w)\]]\s*[-+*/]?=\s*[^=]*;\s*$|\w\(.*\);\s*$"
    r"|^\s*(?:def \w+\(|class \w+[(:]|function \w*\(|#include|import \w+$|from \S+ import )"
    r"|^\s*(?:const|let|var) \w+ =|^\s*(?:SELECT|select) .* (?:FROM|from) .*;",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"https?://|www\.\w|\b[\w.+-]+@[\w-]+\.\w")
_MARKUP = re.compile(
    r"<[/!?]?[A-Za-z][^<>\n]*>|&(?:[a-z]{2,8}|#\d{1,6});|\\(?:frac|begin|sum|text)\b"
)
_TABLE = re.compile(r"^\s*\|.*\|\s*$|(?:\S\t){2}", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~|`)(?=\S)(.+?)(?<=\S)\1")
_LINE_START = re.compile(r"^\s*(?:#{1,6}\s+|[-*•+]\s+|>\s*)+", re.MULTILINE)
_MOST_SYMBOLS, _SYMBOL_SHARE = 4, 0.15
"""So few symbols may stand anywhere; of more, such a share is code or a formula."""


def speakable(text: str, *, max_seconds: float) -> str:
    """A text as one line that can be spoken.

    Raises UnspeakableError: `no_words`, `too_long`, `code`, `address`, `markup`, `table`.
    """
    num_letters = sum(_WIDE_LETTERS if unicodedata.east_asian_width(c) == "W" else 1 for c in text)
    if num_letters > max_seconds * _MOST_LETTERS_PER_S:
        detail = f"{len(text)} characters cannot be said in {max_seconds:g} s; see --max-seconds"
        raise UnspeakableError("too_long", detail)
    for reason, pattern, what in (
        ("code", _CODE, "looks like code"),
        ("address", _ADDRESS, "has an address of the web or of mail"),
        ("markup", _MARKUP, "has markup"),
        ("table", _TABLE, "has a table"),
    ):
        if found := pattern.search(text):
            raise UnspeakableError(reason, f"the text {what}: {found[0].strip()[:60]!r}")
    shown = _EMPHASIS.sub(r"\2", _LINE_START.sub("", text))
    line = _one_line(shown)
    letters = sum(_is_word_part(letter) for letter in line)
    if not letters:
        raise UnspeakableError("no_words", "neither letters nor digits")
    symbols = sum(unicodedata.category(letter)[0] == "S" or letter in r"\/*@#" for letter in line)
    if symbols > _MOST_SYMBOLS and symbols > _SYMBOL_SHARE * (letters + symbols):
        detail = f"{symbols} of {letters + symbols} characters are symbols"
        raise UnspeakableError("code", f"the text looks like code: {detail}")
    return line


def _one_line(text: str) -> str:
    """Lines after each other, with a pause where one ends without; control characters out."""
    lines = []
    for line in re.split(r"[\r\n\u2028\u2029]+", text):
        visible = "".join(
            " " if unicodedata.category(each) in ("Cc", "Cs", "Co", "Cn") else each for each in line
        )
        plain = " ".join(visible.split())
        if plain:
            lines.append(plain)
    return " ".join(
        line if last or unicodedata.category(line[-1])[0] == "P" else f"{line},"
        for line, last in zip(lines, [False] * (len(lines) - 1) + [True], strict=False)
    )


def _is_word_part(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LN"
