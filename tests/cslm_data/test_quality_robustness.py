from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_catalog import write_speech

from cslm_data.audio import resampler_identity
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.features.mfcc import MfccExtractor
from cslm_data.progress import progress
from cslm_data.quality.robustness import CHANGES, edit_distance, measure_robustness
from cslm_data.speech_tokenizer import SpeechTokenizer
from cslm_data.units.stretches import Stretch

FRAME_S = 0.02


def change(name, waveform, key="u"):
    rng = np.random.default_rng(len(key))
    return CHANGES[name](waveform.astype(np.float32), FRAME_S, rng)


def tone(hz, seconds=1.0):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(int(16_000 * seconds)) / 16_000)


def loudest_hz(waveform):
    return np.abs(np.fft.rfft(waveform)).argmax() * 16_000 / len(waveform)


def test_edits_are_counted():
    def distance(a, b):
        return edit_distance(*(np.array([ord(c) for c in word], np.uint16) for word in (a, b)))

    assert distance("kitten", "sitting") == 3
    assert (distance("", "abc"), distance("abc", ""), distance("abc", "abc")) == (3, 3, 0)
    assert (distance("abcd", "bcde"), distance("ab", "ba")) == (2, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_edit_distance_is_that_of_the_recursive_definition(first, second):
    def plain(a, b):
        if not a or not b:
            return len(a) + len(b)
        keep = plain(a[1:], b[1:]) + (a[0] != b[0])
        return keep if a[0] == b[0] else min(keep, 1 + plain(a[1:], b), 1 + plain(a, b[1:]))

    found = edit_distance(np.array(first, np.uint16), np.array(second, np.uint16))
    assert found == plain(first, second)


def test_noise_is_twenty_decibels_below_the_speech():
    speech = tone(440)
    noise = change("noise 20 dB", speech) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)


def test_speed_changes_length_and_pitch():
    for name, factor in (("speed 0.9", 0.9), ("speed 1.1", 1.1)):
        changed = change(name, tone(440))
        assert len(changed) == pytest.approx(16_000 / factor, abs=2)
        assert loudest_hz(changed) == pytest.approx(440 * factor, abs=1.5)


def test_eight_kilohertz_keep_half_the_band_and_22_kilohertz_all():
    inside = slice(2000, -2000)
    for hz, kept in ((1000, 1), (6000, 0)):
        low = change("8 kHz", tone(hz))
        assert np.std(low[inside]) / np.std(tone(hz)) == pytest.approx(kept, abs=0.01)
        high = change("22.05 kHz", tone(hz))
        assert np.abs(high[inside] - tone(hz)[inside]).max() < 1e-3


def test_shifts_cut_off_the_beginning():
    speech = np.arange(1000, dtype=np.float32)
    assert change("shift one frame", speech)[0] == 320
    assert change("shift half frame", speech)[0] == 160


@pytest.fixture(scope="module")
def tokenizer():
    """MFCC, with twenty frames of noise of changing loudness as centroids."""
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0.01, 0.3, 200), 800)
    extractor = MfccExtractor()
    frames = extractor((rng.standard_normal(160_000) * loudness).astype(np.float32))
    return SpeechTokenizer(
        extractor="mfcc",
        extractor_identity=extractor.identity,
        layer=None,
        frame_rate_hz=extractor.frame_rate_hz,
        resampler=resampler_identity(),
        normalisation=Normalisation(),
        centroids_KE=frames[:: len(frames) // 19],
    )


def test_robustness_is_edits_by_units_and_depends_on_the_utterance_alone(tokenizer, tmp_path):
    stretches = [
        Stretch(f"u{i}", str(write_speech(tmp_path / f"{i}.wav", i)), 0.0, 1.0, "en", "v")
        for i in range(3)
    ]
    gone = Stretch("gone", str(tmp_path / "gone.wav"), 0.0, 1.0, "en", "v")

    def measure(some):
        with progress("test", total=None, unit="utterances") as bar:
            return measure_robustness(tokenizer, some, seed=0, bar=bar)

    found, problems = measure([*stretches, gone])
    assert list(found) == list(CHANGES)
    assert [problem.split(":")[0] for problem in problems] == ["gone"]
    alone = [measure([stretch])[0] for stretch in stretches]
    for name, distance in found.items():
        each = [one[name].mean for one in alone]
        assert distance.num_utterances == 3
        assert distance.mean == pytest.approx(np.mean(each))
        assert distance.standard_error == pytest.approx(np.std(each, ddof=1) / 3**0.5)
        assert alone[0][name].standard_error is None
    assert measure(stretches[::-1])[0]["noise 20 dB"].mean == pytest.approx(
        found["noise 20 dB"].mean
    )
    waveform = stretches[0].waveform()
    units, shifted = (tokenizer.encode(w).units for w in (waveform, waveform[320:]))
    assert alone[0]["shift one frame"].mean == edit_distance(units, shifted) / len(units)
    # MFCC frames lie on the grid of the shift: but for the edge, nothing moves.
    assert found["shift one frame"].mean < 0.1 < found["noise 20 dB"].mean
