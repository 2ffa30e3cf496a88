"""Log mel energies → waveform: the way back from `kaldi.LogMel`. Reads and writes nothing.

Mel energies to a power spectrum, a phase by Griffin and Lim, and the pre-emphasis undone.
"""

# F frames of 10 ms, B mel bins, S points of a spectrum, T samples

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cslm_data.features.kaldi import FRAME, HOP, _mel_filters, _povey_window

Floats = NDArray[np.float32]

_FFT = 512
_PREEMPHASIS = 0.97
_FITS = 10
"""Rounds of the fit to the mel energies: after them the distance to the original stays the same."""
_TINY = 1e-12
_ROUNDS, _MOMENTUM = 32, 0.99
_PIECE_FRAMES, _SHARED_FRAMES = 3000, 20
"""A long recording gets its phase half a minute at a time, with a fifth of a second of both at each
seam, so that an hour needs no more memory than a minute."""


def waveform_of(log_mel_FB: Floats, *, num_samples: int, seed: int) -> Floats:
    """Sound whose log mel energies are about these: float32 (F, B) → (T,).

    Frame f is centred on sample 160 f + 200, as `LogMel` has it. The phase is not known; it starts
    at random from `seed`, so the same energies and seed give the same sound.
    """
    before = -(-(FRAME // 2) // HOP)
    needed = before + -(-num_samples // HOP) + 1
    held = np.clip(np.arange(needed) - before, 0, len(log_mel_FB) - 1)
    emphasised_T = _sound_of(log_mel_FB[held], seed)
    first = before * HOP - FRAME // 2
    return _deemphasise(emphasised_T[first : first + num_samples])


def power_spectrum(mel_FB: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth, non-negative spectrum with these mel energies: (F, B) → (F, 257).

    It starts as the energies per Hertz, interpolated between the centres of the filters on a
    logarithmic scale, and is then fitted by the multiplicative rule for non-negative least
    divergence. Source: Lee & Seung, Algorithms for non-negative matrix factorization, 2000.
    """
    num_bins = mel_FB.shape[1]
    filters_SB = _mel_filters(num_bins).astype(np.float64)
    points_S = np.arange(len(filters_SB))
    area_B = filters_SB.sum(axis=0)
    centres_B = points_S @ filters_SB / area_B
    place_S = np.interp(points_S, centres_B, np.arange(num_bins))
    below_S = place_S.astype(int)
    above_S = np.minimum(below_S + 1, num_bins - 1)
    share_S = place_S - below_S
    density_FB = np.log(np.maximum(mel_FB, _TINY) / area_B)
    power_FS = np.exp(density_FB[:, below_S] * (1 - share_S) + density_FB[:, above_S] * share_S)
    seen_S = filters_SB.sum(axis=1)
    inside_S = seen_S > _TINY
    for _ in range(_FITS):
        ratio_FB = mel_FB / np.maximum(power_FS @ filters_SB, _TINY)
        power_FS[:, inside_S] *= ratio_FB @ filters_SB[inside_S].T / seen_S[inside_S]
    return np.asarray(power_FS)


def match_loudness(wave_T: Floats, like_T: Floats) -> Floats:
    """The same sound with the energy of another, softer where it would be cut off at 1."""
    energy, wanted = float(np.square(wave_T).mean()), float(np.square(like_T).mean())
    if energy > 0 and wanted > 0:
        wave_T = wave_T * np.float32(np.sqrt(wanted / energy))
    return limit_peak(wave_T)


def limit_peak(wave_T: Floats) -> Floats:
    """The same sound, made softer as a whole if a sample is beyond ±0.99."""
    peak = float(np.abs(wave_T).max(initial=0.0))
    return wave_T if peak <= 0.99 else np.asarray(wave_T * np.float32(0.99 / peak), np.float32)


def _sound_of(log_mel_FB: Floats, seed: int) -> Floats:
    """Piece by piece: energies of frames centred on samples 0, 160, … → samples, emphasised."""
    step = _PIECE_FRAMES - _SHARED_FRAMES
    starts = range(0, max(1, len(log_mel_FB) - _SHARED_FRAMES), step)
    wave_T = np.zeros((len(log_mel_FB) - 1) * HOP, np.float32)
    fade_T = np.linspace(0, 1, (_SHARED_FRAMES - 1) * HOP, dtype=np.float32)
    for number, start in enumerate(starts):
        part_FB = log_mel_FB[start : start + _PIECE_FRAMES].astype(np.float64)
        piece_T = _griffin_lim(np.sqrt(power_spectrum(np.exp(part_FB))), seed + number)
        there_T = wave_T[start * HOP : start * HOP + len(piece_T)]
        if start:
            piece_T[: len(fade_T)] *= fade_T
            there_T[: len(fade_T)] *= 1 - fade_T
        there_T += piece_T
    return wave_T


def _griffin_lim(magnitude_FS: NDArray[np.float64], seed: int) -> Floats:
    """A waveform with these magnitudes and a phase that fits them.

    Source: Perraudin, Balazs, Søndergaard, A fast Griffin-Lim algorithm, WASPAA 2013.
    """
    import torch
    from torchaudio.functional import griffinlim

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wave_T = griffinlim(
            torch.from_numpy(np.ascontiguousarray(magnitude_FS.T, np.float32))[None],
            torch.from_numpy(_povey_window()),
            n_fft=_FFT,
            hop_length=HOP,
            win_length=FRAME,
            power=1.0,
            n_iter=_ROUNDS,
            momentum=_MOMENTUM,
            length=None,
            rand_init=True,
        )[0]
    return np.asarray(wave_T.numpy(), np.float32)


def _deemphasise(emphasised_T: Floats) -> Floats:
    from scipy.signal import lfilter

    wave_T = lfilter([1.0], [1.0, -_PREEMPHASIS], emphasised_T.astype(np.float64))
    return np.asarray(wave_T, np.float32)
