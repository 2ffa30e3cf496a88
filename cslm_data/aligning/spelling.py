"""transcript → its words, each with the symbols of an acoustic model that spell it. Pure functions.

A word is a piece of the transcript as it stands there, without the punctuation around it, so that
the words of an alignment can be found in the text again (interleave.locate_words). What is spelled
is what is said: numbers are read as `text/numbers.py` reads them, and the words of a number that
reaches over several pieces (`$5 million`) belong to the piece with its digits. A piece of which
nothing is said, or nothing that the model knows (the `million` of that example, a word in another
script), has no times of its own: it becomes part of the word before it, or of the first word where
there is none, and the word is then written as the text has them, with what stands between.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cslm_data.aligning.acoustic import Spelling
from cslm_data.text import normalise
from cslm_data.text.numbers import SpelledNumber, find_numbers
from cslm_data.text.words import SEGMENTED, UNSPACED, split_words

SEPARATOR = "|"
"""Between words, in models that have it."""

SPELLING_VERSION = 1
"""Part of what an alignment is made with: raise it when texts come to be spelled otherwise."""

_MOST_UNKNOWN = 0.2
"""A transcript may have this share of letters that the model does not know."""


class CannotSpell(ValueError):  # noqa: N818 - says what it is; a row is rejected with it
    """A transcript without any word, or in letters that the model does not know."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SpelledWord(NamedTuple):
    """A word as the transcript has it, and the columns of the model that spell it."""

    word: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """The symbols of a model, and what is written in them."""

    columns: Mapping[str, int]
    """Character → column of the emissions, for either case."""
    spelling: Spelling
    separator: int | None
    """Column of the sign between words, where there is one."""


class _Piece(NamedTuple):
    start: int
    end: int
    tokens: list[int]
    has_letters: bool


def make_alphabet(symbols: Sequence[str], spelling: Spelling) -> Alphabet:
    """The alphabet of a model from its symbols, of which the first is the blank."""
    columns: dict[str, int] = {}
    single = [(each, column) for column, each in enumerate(symbols) if column and len(each) == 1]
    for fold in (lambda each: each, str.casefold, str.upper):
        for symbol, column in single:
            columns.setdefault(fold(symbol), column)
    separator = columns.pop(SEPARATOR, None)
    return Alphabet(columns=columns, spelling=spelling, separator=separator)


def spell(text: str, language: str, alphabet: Alphabet) -> list[SpelledWord]:
    """The words of a transcript with their tokens, at least one word and one token each.

    Raises CannotSpell: `no_words`, or `unknown_letters` where more than a fifth of the letters are
    not among the symbols.
    """
    unknown: Counter[str] = Counter()
    numbers = find_numbers(_same_length(text), language)
    pieces = [
        _spell_piece(text, start, end, numbers, language, alphabet, unknown)
        for start, end in _spans(text, language)
    ]
    num_tokens = sum(len(piece.tokens) for piece in pieces)
    num_unknown = sum(unknown.values())
    if not any(piece.has_letters for piece in pieces):
        raise CannotSpell("no_words", "the transcript has no word; correct it")
    if not num_tokens or num_unknown > _MOST_UNKNOWN * (num_tokens + num_unknown):
        commonest = " ".join(letter for letter, _ in unknown.most_common(8)) or "any of it"
        raise CannotSpell(
            "unknown_letters",
            f"the aligner does not know {commonest}; take one for {language} with --aligner, or "
            "train one on it: cslm-data align --retrain",
        )
    return [
        SpelledWord(_trim(text[piece.start : piece.end]), tuple(piece.tokens))
        for piece in _join(pieces)
    ]


def separator_of(alphabet: Alphabet, language: str) -> int | None:
    """The column between words of a language; None where words are written without spaces."""
    return None if language in SEGMENTED | UNSPACED else alphabet.separator


def _spans(text: str, language: str) -> list[tuple[int, int]]:
    """Where the words of a text, and what stands between them, begin and end."""
    spans: list[tuple[int, int]] = []
    start = 0
    for piece in split_words(text, language):
        end = start + len(piece)
        if spans and unicodedata.category(piece[0]).startswith("M"):
            # A vowel sign or tone mark alone belongs to the letter before it.
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        start = end
    return spans


