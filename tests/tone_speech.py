"""Speech of pure tones, and the acoustic model that hears them: word times are known exactly.

Each letter is a sine of its own frequency, 100 ms long, with 20 ms of silence after it; a word is
followed by 200 ms more of silence. The model looks at frames of 20 ms, in which all the tones are
whole waves, so it is never in doubt. It joins through the entry-point group `cslm.aligners`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import soundfile

from cslm_data.aligning.forced import Boundaries

RATE_HZ = 16_000
HOP = 320
LETTERS = "abcdefghijklmnopqrstuvwxyz'你好世界再见"
LETTER_S, GAP_S, PAUSE_S = 0.1, 0.02, 0.2


@dataclass(frozen=True, kw_only=True)
class ToneModel:
    """See AcousticModel."""

    name: str = "tones"
    symbols: tuple[str, ...] = ("<blank>", *LETTERS)
    spelling: str = "characters"
    frame_rate_hz: float = RATE_HZ / HOP
    boundaries: Boundaries = Boundaries(join_s=0.0, lead_s=0.0, trail_s=0.0)
    version: str = "1"

    @property
    def aligner_id(self):
        return hashlib.sha256(f"tones {self.version}".encode()).hexdigest()[:16]

    def emissions(self, waveform_T):
        num_frames = max(1, len(waveform_T) // HOP)
        frames_NT = np.zeros((num_frames, HOP), np.float32)
        frames_NT.reshape(-1)[: len(waveform_T)] = waveform_T[: num_frames * HOP]
        energies_NV = np.abs(frames_NT @ _WAVES_TV) ** 2
        scores_NV = np.concatenate([np.full((num_frames, 1), 1.0), energies_NV], axis=1)
        return np.log(scores_NV / scores_NV.sum(axis=1, keepdims=True) + 1e-8).astype(np.float32)


def frequency_of(letter):
    return 300 + 150 * LETTERS.index(letter)


_TIME = np.arange(HOP) / RATE_HZ
_WAVES_TV = np.stack(
    [np.exp(-2j * np.pi * frequency_of(letter) * _TIME) for letter in LETTERS], axis=1
)


def load_tones(name, options):
    """The entry point."""
    return ToneModel(version=name or "1")


def register_tones(folder):
    """Make a folder that, on the path of Python, adds the aligner `tones`."""
    info = folder / "cslm_tones-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cslm-tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cslm.aligners]\ntones = tone_speech:load_tones\n")
    return folder


def say(words, *, lead_s=0.2):
    """A waveform, and start and end of each word: words are given as the letters that are said."""
    time = np.arange(round(LETTER_S * RATE_HZ)) / RATE_HZ
    pieces, times = [np.zeros(round(lead_s * RATE_HZ))], []
    for word in words:
        start = sum(map(len, pieces)) / RATE_HZ
        for letter in word:
            pieces.append(0.3 * np.sin(2 * np.pi * frequency_of(letter) * time))
            pieces.append(np.zeros(round(GAP_S * RATE_HZ)))
        times.append((start, sum(map(len, pieces)) / RATE_HZ - GAP_S))
        pieces.append(np.zeros(round(PAUSE_S * RATE_HZ)))
    return np.concatenate(pieces).astype(np.float32), times


def write_said(path, words, **options):
    """A recording of some words; their times."""
    waveform, times = say(words, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, RATE_HZ, subtype="FLOAT")
    return times
