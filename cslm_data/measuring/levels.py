"""Levels of short frames → silence and signal-to-noise ratio. Pure array code.

Both look at energies alone and need no model of speech. Their constants were chosen on read speech
in four languages with times from forced alignment, and on the same with white and pink noise added.
"""

# N frames

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FLOOR_DB = -120.0
"""The level of digital silence: nothing is said to be quieter."""

_SILENT_DB = -70.0
"""Whatever the rest is like, a frame under this is silent."""
_UNDER_SPEECH_DB = (20.0, 40.0)
_OVER_NOISE_DB = 10.0
"""A frame is silent this much over the noise, but from 20 to 40 dB under the speech."""
_NOISE_SHARE, _SPEECH_SHARE = 0.05, 0.95
"""The levels of noise and speech: percentiles."""

_DIGITAL_SILENCE = 1e-10
"""Mean square of a frame (-100 dBFS) under which it holds no sound of a room, but zeros."""
_QUIETEST_SHARE = 0.05
_QUIETEST_BIAS_DB = 1.0
"""How far the quietest frames lie under the mean of the noise: 0.5 dB in white, 2 to 4 in pink."""
_SNR_RANGE_DB = (-10.0, 80.0)


class Silence(NamedTuple):
    """Frames without speech at both ends, and everywhere."""

    num_leading: int
    num_trailing: int
    share: float


def find_silence(energies_N: NDArray[np.float32]) -> Silence:
    """Silent frames by the mean square of each: float32 (N,).

    A frame is silent under -70 dBFS, or under a threshold between noise (5th percentile of the
    levels) and speech (95th): 10 dB over the noise, no less than 40 and no more than 20 dB under
    the speech. So noise in pauses is silence too, and steady noise without speech is not. Where
    every frame is silent, all of them lead.
    """
    levels_N = decibels(energies_N)
    sorted_N = np.sort(levels_N)
    noise_db, speech_db = (
        sorted_N[round((len(sorted_N) - 1) * share)] for share in (_NOISE_SHARE, _SPEECH_SHARE)
    )
    highest_db, lowest_db = (speech_db - under for under in _UNDER_SPEECH_DB)
    threshold_db = max(_SILENT_DB, min(highest_db, max(lowest_db, noise_db + _OVER_NOISE_DB)))
    (heard,) = np.nonzero(levels_N >= threshold_db)
    if not len(heard):
        return Silence(len(levels_N), 0, 1.0)
    num_trailing = len(levels_N) - 1 - int(heard[-1])
    return Silence(int(heard[0]), num_trailing, 1 - len(heard) / len(levels_N))


def estimate_snr(energies_N: NDArray[np.float32]) -> float | None:
    """Signal-to-noise ratio in dB from the mean square of each frame: float32 (N,).

    The noise is the mean of the quietest twentieth of the frames, the signal what the mean of all
    holds more; digital silence at the ends is no part of the recording, and one of nothing else has
    no ratio: None. Needs pauses of a twentieth of the time: without, the weakest speech is taken
    for noise, and the ratio is at least what is said. After the idea of NIST's stnr, which reads
    noise and speech off one histogram of levels.
    """
    (heard,) = np.nonzero(energies_N > _DIGITAL_SILENCE)
    if not len(heard):
        return None
    inside_N = energies_N[heard[0] : heard[-1] + 1]
    heard_N = np.maximum(inside_N, _DIGITAL_SILENCE, dtype=np.float64)
    num_quietest = max(1, round(_QUIETEST_SHARE * len(heard_N)))
    quietest = np.partition(heard_N, num_quietest - 1)[:num_quietest].mean()
    noise = quietest * 10 ** (_QUIETEST_BIAS_DB / 10)
    least, most = _SNR_RANGE_DB
    signal = max(heard_N.mean() - noise, noise * 10 ** (least / 10))
    return float(min(10 * np.log10(signal / noise), most))


def decibels(squares: NDArray[np.float32] | float) -> NDArray[np.float64]:
    """Mean squares as dBFS (a square wave at full scale has 0), not under the floor."""
    return 10 * np.log10(np.maximum(squares, 10 ** (FLOOR_DB / 10), dtype=np.float64))
