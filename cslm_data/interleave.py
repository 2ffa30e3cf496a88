"""text, units, words with times → chunks of text and speech. Pure functions.

The spoken answer of the chain of modality (arXiv:2604.11096) is cut into chunks, each a stretch of
text and units. There are four modes:

- `chunk`: about N words and the units that speak them. A chunk ends at the last punctuation after
  its word N//2 + 1 to N + 2 where there is one, else after word N; what is left at the end (N words
  or fewer) is one chunk. For N = 7, as in the paper: words 4 to 9.
- `word`: each word and the units that speak it.
- `ratio`: n words, m units, n words, m units …, whatever is said when; needs no word times. Once
  either has no more for another chunk, the last chunk holds all the text that is left, then all the
  units that are left: words left over come before the last units, units left over at the end.
- `full`: all the text, then all the units; needs no word times.

What holds for every result:

- the texts of the chunks, one after the other, are the text; their units are the units;
- a chunk is made of whole words, at least one, and of whole runs of units, at least one; where
  there are fewer runs than chunks, the last chunks are joined;
- with word times, silence belongs to the chunk it follows, silence at the very start to the first;
- labels of silence among the words change nothing.

A word is a word of the alignment. Mandarin may be aligned by character or by word, so its words are
those of the segmenter (`text.words`): words of the alignment inside of one become one, and a word
of the alignment that reaches into another joins both. Words that share a character (`ﬁ`) are one.
Where there are no times, a word is a piece
of `split_words` with a letter or digit in it; in languages without spaces, a character.
"""

# W words, R runs of units, C chunks

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cslm_data.records import Units, Word
from cslm_data.text.words import SEGMENTED, split_words

InterleaveMode = Literal["chunk", "word", "ratio", "full"]

TIMED_MODES: frozenset[InterleaveMode] = frozenset({"chunk", "word"})
"""Modes that need the times of the words."""

DEFAULT_CHUNK_WORDS = 7

DEFAULT_RATIO = (7, 50)
"""Words : units. GLM-4-Voice (arXiv:2412.02612) writes 13 text tokens, about 4 s of speech, to 26
speech tokens of 12.5 Hz, 2.1 s of it: text runs ahead at nearly twice the speed. At 50 frames per
second a word takes 11 (HuBERT) to 16 (MFCC) runs, so 7 words are 77 to 112 units, and with 50 to
each text is ahead 1.5 to 2.2 times: a word is always written before it is spoken."""

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
    durations_R: NDArray[np.uint16] | None,
    *,
    language: str,
    frame_rate_hz: float,
    mode: InterleaveMode = "chunk",
    chunk_words: int = DEFAULT_CHUNK_WORDS,
    ratio: tuple[int, int] = DEFAULT_RATIO,
) -> list[Chunk]:
    """Cut a text and its speech into chunks; see above. Raises AlignmentMismatch.

    `words` and `durations_R`, the frames of each run, are read in TIMED_MODES only.
    """
    if len(units_R) == 0:
        raise AlignmentMismatch("the speech has no units")
    if mode not in TIMED_MODES:
        starts_W = text_words(text, language)
        words_each, runs_each = ratio if mode == "ratio" else (len(starts_W), len(units_R))
        sizes, cuts = ratio_chunks(len(starts_W), len(units_R), words_each, runs_each)
        return _assemble(_pieces(text, starts_W), units_R, sizes, cuts)
    if durations_R is None or len(units_R) != len(durations_R):
        num_durations = 0 if durations_R is None else len(durations_R)
        raise ValueError(f"{len(units_R)} units but {num_durations} durations")
    spoken, gaps = _spell(text, words)
    _check_times(spoken, float(np.sum(durations_R, dtype=np.int64)) / frame_rate_hz)
    firsts_W = _first_words(text, gaps, language)
    pieces = _pieces(text, _starts(text, [gaps[first] for first in firsts_W]))
    if mode == "word":
        sizes = [1] * len(pieces)
    else:
        sizes = chunk_sizes([_ends_clause(piece) for piece in pieces], chunk_words)
    sizes = _at_most(sizes, len(units_R))
    firsts_C = [firsts_W[first] for first in accumulate(sizes[:-1])]
    cuts = cut_runs(durations_R, [spoken[first].start_s * frame_rate_hz for first in firsts_C])
    return _assemble(pieces, units_R, sizes, cuts)


def locate_words(text: str, words: Sequence[Word]) -> list[int]:
    """Where the stretch of each word begins in the text, the first at 0; together they cover it.

    Words are compared by their letters and digits alone, casefolded and compatibility-normalised,
    and must spell the text in order; labels of silence are no words. The stretch of a word holds
    the white space and the opening punctuation in front of it and the closing punctuation behind
    it. Raises AlignmentMismatch.
    """
    gaps = _spell(text, words)[1]
    if any(begin > end for begin, end in gaps):
        raise AlignmentMismatch("two words share one character of the text")
    return _starts(text, gaps)


