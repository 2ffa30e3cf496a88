"""Units of an MFCC tokenizer → log mel energies, with nothing learnt. Reads and writes nothing.

A centroid is a frame of 13 cepstra, their slopes and the slopes of these. Held for as long as its
unit lasts it would make steps; instead the smooth course is taken that agrees best with what the
centroids say of value, slope and curvature, as statistical speech synthesis does. Against held
centroids that lowers mel-cepstral distortion by about a tenth.

Source: Tokuda et al., Speech parameter generation algorithms for HMM-based speech synthesis,
ICASSP 2000.
"""

# N frames of 20 ms, F frames of 10 ms, D features, C cepstra, B mel bins, K units

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.features.mfcc import _DELTA_REACH, _KEEP_EVERY, _NUM_CEPSTRA, _cosines

Floats = NDArray[np.float32]

_TRUST = (1.0, 2.5, 16.0)
"""Weights of values, slopes and curvatures: a tenth of the values' for the other two, in units of
how far each ranges in speech (slopes a fifth as far as values, curvatures a thirteenth)."""
_SMOOTH = 1.0
"""Weight of a course without bends. These weights are the best of those tried on two languages."""


def log_mel_of_units(units_N: NDArray[np.uint16], features_KD: Floats) -> Floats:
    """Log mel energies every 10 ms: uint16 (N,), float32 (K, 39) → float32 (2N, 23)."""
    return log_mel_of_cepstra(course_of(features_KD[units_N]))


def log_mel_of_cepstra(cepstra_FC: NDArray[Any]) -> Floats:
    """The smoothest log mel energies that have these cepstra: (F, 13) → float32 (F, 23)."""
    return np.asarray(cepstra_FC @ np.linalg.pinv(_cosines().astype(np.float64)), np.float32)


def course_of(features_ND: Floats) -> NDArray[np.float64]:
    """Cepstra at and between the frames, by weighted least squares: (N, 39) → float64 (2N, 13)."""
    from scipy.sparse.linalg import splu

    num_frames = _KEEP_EVERY * len(features_ND)
    value, slope = _shifted(num_frames, 0), slope_matrix(num_frames)
    bend = _shifted(num_frames, 1) - 2 * value + _shifted(num_frames, -1)
    system = _SMOOTH * (bend.T @ bend)
    wanted_FC = np.zeros((num_frames, _NUM_CEPSTRA))
    parts = np.split(features_ND.astype(np.float64), len(_TRUST), axis=1)
    for every, part_NC, trust in zip((value, slope, slope @ slope), parts, _TRUST, strict=True):
        said = every[::_KEEP_EVERY]
        system = system + trust * (said.T @ said)
        wanted_FC += trust * (said.T @ part_NC)
    return np.asarray(splu(system.tocsc()).solve(wanted_FC))


def slope_matrix(num_frames: int) -> Any:
    """What the extractor does to cepstra for their slopes, as a sparse matrix (F, F)."""
    steps = range(1, _DELTA_REACH + 1)
    total = sum(step * (_shifted(num_frames, step) - _shifted(num_frames, -step)) for step in steps)
    return total / (2 * sum(step * step for step in steps))


def _shifted(num_frames: int, step: int) -> Any:
    """The matrix (F, F) that takes each frame from `step` later; edges repeat."""
    from scipy import sparse

    frames = np.arange(num_frames)
    source = np.clip(frames + step, 0, num_frames - 1)
    return sparse.csr_array((np.ones(num_frames), (frames, source)), shape=(num_frames,) * 2)
