"""Decoded samples → statistics of a recording, in one pass. Pure array code, no files.

The samples come in blocks of any length and are worked off in chunks of 128 frames, counted from
the start: the result does not depend on the blocks, to the last bit. Of what was heard, the energy
of each half frame (62 numbers a second) and some sums are kept, so an hour takes the memory of a
minute and less than a megabyte more.
"""

# C channels, T samples, N half frames, F frames

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import xxhash
from numpy.typing import NDArray

from cslm_data.measuring.clipping import FlatTops
from cslm_data.measuring.levels import decibels, estimate_snr, find_silence
from cslm_data.measuring.spectrum import LongTermSpectrum, find_bandwidth

Floats = NDArray[np.float32]

_HALF_FRAME_S = 0.016
_CHUNK_FRAMES, _CHUNK_CHANNELS = 128, 16
"""Frames of a chunk: fewer of more channels."""
_SPECTRA = 32
"""Frames of a chunk of which the spectrum is taken, evenly spread: it costs the most of all."""
_LOUDEST = 1e30
"""Mean squares over this, of samples that are no sound, are taken for it, so that they add up."""


@dataclass(frozen=True, kw_only=True)
class AudioStatistics:
    """What a stretch of a recording is like, at its own rate and with all its channels.

    Of several channels, noise, silence and bandwidth are those of their mean, which is what
    extractors hear. Rounded, so that another processor's last bits do not show.
    """

    sample_rate_hz: int
    num_channels: int
    num_samples: int
    """Frames decoded, of the stretch alone."""
    decoded_s: float
    rms_db: float
    """dBFS over all channels, offset included; -120 for digital silence and below."""
    peak: float
    """Largest magnitude in any channel; full scale is 1, lossy codecs go beyond."""
    clipped_share: float
    """Of all samples, in runs of flat tops; see clipping.py."""
    dc_offset: float
    """Largest magnitude of a channel's mean."""
    leading_silence_s: float
    trailing_silence_s: float
    silence_share: float
    """Of all half frames, at the ends and inside; see levels.py."""
    snr_db: float | None
    """None where there is no sound at all."""
    bandwidth_hz: float | None
    """See spectrum.py; None where there is no sound at all."""
    samples_hash: str
    """Of samples, rate and channels, whatever the container: equal PCM in wav and flac is equal."""