def text_words(text: str, language: str) -> list[int]:
    """Where the stretch of each word begins in a text without word times, the first at 0.

    Stretches as in `locate_words`. Raises AlignmentMismatch for a text without a word.
    """
    gaps: list[_Gap] = []
    position = after = 0
    for piece in split_words(text, language):
        inside = [index for index, character in enumerate(piece, position) if _FOLDED[character]]
        if inside:
            gaps.append((after, inside[0]))
            after = inside[-1] + 1
        position += len(piece)
    if not gaps:
        raise AlignmentMismatch("the text has no word")
    return _starts(text, gaps)


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
    middles_R = np.cumsum(durations_R, dtype=np.int64) - durations_R / 2
    cuts: list[int] = []
    for index, nearest in enumerate(np.searchsorted(middles_R, times).tolist()):
        lowest = cuts[-1] + 1 if cuts else 1
        highest = len(middles_R) - (len(times) - index)
        cuts.append(min(max(nearest, lowest), highest))
    return cuts


def ratio_chunks(
    num_words: int, num_runs: int, words_each: int, runs_each: int
) -> tuple[list[int], list[int]]:
    """Words of each chunk, and where to cut the runs, by counts alone; see `ratio` above."""
    if words_each < 1 or runs_each < 1:
        raise ValueError(f"a ratio is of numbers from 1 on, not {words_each} : {runs_each}")
    before = min(-(-num_words // words_each), -(-num_runs // runs_each)) - 1
    sizes = [*[words_each] * before, num_words - words_each * before]
    return sizes, [runs_each * (index + 1) for index in range(before)]


def _assemble(
    pieces: Sequence[str], units_R: Units, sizes: Sequence[int], cuts: Sequence[int]
) -> list[Chunk]:
    """Chunks of so many words each, with the runs between the cuts."""
    ends_W = list(accumulate(sizes))
    begins_R, ends_R = [0, *cuts], [*cuts, len(units_R)]
    return [
        Chunk(text="".join(pieces[end - size : end]), units=units_R[first:last], num_words=size)
        for size, end, first, last in zip(sizes, ends_W, begins_R, ends_R, strict=True)
    ]


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


# --- letters ---------------------------------------------------------------------------------

_Gap = tuple[int, int]
"""What stands in front of a word, `text[begin:end]`: from the last letter before to its first. The
end is before the begin where both letters are of one character (`ﬁ`)."""


class _Folds(dict[str, str]):
    """Letters and digits that a character stands for; "" for white space, punctuation and marks."""

    def __missing__(self, character: str) -> str:
        folded = unicodedata.normalize("NFKC", character).casefold()
        self[character] = "".join(each for each in folded if each.isalnum())
        return self[character]


_FOLDED = _Folds()


def _letters(word: str) -> str:
    if word.isascii() and word.isalnum():
        return word.lower()
    return "".join(map(_FOLDED.__getitem__, word))


def _spell(text: str, words: Sequence[Word]) -> tuple[list[Word], list[_Gap]]:
    """The words that spell the text, and what stands in front of each. Raises AlignmentMismatch."""
    folded = list(map(_FOLDED.__getitem__, text))
    letters = "".join(folded)
    found = [(word, spelled) for word in words if (spelled := _letters(word.word))]
    spoken = [pair for pair in found if pair[0].word.casefold() not in _SILENCE]
    if not _is_spelled(letters, spoken):
        # An aligner that takes apostrophes away writes the French word s'il like a silence.
        if not _is_spelled(letters, found):
            raise AlignmentMismatch(_first_difference(letters, [spelled for _, spelled in spoken]))
        spoken = found
    positions = [position for position, folds in enumerate(folded) if folds]
    if len(positions) < len(letters):  # some character stands for several letters
        positions = [position for position, folds in enumerate(folded) for _ in folds]
    gaps: list[_Gap] = []
    cursor = after = 0
    for _, spelled in spoken:
        gaps.append((after, positions[cursor]))
        cursor += len(spelled)
        after = positions[cursor - 1] + 1
    return [word for word, _ in spoken], gaps


def _is_spelled(letters: str, words: Sequence[tuple[Word, str]]) -> bool:
    return bool(letters) and "".join([spelled for _, spelled in words]) == letters


def _first_words(text: str, gaps: Sequence[_Gap], language: str) -> list[int]:
    """Numbers of the aligned words with which a word of the language begins."""
    if language not in SEGMENTED:
        return [index for index, (begin, end) in enumerate(gaps) if begin <= end]
    borders = {0, *accumulate(len(piece) for piece in split_words(text, language))}
    return [
        index
        for index, (begin, end) in enumerate(gaps)
        if not borders.isdisjoint(range(begin, end + 1))
    ]


def _starts(text: str, gaps: Iterable[_Gap]) -> list[int]:
    """Where the stretch of each word begins: the first at the start of the text."""
    starts = [_boundary(text, begin, end) for begin, end in gaps]
    starts[0] = 0
    return starts


def _pieces(text: str, starts: Sequence[int]) -> list[str]:
    ends = [*starts[1:], len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


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
