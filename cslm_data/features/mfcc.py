"""Waveform → MFCC with deltas, 39 numbers 50 times a second: HuBERT's own first iteration.

HuBERT clusters Kaldi's default MFCC (25 ms Povey window every 10 ms, 23 mel bins, 13 cepstra
without energy, waveform in [-1, 1]) with deltas and double deltas over five frames, and its
training keeps every second label. So does this: deltas at 10 ms, then frames 0, 2, 4, … That gives
`1 + (T - 400) // 320` frames for T samples, as many as HuBERT's and wav2vec 2.0's encoders, so that
units of both kinds lie on one grid. Plain NumPy and SciPy, one thread, no state.

Source: fairseq, examples/hubert/simple_kmeans/dump_mfcc_feature.py; Kaldi, feat/feature-mfcc.cc.
"""

# T samples, F frames of 10 ms, N frames of 20 ms, B mel bins, C cepstra

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import SAMPLE_RATE_HZ
from cslm_data.features.kaldi import BLOCK, FRAME, HOP, LogMel

Floats = NDArray[np.float32]

_KEEP_EVERY = 2
_NUM_MEL_BINS = 23
_NUM_CEPSTRA = 13
_LIFTER = 22.0
_FLOOR = float(np.finfo(np.float32).eps)
_DELTA_REACH = 2


class MfccExtractor:
    """float32 (T,) → float32 (N, 39) at 50 frames a second; N = max(1, 1 + (T - 400) // 320)."""

    frame_rate_hz = SAMPLE_RATE_HZ / (HOP * _KEEP_EVERY)
    dim = 3 * _NUM_CEPSTRA

    def __init__(self) -> None:
        self._log_mel = LogMel(_NUM_MEL_BINS, floor=_FLOOR)
        self._dct_BC = _cosines()

    @property
    def identity(self) -> dict[str, object]:
        """The recipe; there are no weights."""
        return {
            "kind": "mfcc",
            "recipe": "hubert-iteration-1",
            "window": FRAME,
            "hop": HOP,
            "keep_every": _KEEP_EVERY,
            "num_mel_bins": _NUM_MEL_BINS,
            "num_cepstra": _NUM_CEPSTRA,
            "delta_reach": _DELTA_REACH,
        }

    def __call__(self, waveform_T: Floats) -> Floats:
        """Features of one utterance; less than a window is padded with zeros to one frame."""
        samples_T = np.ascontiguousarray(waveform_T, np.float32)
        if len(samples_T) < FRAME:
            samples_T = np.pad(samples_T, (0, FRAME - len(samples_T)))
        cepstra_FC = self._cepstra(samples_T)
        slopes_FC = _slopes(cepstra_FC)
        num_frames = -(-len(cepstra_FC) // _KEEP_EVERY)
        features_ND = np.empty((num_frames, self.dim), np.float32)
        features_ND[:, :_NUM_CEPSTRA] = cepstra_FC[::_KEEP_EVERY]
        features_ND[:, _NUM_CEPSTRA : 2 * _NUM_CEPSTRA] = slopes_FC[::_KEEP_EVERY]
        features_ND[:, 2 * _NUM_CEPSTRA :] = _slopes(slopes_FC, every=_KEEP_EVERY)
        return features_ND

    def _cepstra(self, samples_T: Floats) -> Floats:
        """Block by block like the energies: the last bits are then the same in every window."""
        mel_FB = self._log_mel(samples_T)
        cepstra_FC = np.empty((len(mel_FB), _NUM_CEPSTRA), np.float32)
        for first in range(0, len(mel_FB), BLOCK):
            block = slice(first, first + BLOCK)
            np.matmul(mel_FB[block], self._dct_BC, out=cepstra_FC[block])
        return cepstra_FC


def _slopes(values_FC: Floats, *, every: int = 1) -> Floats:
    """Slope over two frames either side, of every n-th frame; edges repeat the outermost frames."""
    reach, num_frames = _DELTA_REACH, len(values_FC)
    padded_FC = np.empty((num_frames + 2 * reach, values_FC.shape[1]), np.float32)
    padded_FC[:reach] = values_FC[0]
    padded_FC[reach:-reach] = values_FC
    padded_FC[-reach:] = values_FC[-1]

    def shifted(step: int) -> Floats:
        return padded_FC[reach + step : reach + step + num_frames : every]

    slopes_FC = shifted(1) - shifted(-1)
    for step in range(2, reach + 1):
        slopes_FC += np.float32(step) * (shifted(step) - shifted(-step))
    slopes_FC /= np.float32(2 * sum(step * step for step in range(1, reach + 1)))
    return slopes_FC


def _cosines() -> Floats:
    """Orthonormal DCT-II of the log mel energies with Kaldi's lifter: (B, C)."""
    bins_B = np.arange(_NUM_MEL_BINS)[:, None] + 0.5
    cepstra_C = np.arange(_NUM_CEPSTRA)
    dct_BC = np.sqrt(2 / _NUM_MEL_BINS) * np.cos(np.pi / _NUM_MEL_BINS * bins_B * cepstra_C)
    dct_BC[:, 0] = np.sqrt(1 / _NUM_MEL_BINS)
    lifter_C = 1 + _LIFTER / 2 * np.sin(np.pi * cepstra_C / _LIFTER)
    return np.ascontiguousarray(dct_BC * lifter_C, np.float32)
