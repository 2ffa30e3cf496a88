"""Statistics of real speech with defects of known size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import soxr

from cslm_data.audio import listen_to
from cslm_data.measuring.hearing import Hearing
from cslm_data.measuring.statistics import Statistics

CLEAN = ("ljspeech", "aishell_sample", "nathalie", "kerstin")


def clips(shared_data, corpus, number):
    lines = (shared_data / "real" / f"{corpus}.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines[:: max(1, len(lines) // number)][:number]:
        yield shared_data / "real" / json.loads(line)["audio"]


@pytest.fixture
def speech(shared_data):
    """Four clips each of four speakers in four languages."""
    paths = [path for corpus in CLEAN for path in clips(shared_data, corpus, 4)]
    return [soundfile.read(path, dtype="float32") for path in paths]


def measure(wave, rate_hz):
    statistics = Statistics(rate_hz, 1)
    statistics.add(np.asarray(wave, np.float32)[:, None])
    return statistics.result()


def as_int16(wave):
    return np.clip(np.round(np.asarray(wave) * 32768), -32768, 32767) / 32768


def coloured(kind, length, seed):
    white = np.random.default_rng(seed).standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), length)


@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_the_ratio_of_speech_to_added_noise_is_recovered(speech, kind, snr_db):
    errors = []
    for seed, (wave, rate_hz) in enumerate(speech):
        noise = coloured(kind, len(wave), seed)
        noise *= np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
        errors.append(measure(wave + noise, rate_hz).snr_db - snr_db)
    assert abs(np.median(errors)) < (5 if kind == "pink" else 2)
    assert np.percentile(np.abs(errors), 90) < (6 if kind == "pink" else 4)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025])
def test_speech_dressed_as_sixteen_kilohertz_shows_what_it_was(speech, rate_hz):
    for wave, own_hz in speech:
        dressed = as_int16(soxr.resample(soxr.resample(wave, own_hz, rate_hz), rate_hz, own_hz))
        assert measure(wave, own_hz).bandwidth_hz > 7_000
        assert measure(dressed, own_hz).bandwidth_hz == pytest.approx(rate_hz / 2, rel=0.06)


def test_digits_recorded_at_eight_kilohertz_reach_four(shared_data):
    for path in clips(shared_data, "fsdd", 20):
        hearing = Hearing()
        listen_to(str(path), hearing)
        assert hearing.result is not None
        assert hearing.result.bandwidth_hz == 4000


def test_speech_that_is_overdriven_is_clipped_and_as_it_was_is_not(speech):
    for wave, rate_hz in speech:
        loud = as_int16(wave * (3 / np.abs(wave).max()))
        num_clipped = 0
        for at_edge in (loud >= 32767 / 32768, loud <= -32767 / 32768):
            three = np.convolve(at_edge.astype(int), [1, 1, 1], "valid") == 3
            num_clipped += int((np.convolve(three, [1, 1, 1]) > 0).sum())
        assert num_clipped > 100
        share = num_clipped / len(loud)
        assert measure(loud, rate_hz).clipped_share == pytest.approx(share, abs=1e-6)
        assert measure(wave, rate_hz).clipped_share == 0
