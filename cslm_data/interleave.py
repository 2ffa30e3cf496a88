"""words with times + units with durations → chunks of text and speech. Pure functions.

The spoken answer of the chain of modality is cut into chunks of about N words, each with the units
that speak it (arXiv:2604.11096, N = 7). What holds for every result:

- the texts of the chunks, one after the other, are the text; their units are the units;
- a chunk is made of whole words of the alignment, at least one, and has at least one run of units;
- silence belongs to the chunk it follows, silence at the very start to the first;
- a chunk ends at the last punctuation after its word N//2 + 1 to N + 2 where there is one, else
  after word N; what is left at the end (N words or fewer) is one chunk. For N = 7: words 4 to 9.
"""

# W words, R runs of units, C chunks

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.records import Units, Word

DEFAULT_CHUNK_WORDS = 7

_SILENCE = frozenset({"sil", "sp", "<sil>", "<eps>", "<p>"})
_TIME_TOLERANCE_S = 0.5
"""How far words may reach beyond the end of the speech: aligners pad."""


class AlignmentMismatch(ValueError):  # noqa: N818 - says what it is; a row is rejected with it
    """The words of an alignment are not those of the text, or not of this speech."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of text and the units that speak it."""

    text: str
    units: Units
    num_words: int


def interleave(
    text: str,
    words: Sequence[Word],
    units_R: Units,
    durations_R: NDArray[np.uint16],
    *,
    frame_rate_hz: float,
    chunk_words: int = DEFAULT_CHUNK_WORDS,
) -> list[Chunk]:
    """Cut a text and its speech into chunks; see above. Raises AlignmentMismatch."""
    spoken = [word for word in words if _letters(word.word) and word.word not in _SILENCE]
    if len(units_R) != len(durations_R):
        raise ValueError(f"{len(units_R)} units but {len(durations_R)} durations")
    if len(units_R) == 0:
        raise AlignmentMismatch("the speech has no units")
    _check_times(spoken, float(np.sum(durations_R, dtype=np.int64)) / frame_rate_hz)
    starts_W = locate_words(text, spoken)
    ends = [*starts_W[1:], len(text)]
    pieces = [text[start:end] for start, end in zip(starts_W, ends, strict=True)]
    sizes = chunk_sizes([_ends_clause(piece) for piece in pieces], chunk_words)
    sizes = _at_most(sizes, len(units_R))
    firsts_C = np.cumsum([0, *sizes[:-1]]).tolist()
    cuts = cut_runs(durations_R, [spoken[i].start_s * frame_rate_hz for i in firsts_C[1:]])
    bounds = [0, *cuts, len(units_R)]
    return [
        Chunk(
            text="".join(pieces[first : first + size]),
            units=units_R[bounds[index] : bounds[index + 1]],
            num_words=size,
        )
        for index, (first, size) in enumerate(zip(firsts_C, sizes, strict=True))
    ]


def locate_words(text: str, words: Sequence[Word]) -> list[int]:
    """Where the stretch of each word begins in the text, the first at 0; together they cover it.

    Words are compared by their letters and digits alone, casefolded and compatibility-normalised,
    and must spell the text in order. The stretch of a word holds the white space and the opening
    punctuation in front of it and the closing punctuation behind it. Raises AlignmentMismatch.
    """
    letters, positions = _letters_at(text)
    spelled = [_letters(word.word) for word in words]
    if not letters or "".join(spelled) != letters:
        raise AlignmentMismatch(_first_difference(letters, spelled))
    starts: list[int] = []
    cursor = 0
    for index, word in enumerate(spelled):
        begin = positions[cursor]
        before = positions[cursor - 1] + 1 if cursor else 0
        starts.append(_boundary(text, before, begin) if index else 0)
        cursor += len(word)
    if len(set(starts)) != len(starts):
        raise AlignmentMismatch("two words share one character of the text")
    return starts


