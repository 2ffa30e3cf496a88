from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import soundfile
import speech_catalog
import torch
from test_features_hf import save_model

from cslm_data.audio import resampler_identity
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.quantize import quantize
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.units.agreement import Probe, measure_agreement
from cslm_data.units.stretches import Stretch

IDENTITY = {"kind": "loudness"}


class Loudness:
    """One number a frame of 20 ms; in bfloat16 every fifth is wrong, in a batch every fourth."""

    frame_rate_hz = 50.0
    dim = 1
    device = "cpu"
    identity = IDENTITY

    def __init__(self, spec, *, layer, device, dtype) -> None:
        self._wrong_every = 5 if dtype == "bfloat16" else None

    def __call__(self, waveform_T):
        return self._features(waveform_T, self._wrong_every)

    def batch(self, waveforms):
        return [torch.from_numpy(self._features(wave, 4)) for wave in waveforms]

    def _features(self, waveform_T, wrong_every):
        loudness = np.abs(waveform_T).reshape(-1, 320).mean(axis=1, dtype=np.float32)
        if wrong_every:
            loudness[::wrong_every] = 1 - loudness[::wrong_every]
        return loudness[:, None]


@pytest.fixture
def stretches(tmp_path, monkeypatch):
    """Twenty frames and forty, each all quiet; a third recording cannot be read."""
    monkeypatch.setattr("cslm_data.speech_tokenizer.load_extractor", Loudness)
    made = []
    for name, num_frames in [("a", 20), ("b", 40), ("broken", 10)]:
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.full(320 * num_frames, 0.1), 16_000)
        made.append(Stretch(name, str(path), 0.0, num_frames / 50, "en", "v"))
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    return tuple(made)


def tokenizer(dtype="float32"):
    return SpeechTokenizer(
        extractor="loudness",
        extractor_identity=IDENTITY,
        layer=None,
        frame_rate_hz=50.0,
        resampler=resampler_identity(),
        normalisation=Normalisation(),
        centroids_KE=np.array([[0.1], [0.9]], np.float32),
        dtype=dtype,
    )


@pytest.mark.parametrize(
    ("dtype", "batch_s", "num_equal"),
    [("float32", 0.0, 60), ("bfloat16", 0.0, 48), ("float32", 9.0, 45)],
)
def test_equal_units_are_counted_frame_by_frame(stretches, dtype, batch_s, num_equal):
    found = measure_agreement(tokenizer(dtype), Probe(stretches), batch_s=batch_s)
    assert (found.num_utterances, found.num_frames, found.num_equal) == (2, 60, num_equal)
    assert found.share == num_equal / 60


@pytest.fixture
def network(workspace, tmp_path):
    """A catalog of noise, and quantize with a HuBERT that has learnt nothing."""
    save_model(tmp_path / "model")
    speech_catalog.add_many(workspace, tmp_path / "audio", 6, 0.8)
    return partial(quantize, workspace, extractor=f"hf:{tmp_path / 'model'}", layer=2, num_units=4)


def frames(workspace):
    rows = speech_catalog.units(workspace)
    return np.concatenate([expand(np.array(row[2]), np.array(row[3])) for row in rows])


def test_a_run_in_batches_says_how_many_units_are_those_of_one_by_one(network, workspace):
    summary = network(num_workers=1, batch_s=30.0)
    assert summary.agreement.num_utterances == 6
    assert summary.agreement.share >= 0.999
    in_batches = frames(workspace)
    for part in workspace.units.glob("*/part-*"):
        part.unlink()
    again = network(num_workers=1)
    assert again.agreement is None, "this is the reference"
    assert (frames(workspace) == in_batches).mean() == summary.agreement.share


def test_a_run_in_bfloat16_says_so_too_and_warns_where_it_strays(network, workspace, caplog):
    summary = network(num_workers=1, dtype="bfloat16")
    assert summary.agreement.num_frames == sum(row[4] for row in speech_catalog.units(workspace))
    if summary.agreement.share < 0.995:
        assert "are not those of float32" in caplog.text


def test_mfcc_has_one_way_of_computing_only(workspace, tmp_path):
    speech_catalog.add_many(workspace, tmp_path / "audio", 3)
    summary = speech_catalog.run(workspace, dtype="bfloat16", batch_s=10.0)
    assert summary.agreement is None
