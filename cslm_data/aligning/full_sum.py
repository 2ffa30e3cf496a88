"""scores of frames + the states of a text → where in the text each frame is. Pure functions.

All ways through the states count, each as much as it is probable (forward and backward sums), so
training needs no times to begin with. A letter is several states in a row, each of a frame or
more, so that a letter of many frames and one beside it of few are fewer ways than two of equal
length: without this, one letter comes to fill half of an utterance. Between words there may be
silence, one state that can be left out; within words there is none, which keeps letters from being
said in one frame and passed over in the rest (the peaks of a plain CTC model).

Source: full-sum training, Zeyer et al., Interspeech 2017; label priors, Huang et al.,
arXiv:2406.02560.
"""

# B utterances, N frames, S states, V symbols

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

SILENCE = 0
"""Its column: the blank of CTC."""

STATES_PER_SYMBOL = 2
"""A symbol lasts as many frames at least."""

_ENTER_SILENCE = 0.2
"""How probable a silence is where there may be one, against none."""
_LEAST = -10.0
"""Log-probability of the most improbable symbol of a frame, against the most probable."""
_TINY = 1e-300


def states_of(words: Sequence[Sequence[int]]) -> Integers:
    """The states of a text, as columns: silence before, between and after words: int64 (S,)."""
    states = [SILENCE]
    for word in words:
        for symbol in word:
            states += [symbol] * STATES_PER_SYMBOL
        states.append(SILENCE)
    return np.asarray(states, np.int64)


def fewest_frames(states_S: Integers) -> int:
    """The length of the shortest way through the states."""
    return int(np.count_nonzero(states_S != SILENCE))


def occupancies(
    scores_BNV: Doubles, states: Sequence[Integers], lengths: Sequence[int]
) -> tuple[Doubles, NDArray[np.bool_]]:
    """How probable each symbol is in each frame, given the text: (B, N, V); and where it is known.

    `scores_BNV` are log-probabilities but for a constant of each frame; `lengths` are the frames of
    each utterance. Not known is a frame without any way through it: of what is padded, and of
    speech shorter than `fewest_frames`.
    """
    ways = _Ways(scores_BNV, states, lengths)
    forward_NBS, backward_NBS = ways.forward(), ways.backward()
    both_BNS = (forward_NBS * backward_NBS).transpose(1, 0, 2)
    sums_BN1 = both_BNS.sum(axis=2, keepdims=True)
    both_BNS /= np.maximum(sums_BN1, _TINY)
    inside_BN = np.arange(scores_BNV.shape[1]) < np.asarray(lengths)[:, None]
    symbols_BSV = np.eye(scores_BNV.shape[2])[ways.columns_BS]
    return both_BNS @ symbols_BSV, (sums_BN1[:, :, 0] > 0) & inside_BN


class _Ways:
    """A batch of texts as states that are left to right, of which silence can be left out."""

    def __init__(
        self, scores_BNV: Doubles, states: Sequence[Integers], lengths: Sequence[int]
    ) -> None:
        num_states = max(map(len, states))
        shape = (len(states), num_states)
        self.columns_BS = np.full(shape, SILENCE, np.int64)
        self._ends_BS, self._skip_BS = np.zeros(shape), np.zeros(shape)
        there_BS = np.zeros(shape)
        for row, states_S in enumerate(states):
            self.columns_BS[row, : len(states_S)] = states_S
            there_BS[row, : len(states_S)] = 1
            self._ends_BS[row, len(states_S) - 2 : len(states_S)] = 1
            self._skip_BS[row, 2 : len(states_S)] = states_S[1:-1] == SILENCE
        self._enter_BS = np.where(self.columns_BS == SILENCE, _ENTER_SILENCE, 1.0)
        relative_BNV = scores_BNV - scores_BNV.max(axis=2, keepdims=True)
        likely_BNV = np.exp(np.maximum(relative_BNV, _LEAST))
        places_BNS = np.broadcast_to(
            self.columns_BS[:, None], (len(states), scores_BNV.shape[1], num_states)
        )
        likely_BNS = np.take_along_axis(likely_BNV, places_BNS, axis=2) * there_BS[:, None]
        self._likely_NBS = np.ascontiguousarray(likely_BNS.transpose(1, 0, 2))
        self._last_B1 = np.asarray(lengths)[:, None] - 1

    def forward(self) -> Doubles:
        """Ways from the start to a state, with its frame: (N, B, S), each frame's sum 1."""
        sums_NBS = np.zeros_like(self._likely_NBS)
        here_BS = np.zeros_like(self._ends_BS)
        here_BS[:, 0] = _ENTER_SILENCE
        here_BS[:, 1] = 1
        for frame, likely_BS in enumerate(self._likely_NBS):
            if frame:
                before_BS = here_BS
                here_BS = before_BS.copy()
                here_BS[:, 1:] += before_BS[:, :-1] * self._enter_BS[:, 1:]
                here_BS[:, 2:] += before_BS[:, :-2] * self._skip_BS[:, 2:]
            here_BS = here_BS * likely_BS
            here_BS /= np.maximum(here_BS.sum(axis=1, keepdims=True), _TINY)
            sums_NBS[frame] = here_BS
        return sums_NBS

    def backward(self) -> Doubles:
        """Ways from a state to the end, without its frame: (N, B, S), each frame's sum 1."""
        sums_NBS = np.zeros_like(self._likely_NBS)
        here_BS = self._ends_BS
        for frame in range(len(sums_NBS) - 1, -1, -1):
            if frame + 1 < len(sums_NBS):
                after_BS = here_BS * self._likely_NBS[frame + 1]
                here_BS = after_BS.copy()
                here_BS[:, :-1] += after_BS[:, 1:] * self._enter_BS[:, 1:]
                here_BS[:, :-2] += after_BS[:, 2:] * self._skip_BS[:, 2:]
                here_BS /= np.maximum(here_BS.sum(axis=1, keepdims=True), _TINY)
            # Where an utterance of the batch ends before the longest one does.
            here_BS = np.where(self._last_B1 <= frame, self._ends_BS, here_BS)
            sums_NBS[frame] = here_BS
        return sums_NBS
