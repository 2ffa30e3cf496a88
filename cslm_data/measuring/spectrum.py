"""Frames of samples → long-term spectrum → bandwidth. Pure array code."""

# F frames, B bins

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
from numpy.typing import NDArray

_FLOOR_DB = -133.0
"""dBFS per Hz: what rounding to 16 bits with dither leaves of a silent band at 16 kHz."""
_SMOOTH_HZ = 125.0
_BELOW_HZ, _CLIFF_HZ = 500.0, 400.0
_DROP_DB, _FLAT_DB = 15.0, 12.0
_LEAST_EDGE_DB = 6.0
"""The band ends where the level is this far over the floor, or a quarter of the way up."""
_DEAD_DB = -115.0
"""dBFS per Hz: a floor over this is a noise that was recorded; 20 dB of gain stay under it."""
_LEAST_BAND = 0.03
"""Share of the band above a cliff, so that there is something to see of it."""


class LongTermSpectrum:
    """Mean power spectrum of frames of one length, Hann window, in one pass."""

    def __init__(self, frame: int) -> None:
        self._window = _hann(frame)
        self._sums = np.zeros(2 * (frame // 2 + 1))
        self._num_frames = 0

    def add(self, frames: NDArray[np.float32]) -> None:
        """Hear more frames: float32 (F, frame)."""
        spectra = scipy.fft.rfft(frames * self._window, axis=1)
        parts = spectra.view(np.float32)
        self._sums += np.einsum("fb,fb->b", parts, parts)
        self._num_frames += len(frames)

    def density_db(self, sample_rate_hz: int) -> NDArray[np.float64]:
        """DBFS per Hz from 0 to half the rate: float64 (B,)."""
        power_B = self._sums[0::2] + self._sums[1::2]
        scale = 2 / (sample_rate_hz * float((self._window**2).sum()) * max(1, self._num_frames))
        return np.asarray(10 * np.log10(np.maximum(power_B * scale, 1e-30)))


@functools.cache
def _hann(frame: int) -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)).astype(np.float32)


def find_bandwidth(density_B: NDArray[np.float64], sample_rate_hz: int) -> float:
    """Up to which frequency a recording holds anything, from its spectrum in dBFS per Hz: (B,).

    Looks for a cliff: within 400 Hz the level falls by 15 dB or more, and above it nothing but the
    flat floor of rounding is left up to half the sample rate. What falls off gradually, as speech
    does, has no cliff, and the noise of a room counts as content: the bandwidth is then half the
    rate. So it is for a cheap resampler too, which leaves mirror images above the old band.
    """
    step_hz = sample_rate_hz / 2 / (len(density_B) - 1)
    smooth = max(1, round(_SMOOTH_HZ / step_hz))
    floored = np.maximum(density_B, _FLOOR_DB)
    ends = floored[:1].repeat(smooth // 2), floored[-1:].repeat((smooth - 1) // 2)
    padded = np.concatenate([ends[0], floored, ends[1]])
    levels_B = np.convolve(padded, np.full(smooth, 1 / smooth), "valid")
    below, cliff = round(_BELOW_HZ / step_hz), max(1, round(_CLIFF_HZ / step_hz))
    last = len(levels_B) - cliff - max(2, round(_LEAST_BAND * len(levels_B)))
    if last <= below:
        return sample_rate_hz / 2
    highest_B = np.maximum.accumulate(levels_B[::-1])[::-1]
    lowest_B = np.minimum.accumulate(levels_B[::-1])[::-1]
    sums = np.cumsum(levels_B)
    # Places from `below` on: the mean before each, and what there is beyond the cliff.
    before = (sums[below:last] - sums[: last - below]) / below
    highest, lowest = (
        highest_B[below + cliff : last + cliff],
        lowest_B[below + cliff : last + cliff],
    )
    drops = np.where((highest - lowest <= _FLAT_DB) & (highest <= _DEAD_DB), before - highest, 0)
    best = int(np.argmax(drops))
    if drops[best] < _DROP_DB:
        return sample_rate_hz / 2
    floor_db = highest[best]
    edge_db = floor_db + max(_LEAST_EDGE_DB, drops[best] / 4)
    return float(np.flatnonzero(levels_B > edge_db)[-1] * step_hz)
