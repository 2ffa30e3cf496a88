"""Transcript and translation text → the form that sentences are compared in. Raw text is kept."""

from __future__ import annotations

import unicodedata

from cslm_data.keys import key64

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue"})
"""Languages written without spaces between words."""


def normalise(text: str, language: str) -> str:
    """Comparable form: NFKC, case folded, punctuation and symbols out, single spaces.

    Spaces go altogether in languages that are written without them. An apostrophe inside a word
    stays. Text of punctuation alone becomes the empty string.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    characters = [
        character if _is_kept(folded, index) else " " for index, character in enumerate(folded)
    ]
    words = "".join(characters).split()
    return ("" if language in UNSPACED else " ").join(words)


def text_key(text: str, language: str) -> int:
    """64-bit key of the sentence: equal for texts that differ in case, width or punctuation."""
    return key64("text", normalise(text, language))


def _is_kept(text: str, index: int) -> bool:
    character = text[index]
    if character == "'":
        return 0 < index < len(text) - 1 and text[index - 1].isalnum() and text[index + 1].isalnum()
    return unicodedata.category(character)[0] in "LMN"
