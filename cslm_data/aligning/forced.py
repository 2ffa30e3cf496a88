"""emissions of a CTC model + words in its symbols → when each word is said. Pure functions.

The best path through the words (Viterbi over blank, symbol, blank, symbol, …), then times from it.
A CTC model says a symbol in a frame or two, late in the sound that it stands for, and blank in
between, so the frames of the path alone would leave most of a word out: `Boundaries` says how words
are stretched over the blank frames around them.

Computed here rather than by torchaudio's `forced_align`, which is deprecated; tests hold the two
against each other.
"""

# N frames, V symbols, L tokens, S = 2 L + 1 states

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MOST_CELLS = 1 << 28
"""Frames × states of one utterance: the bytes that the way back through the path takes."""


class CannotAlign(ValueError):  # noqa: N818 - says what it is; a row is rejected with it
    """Speech too short for its text, or too long to be held in memory."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """How the frames of a word's symbols become its start and end."""

    join_s: float = 0.25
    """Words this near to each other touch: what lies between is no pause."""
    share: float = 0.5
    """Of what lies between two words that touch, the part that belongs to the first."""
    lead_s: float = 0.04
    """A word begins this much before its first symbol, where a pause or nothing precedes it."""
    trail_s: float = 0.08
    """And ends this much after its last, where a pause or nothing follows."""


class TimedWord(NamedTuple):
    """When a word is said, and how sure the model is of it."""

    start_s: float
    end_s: float
    score: float
    """Mean probability of its symbols in their frames, 0 to 1."""


DEFAULT_BOUNDARIES = Boundaries()


def align_words(
    emissions_NV: Floats,
    words: Sequence[Sequence[int]],
    *,
    frame_rate_hz: float,
    blank: int = 0,
    separator: int | None = None,
    boundaries: Boundaries = DEFAULT_BOUNDARIES,
    duration_s: float | None = None,
) -> list[TimedWord]:
    """Times of words that are said in this order: log-probabilities (N, V) → one for each word.

    Every word has one token or more, none of them blank. With `separator` that symbol stands
    between words. Starts and ends never go back; with `duration_s` none lies beyond it. Raises
    CannotAlign: `too_short_for_text`, `too_long_to_align`.
    """
    if not all(words):
        raise ValueError("a word without tokens has no time")
    if not words:
        return []
    tokens: list[int] = []
    owners: list[int] = []
    for index, word in enumerate(words):
        if separator is not None and index:
            tokens.append(separator)
            owners.append(-1)
        tokens += word
        owners += [index] * len(word)
    tokens_L = np.asarray(tokens, np.int64)
    path_N = best_path(emissions_NV, tokens_L, blank=blank)
    frames = np.flatnonzero(path_N >= 0)
    places = path_N[frames]
    probabilities = np.exp(emissions_NV[frames, tokens_L[places]].astype(np.float64))
    owner_of = np.asarray(owners, np.int64)[places]
    kept = owner_of >= 0
    frames, probabilities, owner_of = frames[kept], probabilities[kept], owner_of[kept]
    # Frames come in the order of words: each word's are one run of them.
    firsts = np.searchsorted(owner_of, np.arange(len(words)))
    counts = np.diff(np.append(firsts, len(frames)))
    scores = np.add.reduceat(probabilities, firsts) / counts
    spans = np.stack([frames[firsts], frames[firsts + counts - 1] + 1], axis=1) / frame_rate_hz
    end_s = len(emissions_NV) / frame_rate_hz
    starts, ends = _stretch(spans, boundaries, min(end_s, duration_s or end_s))
    return [
        TimedWord(float(start), float(end), float(min(score, 1.0)))
        for start, end, score in zip(starts, ends, scores, strict=True)
    ]


def best_path(emissions_NV: Floats, tokens_L: Integers, *, blank: int = 0) -> Integers:
    """The most probable path through all tokens: int64 (N,), the place of a token, -1 for blank.

    Of equally probable ones that which stays longest in a state. Raises CannotAlign.
    """
    num_frames, num_tokens = len(emissions_NV), len(tokens_L)
    repeats = int(np.count_nonzero(tokens_L[1:] == tokens_L[:-1]))
    if num_frames < num_tokens + repeats:
        raise CannotAlign(
            "too_short_for_text",
            f"{num_frames} frames for {num_tokens + repeats} symbols; is the text all said here?",
        )
    num_states = 2 * num_tokens + 1
    if num_frames * num_states > MOST_CELLS:
        raise CannotAlign(
            "too_long_to_align",
            f"{num_frames} frames × {num_states} states of its text; cut the recording into "
            "segments of a few minutes",
        )
    states_S = np.full(num_states, blank, np.int64)
    states_S[1::2] = tokens_L
    skips_S = np.zeros(num_states, np.bool_)
    skips_S[3::2] = tokens_L[1:] != tokens_L[:-1]
    back_NS = _fill(emissions_NV, states_S, skips_S)
    last_S = back_NS[-1]
    state = num_states - 2 if last_S[0] else num_states - 1
    path_N = np.empty(num_frames, np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path_N[frame] = state
        state -= int(back_NS[frame, state])
    return np.where(path_N % 2 == 1, path_N // 2, -1)


def _fill(
    emissions_NV: Floats, states_S: Integers, skips_S: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """How far back each state came from: uint8 (N + 1, S); the last row tells where to end."""
    num_frames, num_states = len(emissions_NV), len(states_S)
    back_NS = np.zeros((num_frames + 1, num_states), np.uint8)
    score_S = np.full(num_states, -np.inf)
    score_S[:2] = emissions_NV[0, states_S[:2]]
    no_skip_S = np.where(skips_S, 0.0, -np.inf)[2:]
    from_one_S, from_two_S = (np.full(num_states, -np.inf) for _ in range(2))
    for frame in range(1, num_frames):
        from_one_S[1:] = score_S[:-1]
        np.add(score_S[:-2], no_skip_S, out=from_two_S[2:])
        one_S = from_one_S > score_S
        best_S = np.where(one_S, from_one_S, score_S)
        two_S = from_two_S > best_S
        back_NS[frame] = np.where(two_S, 2, one_S)
        np.maximum(best_S, from_two_S, out=score_S)
        score_S += emissions_NV[frame, states_S]
    back_NS[num_frames, 0] = score_S[-2] > score_S[-1]
    return back_NS


def _stretch(
    spans_W2: NDArray[np.float64], boundaries: Boundaries, end_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and ends from the frames of the words' own symbols; see Boundaries."""
    starts, ends = spans_W2[:, 0].copy(), spans_W2[:, 1].copy()
    gaps = starts[1:] - ends[:-1]
    touches = gaps <= boundaries.join_s
    met = ends[:-1] + boundaries.share * gaps
    # A pause is wider than what is added on its two sides, or they meet where these do.
    added = boundaries.lead_s + boundaries.trail_s
    fit = np.minimum(1.0, gaps / added) if added else np.ones_like(gaps)
    new_ends = np.where(touches, met, ends[:-1] + boundaries.trail_s * fit)
    new_starts = np.where(touches, met, starts[1:] - boundaries.lead_s * fit)
    starts[1:], ends[:-1] = new_starts, new_ends
    starts[0] -= boundaries.lead_s
    ends[-1] += boundaries.trail_s
    return np.clip(starts, 0.0, end_s), np.clip(ends, 0.0, end_s)
