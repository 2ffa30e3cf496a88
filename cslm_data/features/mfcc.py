"""Waveform → MFCC with deltas, 39 numbers 50 times a second: HuBERT's own first iteration.

HuBERT clusters Kaldi's default MFCC (25 ms Povey window every 10 ms, 23 mel bins, 13 cepstra
without energy, waveform in [-1, 1]) with deltas and double deltas over five frames, and its
training keeps every second label. So does this: deltas at 10 ms, then frames 0, 2, 4, … That gives
`1 + (T - 400) // 320` frames for T samples, as many as HuBERT's and wav2vec 2.0's encoders, so that
units of both kinds lie on one grid. Plain numpy, one thread, no state.

Source: fairseq, examples/hubert/simple_kmeans/dump_mfcc_feature.py; Kaldi, feat/feature-mfcc.cc.
"""

# T samples, F frames of 10 ms, N frames of 20 ms, W samples of a window, B mel bins, C cepstra

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ

Floats = NDArray[np.float32]

_WINDOW = 400
_HOP = 160
_FFT = 512
_KEEP_EVERY = 2
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_NUM_MEL_BINS = 23
_NUM_CEPSTRA = 13
_LIFTER = 22.0
_FLOOR = float(np.finfo(np.float32).eps)
_DELTA_REACH = 2
_BLOCK = 256
"""Frames transformed at a time: the working set stays in the cache, however long the recording."""


class MfccExtractor:
    """float32 (T,) → float32 (N, 39) at 50 frames a second; N = max(1, 1 + (T - 400) // 320)."""

    frame_rate_hz = SAMPLE_RATE_HZ / (_HOP * _KEEP_EVERY)
    dim = 3 * _NUM_CEPSTRA

    def __init__(self) -> None:
        self._window_W = _povey_window()
        self._mel_SB = _mel_filters()
        self._dct_BC = _cosines()

    @property
    def identity(self) -> dict[str, object]:
        """The recipe; there are no weights."""
        return {
            "kind": "mfcc",
            "recipe": "hubert-iteration-1",
            "window": _WINDOW,
            "hop": _HOP,
            "keep_every": _KEEP_EVERY,
            "num_mel_bins": _NUM_MEL_BINS,
            "num_cepstra": _NUM_CEPSTRA,
            "delta_reach": _DELTA_REACH,
        }

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance; less than a window is padded with zeros to one frame."""
        samples_T = np.ascontiguousarray(waveform_T, np.float32)
        if len(samples_T) < _WINDOW:
            samples_T = np.pad(samples_T, (0, _WINDOW - len(samples_T)))
        cepstra_FC = self._cepstra(samples_T)
        deltas_FC = _deltas(cepstra_FC)
        return np.concatenate(
            [
                cepstra_FC[::_KEEP_EVERY],
                deltas_FC[::_KEEP_EVERY],
                _deltas(deltas_FC)[::_KEEP_EVERY],
            ],
            axis=1,
        )

    def _cepstra(self, samples_T: Floats) -> Floats:
        frames_FW = np.lib.stride_tricks.sliding_window_view(samples_T, _WINDOW)[::_HOP]
        cepstra_FC = np.empty((len(frames_FW), _NUM_CEPSTRA), np.float32)
        for start in range(0, len(frames_FW), _BLOCK):
            block_FW = frames_FW[start : start + _BLOCK]
            centred_FW = block_FW - block_FW.mean(axis=1, keepdims=True)
            padded_FW = np.zeros((len(block_FW), _FFT), np.float32)
            padded_FW[:, 1:_WINDOW] = centred_FW[:, 1:] - _PREEMPHASIS * centred_FW[:, :-1]
            padded_FW[:, 0] = (1 - _PREEMPHASIS) * centred_FW[:, 0]
            padded_FW[:, :_WINDOW] *= self._window_W
            spectrum_FS = np.fft.rfft(padded_FW, axis=1)
            power_FS = spectrum_FS.real**2 + spectrum_FS.imag**2
            mel_FB = np.log(np.maximum(power_FS @ self._mel_SB, _FLOOR))
            cepstra_FC[start : start + _BLOCK] = mel_FB @ self._dct_BC
        return cepstra_FC


def _deltas(values_FC: Floats) -> Floats:
    """Slope over two frames either side; the edges repeat the first and the last frame."""
    reach = _DELTA_REACH
    padded_FC = np.pad(values_FC, ((reach, reach), (0, 0)), mode="edge")
    length = len(values_FC)
    slope_FC = np.zeros_like(values_FC)
    for step in range(1, reach + 1):
        ahead_FC = padded_FC[reach + step : reach + step + length]
        behind_FC = padded_FC[reach - step : reach - step + length]
        slope_FC += np.float32(step) * (ahead_FC - behind_FC)
    return slope_FC / np.float32(2 * sum(step * step for step in range(1, reach + 1)))


def _povey_window() -> Floats:
    """Kaldi's default window (W,): a Hann window to the power of 0.85."""
    phase_W = 2 * np.pi * np.arange(_WINDOW) / (_WINDOW - 1)
    return ((0.5 - 0.5 * np.cos(phase_W)) ** 0.85).astype(np.float32)


def _mel_filters() -> Floats:
    """Triangles equally wide on the mel scale from 20 Hz to 8 kHz: (257 bins, B)."""

    def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    edges = np.linspace(mel(_LOW_HZ), mel(SAMPLE_RATE_HZ / 2), _NUM_MEL_BINS + 2)
    bins_S = mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE_HZ / _FFT)[:, None]
    rising_SB = (bins_S - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_SB = (edges[2:] - bins_S) / (edges[2:] - edges[1:-1])
    filters_SB = np.maximum(0.0, np.minimum(rising_SB, falling_SB))
    filters_SB[-1] = 0.0
    return np.ascontiguousarray(filters_SB, np.float32)


def _cosines() -> Floats:
    """Orthonormal DCT-II of the log mel energies with Kaldi's lifter: (B, C)."""
    bins_B = np.arange(_NUM_MEL_BINS)[:, None] + 0.5
    cepstra_C = np.arange(_NUM_CEPSTRA)
    dct_BC = np.sqrt(2 / _NUM_MEL_BINS) * np.cos(np.pi / _NUM_MEL_BINS * bins_B * cepstra_C)
    dct_BC[:, 0] = np.sqrt(1 / _NUM_MEL_BINS)
    lifter_C = 1 + _LIFTER / 2 * np.sin(np.pi * cepstra_C / _LIFTER)
    return np.ascontiguousarray(dct_BC * lifter_C, np.float32)