def _spell_piece(
    text: str,
    start: int,
    end: int,
    numbers: Sequence[SpelledNumber],
    language: str,
    alphabet: Alphabet,
    unknown: Counter[str],
) -> _Piece:
    said, cursor = "", start
    for number in numbers:
        if number.end <= start or number.start >= end:
            continue
        said += text[cursor : max(cursor, number.start)]
        if start <= number.digits < end:
            said += f" {number.words} "
        cursor = min(end, number.end)
    said += text[cursor:end]
    tokens = _tokens(said, language, alphabet, unknown)
    return _Piece(start, end, tokens, _has_letters(text[start:end]))


def _tokens(said: str, language: str, alphabet: Alphabet, unknown: Counter[str]) -> list[int]:
    """Columns of the letters of what is said; letters that have none are counted."""
    normal = normalise(said, language)
    write = _romanise if alphabet.spelling == "romanised" else _letter_by_letter
    tokens: list[int] = []
    missing: list[str] = []
    for letter, written in write(normal, language, alphabet.columns):
        found = [alphabet.columns[c] for c in written if c in alphabet.columns]
        if found:
            tokens += found
        elif letter.isalnum():
            missing.append(letter)
    # A digit beside letters that are said is a tone or a mark, as in bei1: nobody says it.
    unknown.update(letter for letter in missing if not (tokens and letter.isdigit()))
    return tokens


def _letter_by_letter(
    normal: str, _language: str, known: Mapping[str, int]
) -> list[tuple[str, str]]:
    """Each letter as it is, else its parts without accents: é as e, a Hangul syllable as jamo."""
    return [
        (letter, letter if letter in known else unicodedata.normalize("NFD", letter))
        for letter in normal
        if not letter.isspace()
    ]


def _romanise(normal: str, language: str, _known: Mapping[str, int]) -> list[tuple[str, str]]:
    """Each letter in a-z: Mandarin in pinyin without tones, all else by anyascii's tables."""
    latin = _pinyin if language in SEGMENTED else _anyascii
    pairs: list[tuple[str, str]] = []
    for letter, written in latin(normal):
        plain = "".join(c for c in written.casefold() if "a" <= c <= "z" or c == "'")
        if not letter.isspace():
            pairs.append((letter, plain))
    return pairs


def _anyascii(text: str) -> list[tuple[str, str]]:
    from anyascii import anyascii

    composed = unicodedata.normalize("NFC", text)
    return [(letter, anyascii(letter)) for letter in composed]


def _pinyin(text: str) -> list[tuple[str, str]]:
    """Syllables by the words they stand in; ü is u, as without its dots."""
    from pypinyin import Style, lazy_pinyin

    syllables = lazy_pinyin(
        text,
        style=Style.NORMAL,
        v_to_u=True,
        errors=_apart,  # type: ignore[arg-type]  # its types do not tell of lists
    )
    return [
        (letter, "".join(c for c in unicodedata.normalize("NFD", said) if c.isascii()))
        for letter, said in zip(text, syllables, strict=True)
    ]


def _apart(text: str) -> list[str]:
    """What pypinyin cannot read: a letter at a time, so that syllables and letters go together."""
    return [written for _, written in _anyascii(text)]


def _join(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Pieces that are words: with letters to find them by and tokens to time them by."""
    joined: list[_Piece] = []
    waiting: _Piece | None = None
    for piece in pieces:
        if not piece.tokens and not piece.has_letters:
            continue
        if waiting is not None:
            piece = _Piece(
                waiting.start,
                piece.end,
                waiting.tokens + piece.tokens,
                waiting.has_letters or piece.has_letters,
            )
            waiting = None
        if piece.tokens and piece.has_letters:
            joined.append(piece)
        elif joined:
            last = joined[-1]
            joined[-1] = last._replace(end=piece.end, tokens=last.tokens + piece.tokens)
        else:
            waiting = piece
    return joined


def _has_letters(text: str) -> bool:
    return any(c.isalnum() for c in unicodedata.normalize("NFKC", text))


def _trim(word: str) -> str:
    """Without the punctuation and space around it; an accent at its end stays."""
    start, end = 0, len(word)
    while start < end and _is_outside(word[start]):
        start += 1
    while end > start and _is_outside(word[end - 1]):
        end -= 1
    return word[start:end]


def _is_outside(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith("P")


def _same_length(text: str) -> str:
    """Digits and signs in their plain form, each in its place, so that numbers can be found."""
    return "".join(map(_plain, text))


@functools.lru_cache(1 << 12)
def _plain(character: str) -> str:
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    if unicodedata.category(character) == "No":
        return character
    wide = unicodedata.normalize("NFKC", character)
    return wide if len(wide) == 1 else character
