"""MFCC with deltas, clip by clip on one thread: ours against torchaudio's, long clips and short.

torchaudio computes HuBERT's recipe, `compliance.kaldi.mfcc` and `compute_deltas` twice, at every
10 ms; ours keeps every second frame of the same numbers. Both begin with the same NumPy waveform,
and the features are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
import torchaudio
from paired import median_ratio, report

from cslm_data.features import load_extractor

LARGEST_DIFFERENCE = 3e-3
"""Of cepstra that range over some 100: the last bits of float32 logarithms."""


def make_clips(count: int, duration_s: float) -> list[np.ndarray]:
    """Noise with a speech-like slope and changing loudness."""
    rng = np.random.default_rng(0)
    num_samples = round(duration_s * 16_000)
    loudness = np.repeat(rng.uniform(0.02, 0.3, (count, num_samples // 800 + 1)), 800, axis=1)
    noise = rng.standard_normal((count, num_samples)) * loudness[:, :num_samples]
    noise[:, 1:] += 0.9 * noise[:, :-1]
    return list(noise.astype(np.float32))


def torchaudio_mfcc(wave: np.ndarray) -> np.ndarray:
    cepstra = torchaudio.compliance.kaldi.mfcc(
        torch.from_numpy(wave)[None], sample_frequency=16_000, use_energy=False
    ).T
    deltas = torchaudio.functional.compute_deltas(cepstra)
    again = torchaudio.functional.compute_deltas(deltas)
    return torch.cat([cepstra, deltas, again]).T[::2].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=100, help="of audio in a round")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ours = load_extractor("mfcc")
    for duration_s, bar in ((4.0, 1.8), (0.5, 5.0)):
        clips = make_clips(max(1, round(seconds / duration_s)), duration_s)
        difference = max(np.abs(ours(wave) - torchaudio_mfcc(wave)).max() for wave in clips)
        assert difference < LARGEST_DIFFERENCE, f"the features differ by {difference:.1e}"
        ratio = median_ratio(
            lambda: [ours(wave) for wave in clips],  # noqa: B023
            lambda: [torchaudio_mfcc(wave) for wave in clips],  # noqa: B023
        )
        report(f"MFCC of {duration_s:g} s clips (largest difference {difference:.1e})", ratio, bar)


if __name__ == "__main__":
    main()
