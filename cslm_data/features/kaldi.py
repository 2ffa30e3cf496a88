"""Waveform → log mel energies as Kaldi computes them: what MFCC and wav2vec2-BERT start from.

25 ms frames every 10 ms, mean removed, pre-emphasis 0.97, Povey window, power spectrum of 512
points, triangular filters on Kaldi's mel scale from 20 Hz to 8 kHz. Plain NumPy and SciPy, one
thread. Source: Kaldi, feat/feature-window.cc, feat/mel-computations.cc.
"""

# T samples, F frames of 10 ms, W samples of a frame, S points of a spectrum, B mel bins

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ

Floats = NDArray[np.float32]

FRAME = 400
HOP = 160
_FFT = 512
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_PIECE = FRAME // 5
"""Frames overlap in whole pieces of 80 samples: their means are made of sums of pieces."""

BLOCK = 256
"""Frames prepared at a time, however long the recording."""
_STRETCH = 64
"""Frames transformed at a time: small enough for the cache, and for memory that is used again."""


class LogMel:
    """float32 (T,) → float32 (F, B), F = 1 + (T - 400) // 160; T ≥ 400."""

    def __init__(self, num_bins: int, *, scale: float = 1.0, floor: float) -> None:
        """`scale` multiplies the waveform, `floor` is the least energy of a bin before the log."""
        self._num_bins = num_bins
        self._floor = np.float32(floor)
        self._window_W = _povey_window()
        # Real and imaginary parts stay side by side: their squares are summed by the filters.
        self._filters_SB = np.repeat(_mel_filters(num_bins) * np.float32(scale**2), 2, axis=0)

    def __call__(self, samples_T: Floats) -> Floats:
        """Log energies; blocks of frames are counted from the first sample."""
        num_frames = 1 + (len(samples_T) - FRAME) // HOP
        mel_FB = np.empty((num_frames, self._num_bins), np.float32)
        padded_FS = np.zeros((_STRETCH, _FFT), np.float32)
        for first in range(0, num_frames, BLOCK):
            last = min(num_frames, first + BLOCK)
            block_T = samples_T[first * HOP : (last - 1) * HOP + FRAME]
            self._transform(block_T, padded_FS, mel_FB[first:last])
        np.maximum(mel_FB, self._floor, out=mel_FB)
        return np.log(mel_FB, out=mel_FB)

    def _transform(self, block_T: Floats, padded_FS: Floats, mel_FB: Floats) -> None:
        """Fill in the energies of a block's frames; `padded_FS` is room for some of them.

        Emphasis is linear and the window is 0 on a frame's first sample, so the block is emphasised
        as a whole and what is left of each frame's mean, 1 - 0.97 of it, is taken away after.
        """
        num_frames = len(mel_FB)
        pieces = block_T.reshape(-1, _PIECE).sum(axis=1)
        sums_F1 = _strided(pieces, num_frames, FRAME // _PIECE, HOP // _PIECE).sum(
            axis=1, keepdims=True
        )
        sums_F1 *= np.float32((1 - _PREEMPHASIS) / FRAME)
        emphasised_T = np.zeros_like(block_T)
        np.multiply(block_T[:-1], np.float32(-_PREEMPHASIS), out=emphasised_T[1:])
        emphasised_T[1:] += block_T[1:]
        frames_FW = _strided(emphasised_T, num_frames, FRAME, HOP)
        for first in range(0, num_frames, _STRETCH):
            stretch = slice(first, first + _STRETCH)
            rows_FS = padded_FS[: len(frames_FW[stretch])]
            framed_FW = rows_FS[:, :FRAME]
            np.subtract(frames_FW[stretch], sums_F1[stretch], out=framed_FW)
            np.multiply(framed_FW, self._window_W, out=framed_FW)
            spectrum_FS = scipy.fft.rfft(rows_FS, axis=1).view(np.float32)
            np.square(spectrum_FS, out=spectrum_FS)
            np.matmul(spectrum_FS, self._filters_SB, out=mel_FB[stretch])


def _strided(values_T: Floats, num_rows: int, width: int, step: int) -> Floats:
    """Overlapping rows as a view: row r holds the `width` values from r · step on."""
    size = values_T.itemsize
    return np.lib.stride_tricks.as_strided(values_T, (num_rows, width), (step * size, size))


def _povey_window() -> Floats:
    """Kaldi's default window (W,): a Hann window to the power of 0.85."""
    phase_W = 2 * np.pi * np.arange(FRAME) / (FRAME - 1)
    return ((0.5 - 0.5 * np.cos(phase_W)) ** 0.85).astype(np.float32)


def _mel_filters(num_bins: int) -> Floats:
    """Triangles between equally spaced points of the mel scale: (S, B). The last bin counts not."""

    def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    edges = np.linspace(mel(_LOW_HZ), mel(SAMPLE_RATE_HZ / 2), num_bins + 2)
    bins_S = mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE_HZ / _FFT)[:, None]
    rising_SB = (bins_S - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_SB = (edges[2:] - bins_S) / (edges[2:] - edges[1:-1])
    filters_SB = np.maximum(0.0, np.minimum(rising_SB, falling_SB))
    filters_SB[-1] = 0.0
    return np.ascontiguousarray(filters_SB, np.float32)