class Statistics:
    """Hears a recording block by block; `result` when it has ended."""

    def __init__(self, sample_rate_hz: int, num_channels: int) -> None:
        self._rate_hz, self._num_channels = sample_rate_hz, num_channels
        # Half frames of 16 ms, a little longer where that is kinder to the Fourier transform.
        self._half = int(scipy.fft.next_fast_len(round(_HALF_FRAME_S * sample_rate_hz), real=True))
        frames = max(1, min(_CHUNK_FRAMES, _CHUNK_CHANNELS * _CHUNK_FRAMES // num_channels))
        self._chunk = 2 * self._half * frames
        self._held = np.zeros((num_channels, 0), np.float32)
        self._hash = xxhash.xxh3_128(f"{sample_rate_hz} {num_channels}\n".encode())
        self._num_samples = 0
        self._sums_C = np.zeros(num_channels)
        self._squares = 0.0
        self._peak = 0.0
        self._above = [FlatTops() for _ in range(num_channels)]
        self._below = [FlatTops(downwards=True) for _ in range(num_channels)]
        self._energies: list[Floats] = []
        self._spectrum = LongTermSpectrum(2 * self._half)

    def add(self, block_TC: Floats) -> None:
        """Hear the next samples of all channels: float32 (T, C)."""
        self._hash.update(np.ascontiguousarray(block_TC, "<f4").data)
        self._num_samples += len(block_TC)
        samples_CT = np.ascontiguousarray(block_TC.T)
        if self._held.shape[1]:
            samples_CT = np.concatenate([self._held, samples_CT], axis=1)
        whole = samples_CT.shape[1] // self._chunk * self._chunk
        for start in range(0, whole, self._chunk):
            self._work_off(samples_CT[:, start : start + self._chunk])
        # A copy, so that a block does not stay in memory for its last seconds.
        self._held = samples_CT[:, whole:].copy() if whole else samples_CT

    def result(self) -> AudioStatistics:
        """The statistics of all that was heard, one sample or more. Ends the hearing."""
        if self._held.shape[1]:
            self._work_off(self._held)
        energies_N = np.minimum(np.concatenate(self._energies), _LOUDEST)
        silence = find_silence(energies_N)
        snr_db = estimate_snr(energies_N)
        decoded_s = self._num_samples / self._rate_hz
        half_s = self._half / self._rate_hz
        bandwidth_hz = None
        if snr_db is not None and self._peak**2 < _LOUDEST:
            density_B = self._spectrum.density_db(self._rate_hz)
            bandwidth_hz = round(find_bandwidth(density_B, self._rate_hz), 1)
        num_values = self._num_samples * self._num_channels
        num_clipped = sum(tops.num_clipped for tops in self._above + self._below)
        all_silent = silence.share == 1
        return AudioStatistics(
            sample_rate_hz=self._rate_hz,
            num_channels=self._num_channels,
            num_samples=self._num_samples,
            decoded_s=decoded_s,
            rms_db=round(float(decibels(min(self._squares / num_values, _LOUDEST))), 3),
            peak=round(self._peak, 7),
            clipped_share=round(num_clipped / num_values, 7),
            dc_offset=round(float(np.abs(self._sums_C).max()) / self._num_samples, 6),
            leading_silence_s=round(decoded_s if all_silent else silence.num_leading * half_s, 4),
            trailing_silence_s=round(silence.num_trailing * half_s, 4),
            silence_share=round(silence.share, 6),
            snr_db=None if snr_db is None else round(snr_db, 2),
            bandwidth_hz=bandwidth_hz,
            samples_hash=self._hash.hexdigest(),
        )

    def _work_off(self, samples_CT: Floats) -> None:
        """A chunk, or what is left of the last one: float32 (C, T)."""
        highest_C, lowest_C = samples_CT.max(axis=1), samples_CT.min(axis=1)
        for samples_T, highest, lowest, above, below in zip(
            samples_CT, highest_C, lowest_C, self._above, self._below, strict=True
        ):
            self._peak = max(self._peak, float(highest), -float(lowest))
            above.add(samples_T, float(highest))
            below.add(samples_T, -float(lowest))
        self._sums_C += samples_CT.sum(axis=1, dtype=np.float64)
        squares_CN = self._squares_of(samples_CT)
        self._squares += float(squares_CN.sum(dtype=np.float64))
        if self._num_channels > 1:
            samples_CT = samples_CT.mean(axis=0, keepdims=True)
            squares_CN = self._squares_of(samples_CT)
        num_whole = samples_CT.shape[1] // self._half
        # Less than half a frame counts only where there is nothing else.
        if num_whole:
            self._energies.append(squares_CN[0, :num_whole] / np.float32(self._half))
        elif not self._energies:
            self._energies.append(squares_CN[0] / np.float32(samples_CT.shape[1]))
        num_frames = num_whole // 2
        if not num_frames and len(self._energies) == 1:
            samples_CT = np.pad(samples_CT, ((0, 0), (0, 2 * self._half - samples_CT.shape[1])))
            num_frames = 1
        if num_frames:
            frames = samples_CT[0, : 2 * self._half * num_frames].reshape(num_frames, -1)
            self._spectrum.add(frames[:: max(1, num_frames // _SPECTRA)])

    def _squares_of(self, samples_CT: Floats) -> Floats:
        """Sum of squares of each half frame, and of what is left: float32 (C, T) → (C, N)."""
        num_channels, length = samples_CT.shape
        whole = length // self._half * self._half
        frames = samples_CT[:, :whole].reshape(num_channels, -1, self._half)
        squares_CN: Floats = np.einsum("cnt,cnt->cn", frames, frames)
        if whole == length:
            return squares_CN
        rest = samples_CT[:, whole:]
        return np.concatenate([squares_CN, np.einsum("ct,ct->c", rest, rest)[:, None]], axis=1)
