"""How far a recording is from another of the same speech. Reads and writes nothing."""

# T samples, F frames of 10 ms, B mel bins, C cepstra

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.features.kaldi import FRAME, LogMel

Floats = NDArray[np.float32]

NUM_BINS = 80
"""Mel bins of everything that is measured and drawn."""
_NUM_CEPSTRA = 13
_FLOOR = 1e-10
_RANGE_DB = 60.0
"""What lies further below the loudest point is silence, and not compared."""
_DB = 10 / np.log(10)


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Both in decibels; lower is nearer."""

    mel_db: float
    """Mean absolute difference of the log mel energies."""
    mcd_db: float
    """Mel-cepstral distortion: cepstra 1 to 13 of the same energies, loudness left out."""


def log_mel(wave_T: Floats) -> Floats:
    """Log mel energies of a recording, natural logarithm: float32 (T,) → (F, 80)."""
    padded_T = np.pad(np.asarray(wave_T, np.float32), (0, max(0, FRAME - len(wave_T))))
    return LogMel(NUM_BINS, floor=_FLOOR)(np.ascontiguousarray(padded_T))


def distance(wave_T: Floats, original_T: Floats) -> Distance:
    """Between two recordings that are already aligned; the shorter one decides.

    Source: Kubichek, Mel-cepstral distance measure for objective speech quality assessment, 1993,
    on cepstra of mel energies, and without warping of time.
    """
    from scipy.fft import dct

    length = min(len(wave_T), len(original_T))
    ours_FB, wanted_FB = log_mel(wave_T[:length]), log_mel(original_T[:length])
    floor = wanted_FB.max() - _RANGE_DB / _DB
    difference_FB = np.maximum(ours_FB, floor) - np.maximum(wanted_FB, floor)
    # Coefficients of the log amplitude, half the log energy, as a series of cosines.
    cepstra_FC = dct(difference_FB / 2, axis=1)[:, 1 : 1 + _NUM_CEPSTRA] / NUM_BINS
    return Distance(
        mel_db=float(_DB * np.abs(difference_FB).mean()),
        mcd_db=float(_DB * np.sqrt(2 * np.square(cepstra_FC).sum(axis=1)).mean()),
    )