def chunk_sizes(clause_ends_W: Sequence[bool], chunk_words: int) -> list[int]:
    """Words of each chunk, from which words end a clause (are followed by punctuation)."""
    if chunk_words < 1:
        raise ValueError(f"chunk_words must be at least 1, not {chunk_words}")
    low, high = chunk_words // 2 + 1, chunk_words + 2
    total = len(clause_ends_W)
    sizes: list[int] = []
    start = 0
    while total - start > chunk_words:
        size = chunk_words
        for count in range(min(high, total - start), low - 1, -1):
            if clause_ends_W[start + count - 1] or start + count == total:
                size = count
                break
        sizes.append(size)
        start += size
    if start < total:
        sizes.append(total - start)
    return sizes


def cut_runs(durations_R: NDArray[np.uint16], times: Sequence[float]) -> list[int]:
    """Where to cut the runs at some times in frames, rising, so that no part is empty.

    A run belongs to the side on which its middle lies. Needs at least len(times) + 1 runs.
    """
    ends_R = np.cumsum(durations_R, dtype=np.int64)
    middles = (ends_R - np.asarray(durations_R, dtype=np.float64) / 2).tolist()
    cuts: list[int] = []
    for index, time in enumerate(times):
        lowest = cuts[-1] + 1 if cuts else 1
        highest = len(middles) - (len(times) - index)
        cuts.append(min(max(bisect_left(middles, time), lowest), highest))
    return cuts


def _at_most(sizes: list[int], num_runs: int) -> list[int]:
    """The last chunks joined until there are no more of them than runs."""
    if len(sizes) <= num_runs:
        return sizes
    return [*sizes[: num_runs - 1], sum(sizes[num_runs - 1 :])]


def _check_times(words: Sequence[Word], duration_s: float) -> None:
    last = 0.0
    for word in words:
        if word.start_s < last or word.end_s < word.start_s:
            raise AlignmentMismatch(f"times of {word.word!r} go back at {word.start_s:.2f} s")
        last = word.start_s
    if words and words[-1].end_s > duration_s + _TIME_TOLERANCE_S:
        raise AlignmentMismatch(
            f"{words[-1].word!r} ends at {words[-1].end_s:.2f} s, the speech at {duration_s:.2f} s"
        )


def _letters(word: str) -> str:
    return _letters_at(word)[0]


def _letters_at(text: str) -> tuple[str, list[int]]:
    """Folded letters and digits of a text, and the position each comes from."""
    letters: list[str] = []
    positions: list[int] = []
    for position, character in enumerate(text):
        for folded in unicodedata.normalize("NFKC", character).casefold():
            if folded.isalnum():
                letters.append(folded)
                positions.append(position)
    return "".join(letters), positions


def _boundary(text: str, before: int, begin: int) -> int:
    """Where between two words, `text[before:begin]`, the stretch of the second begins."""
    for position in range(begin - 1, before - 1, -1):
        if text[position].isspace():
            while position > before and text[position - 1].isspace():
                position -= 1
            return position
    position = begin
    while position > before and unicodedata.category(text[position - 1]) in ("Ps", "Pi"):
        position -= 1
    return position


def _ends_clause(piece: str) -> bool:
    """Whether a word's stretch closes with punctuation; an apostrophe is none."""
    for character in reversed(piece.rstrip()):
        if character.isalnum():
            return False
        if unicodedata.category(character) in ("Po", "Pe", "Pf") and character not in "'’":
            return True
    return False


def _first_difference(letters: str, spelled: Sequence[str]) -> str:
    if not letters:
        return "the text has no word"
    cursor = 0
    for word in spelled:
        if not letters.startswith(word, cursor):
            there = letters[cursor : cursor + max(12, len(word))]
            return f"the alignment says {word!r} where the text goes on with {there!r}"
        cursor += len(word)
    return f"the alignment ends before {letters[cursor : cursor + 20]!r}"
