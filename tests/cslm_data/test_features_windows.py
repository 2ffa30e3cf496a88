from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from test_features_hf import TINY

from cslm_data.errors import UsageError
from cslm_data.features import LONG_S, WindowedExtractor, load_extractor
from cslm_data.features.windows import (
    CONTEXT_SAMPLES,
    CORE_SAMPLES,
    WINDOWS_IDENTITY,
    cut,
    features_of,
    stream_features,
)

SMALL = {**TINY, "num_hidden_layers": 2}


def noise(num_samples, seed=0):
    """Noise whose loudness and offset drift, so that no window's statistics are the whole's."""
    rng = np.random.default_rng(seed)
    loudness = np.linspace(0.02, 0.3, num_samples) + 0.01
    return (rng.standard_normal(num_samples) * loudness + 0.05).astype(np.float32)


def in_blocks(wave, length=37_777):
    """Opens a recording from its start, as often as asked, in blocks of odd length."""
    return lambda: (wave[i : i + length] for i in range(0, len(wave), length))


def streamed(extractor, wave):
    return np.concatenate(list(stream_features(extractor, in_blocks(wave), len(wave))))


def save_hubert(folder, *, normalise=True, layer_norm=False):
    torch.manual_seed(0)
    norm = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"} if layer_norm else {}
    model = transformers.HubertModel(transformers.HubertConfig(**SMALL, **norm)).eval()
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 4), (2, 6), (6, 8)], ["0123", "2345", "67"]),
        ([(0, 20), (5, 30)], ["0123456789"]),
        ([(0, 10), (8, 12), (12, 20)], ["0123456789", "89"]),
        ([(3, 5), (9, 11), (13, 15)], ["34", "9"]),
    ],
)
@pytest.mark.parametrize("length", [1, 3, 100])
def test_spans_are_cut_from_a_stream_until_it_ends(spans, expected, length):
    stream = np.arange(10, dtype=np.float32)
    found = ["".join(f"{x:.0f}" for x in part) for part in cut(in_blocks(stream, length)(), spans)]
    assert found == expected


@pytest.mark.parametrize(
    "num_samples",
    [
        round(LONG_S * 16_000) + 1,
        2 * CORE_SAMPLES + CONTEXT_SAMPLES,
        2 * CORE_SAMPLES + CONTEXT_SAMPLES + 399,
        2 * CORE_SAMPLES + 100,
        3 * CORE_SAMPLES,
        1_600_123,
    ],
)
def test_windowed_mfcc_equal_unwindowed_ones_to_the_last_bit(num_samples):
    mfcc, wave = load_extractor("mfcc"), noise(num_samples)
    expected = mfcc(wave)
    np.testing.assert_array_equal(streamed(mfcc, wave), expected)
    np.testing.assert_array_equal(features_of(mfcc, wave), expected)


def test_short_recordings_are_never_cut():
    class Counting:
        identity, frame_rate_hz, dim = {}, 50.0, 1
        lengths: list[int] = []

        def __call__(self, waveform):
            self.lengths.append(len(waveform))
            return np.zeros((1, 1), np.float32)

    wave = noise(round(LONG_S * 16_000))
    streamed(Counting(), wave)
    features_of(Counting(), wave)
    assert Counting.lengths == [len(wave), len(wave)]


@pytest.mark.parametrize(
    ("rate_hz", "centred"), [(50.0, False), (12.5, False), (100.0, True), (86.1328125, False)]
)
def test_an_extractor_of_which_only_the_rate_is_known_gets_overlapping_windows(rate_hz, centred):
    class Means:
        """Mean of the 64 samples from each frame's place on: a local feature."""

        identity, dim = {}, 1
        frame_rate_hz = rate_hz

        def __call__(self, waveform):
            hop = 16_000 / rate_hz
            padded = np.pad(waveform, 32) if centred else waveform
            count = 1 + int((len(padded) - 64) / hop + 1e-9)
            places = [round(i * hop) for i in range(count)]
            return np.array([[padded[p : p + 64].mean()] for p in places], np.float32)

    wave = noise(1_234_567)
    np.testing.assert_array_equal(streamed(Means(), wave), Means()(wave))


def test_frames_that_the_rate_does_not_explain_are_refused():
    class Sparse:
        identity, frame_rate_hz, dim = {}, 50.0, 1

        def __call__(self, waveform):
            return np.zeros((len(waveform) // 3200, 1), np.float32)

    with pytest.raises(UsageError, match="windows"):
        streamed(Sparse(), noise(1_500_000))


@pytest.mark.parametrize(
    ("normalise", "layer_norm"), [(False, False), (True, False), (True, True), (False, True)]
)
def test_norms_of_a_network_are_those_of_the_whole_recording(tmp_path, normalise, layer_norm):
    """Before the first block nothing looks further than the overlap: windows change nothing."""
    save_hubert(tmp_path, normalise=normalise, layer_norm=layer_norm)
    extractor = load_extractor(f"hf:{tmp_path}", layer=0, device="cpu")
    assert isinstance(extractor, WindowedExtractor)
    wave = noise(1_500_321)
    np.testing.assert_allclose(streamed(extractor, wave), extractor(wave), atol=1e-5)


def test_with_attention_nearly_all_units_stay_the_same(tmp_path):
    save_hubert(tmp_path)
    extractor = load_extractor(f"hf:{tmp_path}", layer=2, device="cpu")
    wave = noise(1_500_321)
    windowed, whole = streamed(extractor, wave), extractor(wave)
    assert windowed.shape == whole.shape
    centroids = whole[:: len(whole) // 50]
    units = [
        np.argmin(((features[:, None] - centroids) ** 2).sum(2), axis=1)
        for features in (windowed, whole)
    ]
    assert np.mean(units[0] == units[1]) > 0.99
    assert len(np.unique(units[1])) > 40


def test_where_the_windows_lie_is_part_of_what_a_network_is(tmp_path):
    save_hubert(tmp_path)
    identity = load_extractor(f"hf:{tmp_path}", device="cpu").identity
    assert identity["windows"] == WINDOWS_IDENTITY
    assert json.loads(json.dumps(identity)) == identity
    assert "windows" not in load_extractor("mfcc").identity, "windows change nothing there"


MEASURE = """
import resource, sys
import numpy as np
from cslm_data.features import load_extractor
from cslm_data.features.windows import stream_features

extractor = load_extractor(sys.argv[1], device="cpu")

def peak_mib(minutes):
    rng = np.random.default_rng(0)
    def blocks():
        for _ in range(minutes * 6):
            yield rng.standard_normal(160_000, np.float32)
    frames = sum(len(f) for f in stream_features(extractor, blocks, minutes * 960_000))
    assert abs(frames - minutes * 3000) <= 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

peak_mib(2)
print(peak_mib(2), peak_mib(int(sys.argv[2])))
"""


@pytest.mark.parametrize(("kind", "minutes"), [("mfcc", 60), ("network", 12)])
def test_an_hour_needs_no_more_memory_than_two_minutes(tmp_path, kind, minutes):
    """In a process of its own: the peak only ever rises."""
    save_hubert(tmp_path)
    spec = "mfcc" if kind == "mfcc" else f"hf:{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, spec, str(minutes)],
        capture_output=True,
        text=True,
        check=True,
    )
    short_mib, long_mib = map(float, done.stdout.split())
    assert long_mib < short_mib + 25
