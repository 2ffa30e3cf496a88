from __future__ import annotations

import math

import numpy as np
import pytest

from cslm_data.features import load_extractor


def speechlike(duration_s, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(max(9, round(duration_s * 16_000)))
    return (0.1 * np.convolve(noise, np.hanning(9) / 4, "same") * rng.uniform(0.1, 1)).astype(
        np.float32
    )


def mfcc_by_definition(wave):
    """The formulas, one frame and one number at a time, in float64 and without an FFT."""
    wave = wave.astype(np.float64)

    def mel(hertz):
        return 1127 * math.log(1 + hertz / 700)

    window = [(0.5 - 0.5 * math.cos(2 * math.pi * i / 399)) ** 0.85 for i in range(400)]
    time_S = np.arange(512)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(256), time_S) / 512)
    width = (mel(8_000) - mel(20)) / 24
    cepstra = []
    for start in range(0, len(wave) - 400 + 1, 160):
        frame = wave[start : start + 400] - wave[start : start + 400].mean()
        emphasised = [frame[i] - 0.97 * frame[max(0, i - 1)] for i in range(400)]
        padded = np.array([x * w for x, w in zip(emphasised, window, strict=True)] + [0.0] * 112)
        power = np.abs(fourier @ padded) ** 2
        logs = []
        for b in range(23):
            low, centre, high = (mel(20) + (b + i) * width for i in range(3))
            energy = 0.0
            for k in range(256):
                m = mel(k * 16_000 / 512)
                if low < m <= centre:
                    energy += power[k] * (m - low) / (centre - low)
                elif centre < m < high:
                    energy += power[k] * (high - m) / (high - centre)
            logs.append(math.log(max(energy, np.finfo(np.float32).eps)))
        row = []
        for c in range(13):
            scale = math.sqrt((1 if c == 0 else 2) / 23)
            total = sum(logs[b] * math.cos(math.pi * c * (b + 0.5) / 23) for b in range(23))
            row.append(scale * total * (1 + 11 * math.sin(math.pi * c / 22)))
        cepstra.append(row)

    def deltas(rows):
        last = len(rows) - 1
        return [
            [
                sum(n * (rows[min(last, t + n)][c] - rows[max(0, t - n)][c]) for n in (1, 2)) / 10
                for c in range(13)
            ]
            for t in range(len(rows))
        ]

    first = deltas(cepstra)
    return np.concatenate([np.array(cepstra), np.array(first), np.array(deltas(first))], 1)[::2]


@pytest.mark.parametrize("duration_s", [0.025, 0.05, 0.31])
def test_mfcc_follow_their_definition(duration_s):
    wave = speechlike(duration_s)
    expected = mfcc_by_definition(wave)
    actual = load_extractor("mfcc")(wave)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=2e-3)


@pytest.mark.filterwarnings("ignore:.*torchaudio.*")
def test_mfcc_equal_those_of_huberts_recipe_in_torchaudio():
    import torch
    import torchaudio

    wave = speechlike(7.0, seed=1)
    wave[30_000:40_000] = 0.0
    cepstra = torchaudio.compliance.kaldi.mfcc(
        torch.from_numpy(wave)[None], sample_frequency=16_000, use_energy=False
    ).T
    deltas = torchaudio.functional.compute_deltas(cepstra)
    again = torchaudio.functional.compute_deltas(deltas)
    expected = torch.cat([cepstra, deltas, again]).T[::2].numpy()
    np.testing.assert_allclose(load_extractor("mfcc")(wave), expected, atol=3e-3)


@pytest.mark.parametrize("num_samples", [0, 1, 399, 400, 719, 720, 1039, 1040, 16_000, 99_999])
def test_the_number_of_frames_is_that_of_hubert(num_samples):
    features = load_extractor("mfcc")(speechlike(7)[:num_samples])
    assert features.shape == (max(1, 1 + (num_samples - 400) // 320), 39)
    assert np.isfinite(features).all()


def test_the_extractor_says_what_it_is():
    extractor = load_extractor("mfcc")
    assert (extractor.dim, extractor.frame_rate_hz) == (39, 50.0)
    assert extractor.identity["kind"] == "mfcc"
