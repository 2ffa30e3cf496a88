from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from cslm_data.errors import UsageError
from cslm_data.features import load_extractor
from cslm_data.features.kaldi import LogMel
from cslm_data.features.windows import stream_features

TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "left_max_position_embeddings": 5,
    "right_max_position_embeddings": 3,
    "conv_depthwise_kernel_size": 7,
}


def save_model(folder, *, seed=0, prepare=None, **fields):
    """A small random network in the directory form that facebook/w2v-bert-2.0 is published in."""
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2BertConfig(**{**TINY, **fields})
    model = transformers.Wav2Vec2BertModel(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    model.save_pretrained(folder)
    (prepare or transformers.SeamlessM4TFeatureExtractor()).save_pretrained(folder)
    return model


def noise(num_samples=8_000, seed=0):
    values = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.05 * values + 0.02).astype(np.float32)


def full_model(model, wave, prepare=None):
    """Hidden states of every layer as transformers computes them, masked frames left out."""
    prepare = prepare or transformers.SeamlessM4TFeatureExtractor()
    ready = prepare(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = model(**ready, output_hidden_states=True).hidden_states
    return [state[0][ready.attention_mask[0].bool()].numpy() for state in states]


def test_energies_are_those_of_transformers():
    wave = noise(16_123)
    expected = transformers.SeamlessM4TFeatureExtractor()._extract_fbank_features(wave)
    actual = LogMel(80, scale=2.0**15, floor=1.192092955078125e-07)(wave)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize("positions", ["relative_key", "rotary", "relative", None])
def test_stopping_at_a_layer_gives_the_hidden_state_of_the_full_model(tmp_path, positions):
    model = save_model(tmp_path, position_embeddings_type=positions)
    # An even and an odd number of 10 ms frames: the last odd one is masked there, left out here.
    for num_samples in (400 + 160 * 47, 400 + 160 * 48 + 30):
        states = full_model(model, noise(num_samples))
        for layer in (0, 1, 3, None):
            extractor = load_extractor(f"hf:{tmp_path}", layer=layer, device="cpu")
            actual = extractor(noise(num_samples))
            assert actual.shape == (24, 24)
            np.testing.assert_allclose(actual, states[-1 if layer is None else layer], atol=1e-4)
    assert (extractor.dim, extractor.frame_rate_hz) == (24, 50.0)
    assert extractor(noise(3)).shape == (1, 24)


def test_padding_and_company_change_nothing_in_a_batch(tmp_path):
    model = save_model(tmp_path)
    waves = [noise(n, seed) for seed, n in enumerate((8_000, 2_500, 12_345, 600))]
    exact, short = (
        load_extractor(f"hf:{tmp_path}", layer=2, device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    for wave, features in zip(waves, exact.batch(waves), strict=True):
        np.testing.assert_allclose(features.numpy(), full_model(model, wave)[2], atol=1e-4)
    for wave, features in zip(waves, short.batch(waves), strict=True):
        expected = exact(wave)
        assert np.sqrt(np.mean((short(wave) - expected) ** 2)) < 0.01 * expected.std()
        np.testing.assert_allclose(features.numpy(), short(wave), atol=0.01 * expected.std())


def test_energies_of_a_long_recording_are_normalised_over_the_whole(tmp_path):
    """Before the first block nothing looks further than the overlap: windows change nothing."""
    save_model(tmp_path)
    extractor = load_extractor(f"hf:{tmp_path}", layer=0, device="cpu")
    wave = noise(1_200_321) * np.linspace(0.1, 1, 1_200_321, dtype=np.float32)
    blocks = np.array_split(wave, 7)
    found = list(stream_features(extractor, lambda: iter(blocks), len(wave)))
    assert len(found) > 1
    np.testing.assert_allclose(np.concatenate(found), extractor(wave), atol=1e-4)


def test_the_preprocessors_settings_are_followed_and_are_part_of_the_identity(tmp_path):
    save_model(tmp_path / "a")
    prepare = transformers.SeamlessM4TFeatureExtractor(feature_size=40, num_mel_bins=40, stride=4)
    model = save_model(tmp_path / "b", prepare=prepare)
    a, b = (load_extractor(f"hf:{tmp_path / name}", layer=2, device="cpu") for name in "ab")
    wave = noise(400 + 160 * 43)
    np.testing.assert_allclose(b(wave), full_model(model, wave, prepare)[2], atol=1e-4)
    assert b.frame_rate_hz == 25.0
    identities = [json.dumps(extractor.identity, sort_keys=True) for extractor in (a, b)]
    assert identities[0] != identities[1]
    config = json.loads((tmp_path / "a" / "preprocessor_config.json").read_text())
    config["num_mel_bins"] = 40
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="40 × 2"):
        load_extractor(f"hf:{tmp_path / 'a'}", device="cpu")
