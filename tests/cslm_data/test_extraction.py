from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from cslm_data.errors import AudioError, CslmError
from cslm_data.features import LONG_S
from cslm_data.units.extraction import batch_seconds, map_features
from cslm_data.units.stretches import Stretch

FRAME = 320


class MeanOfFrames:
    """Frame by frame (mean, largest): what a network's place takes, with numbers done by hand."""

    frame_rate_hz = 50.0
    dim = 2
    device = "cpu"
    identity = {"kind": "means"}  # noqa: RUF012

    def __init__(self, *, room_s: float = 1e9) -> None:
        self.batches: list[list[int]] = []
        self._room_s = room_s

    def __call__(self, waveform_T):
        frames = waveform_T[: len(waveform_T) // FRAME * FRAME].reshape(-1, FRAME)
        return np.stack([frames.mean(axis=1), frames.max(axis=1)], axis=1)

    def batch(self, waveforms):
        if len(waveforms) * max(map(len, waveforms)) / 16_000 > self._room_s:
            raise torch.OutOfMemoryError("no room")
        self.batches.append([len(wave) for wave in waveforms])
        return [torch.from_numpy(self(wave)) for wave in waveforms]


def stretch(path, utt_id, duration_s, offset_s=0.0):
    return Stretch(utt_id, str(path), offset_s, duration_s, "en", "v")


@pytest.fixture
def recordings(tmp_path):
    """Five of different lengths, in no order of length; the third cannot be read."""
    made = []
    for index, seconds in enumerate([0.5, 2.0, 1.0, 0.25, 1.5]):
        path = tmp_path / f"{index}.wav"
        values = np.random.default_rng(index).uniform(-0.5, 0.5, int(seconds * 16_000))
        soundfile.write(path, values, 16_000, subtype="FLOAT")
        made.append(stretch(path, f"u{index}", seconds))
    (tmp_path / "2.wav").write_bytes(b"RIFF, but not really")
    return made


def collected(extractor, recordings, batch_s):
    def consume(stretch, first_frame, features):
        return stretch.utt_id, first_frame, np.asarray(features)

    return list(map_features(extractor, recordings, consume, batch_s=batch_s))


@pytest.mark.parametrize("batch_s", [0.0, 0.6, 3.0, 100.0])
def test_results_come_in_the_order_of_the_stretches_whatever_the_batches(recordings, batch_s):
    results = collected(MeanOfFrames(), recordings, batch_s)
    for index, (result, recording) in enumerate(zip(results, recordings, strict=True)):
        if index == 2:
            assert isinstance(result, AudioError)
            assert result.reason == "unreadable"
            continue
        ((utt_id, first_frame, features),) = result
        expected = MeanOfFrames()(soundfile.read(recording.audio, dtype="float32")[0])
        assert (utt_id, first_frame) == (recording.utt_id, 0)
        np.testing.assert_array_equal(features, expected)


def test_a_batch_holds_neighbours_in_length_up_to_its_seconds_with_padding(recordings):
    extractor = MeanOfFrames()
    collected(extractor, recordings, 3.0)
    # The longest, 2.0 s, leaves no room for the next; 1.5 s takes one beside it: 2 × 1.5 s.
    assert extractor.batches == [[32_000], [24_000, 8_000], [4_000]]


def test_a_batch_that_does_not_fit_is_halved_until_it_does(recordings):
    extractor = MeanOfFrames(room_s=2.0)
    results = collected(extractor, recordings, 100.0)
    assert extractor.batches == [[32_000], [24_000], [8_000, 4_000]]
    assert sum(isinstance(result, list) for result in results) == 4


def test_one_recording_too_long_for_the_device_is_a_clear_error(recordings):
    with pytest.raises(CslmError, match="--device cpu"):
        collected(MeanOfFrames(room_s=0.1), recordings, 100.0)


def test_features_that_overflow_are_refused_and_spoil_nothing_beside_them(recordings, tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(8_000, 3e38), 16_000, subtype="FLOAT")
    recordings[0] = stretch(path, "loud", 0.5)
    for batch_s in (0.0, 100.0):
        with np.errstate(over="ignore"):
            results = collected(MeanOfFrames(), recordings, batch_s)
        assert isinstance(results[0], AudioError)
        assert results[0].reason == "not_finite"
        assert np.isfinite(results[1][0][2]).all()


def test_a_long_recording_comes_in_blocks_and_lacks_no_frame(tmp_path):
    path = tmp_path / "long.wav"
    num_samples = int((LONG_S + 20) * 16_000)
    values = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples)
    soundfile.write(path, values, 16_000, subtype="FLOAT")
    (blocks,) = collected(MeanOfFrames(), [stretch(path, "long", num_samples / 16_000)], 100.0)
    assert len(blocks) > 1
    assert [first for _, first, _ in blocks] == list(
        np.cumsum([0, *(len(features) for _, _, features in blocks)])[:-1]
    )
    whole = MeanOfFrames()(values.astype(np.float32))
    np.testing.assert_allclose(np.concatenate([f for _, _, f in blocks]), whole, atol=1e-6)


def test_batches_are_for_gpus_unless_they_are_asked_for():
    extractor = MeanOfFrames()
    assert batch_seconds(extractor, None) == 0
    assert batch_seconds(extractor, 30.0) == 30
    extractor.device = "cuda:0"
    assert batch_seconds(extractor, None) > 0
    assert batch_seconds(extractor, 0.0) == 0
