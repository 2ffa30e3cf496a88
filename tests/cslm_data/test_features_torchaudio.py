from __future__ import annotations

from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchaudio

from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.features import load_extractor
from cslm_data.features.torchaudio_ssl import _find_bundle

SIZES = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5), (16, 8, 8), (16, 8, 8)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 8,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
    "aux_num_out": None,
}


LARGE = {
    "extractor_mode": "layer_norm",
    "extractor_conv_bias": True,
    "encoder_layer_norm_first": True,
}
WAVLM = {"encoder_num_buckets": 32, "encoder_max_distance": 60}
KINDS = {
    "base": ("Wav2Vec2", torchaudio.models.wav2vec2_model, {}),
    "large": ("Wav2Vec2", torchaudio.models.wav2vec2_model, LARGE),
    "wavlm": ("WavLM", torchaudio.models.wavlm_model, WAVLM),
}


@pytest.fixture
def tiny_bundle(tmp_path, monkeypatch):
    """HUBERT_BASE with small random weights in torch's own cache: nothing is downloaded."""
    bundle_class = type(torchaudio.pipelines.HUBERT_BASE)

    def make(kind="base", *, normalise=False, seed=0):
        torch.manual_seed(seed)
        family, network, options = KINDS[kind]
        sizes = {**SIZES, **options}
        model = network(**sizes).eval()
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        cache = tmp_path / f"{kind}-{normalise}-{seed}"
        (cache / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), cache / "hub" / "checkpoints" / "tiny.pth")
        monkeypatch.setenv("TORCH_HOME", str(cache))
        bundle = bundle_class("tiny.pth", sizes, 16_000, normalise, _model_type=family)
        monkeypatch.setattr(torchaudio.pipelines, "HUBERT_BASE", bundle)
        return model

    return make


def noise(num_samples=8_000):
    values = np.random.default_rng(0).standard_normal(num_samples)
    return (0.05 * values + 0.02).astype(np.float32)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("normalise", [False, True])
def test_each_layer_equals_that_of_the_whole_network(tiny_bundle, kind, normalise):
    model = tiny_bundle(kind, normalise=normalise)
    wave = torch.from_numpy(noise())[None]
    given = torch.nn.functional.layer_norm(wave, wave.shape) if normalise else wave
    with torch.inference_mode():
        outputs, _ = model.extract_features(given)
    for layer in (1, 2, 3, None):
        extractor = load_extractor("torchaudio:HUBERT_BASE", layer=layer, device="cpu")
        expected = outputs[-1 if layer is None else layer - 1][0].numpy()
        np.testing.assert_allclose(extractor(noise()), expected, atol=1e-5)
        assert extractor.dim == 24
    assert extractor(noise(5)).shape[1] == 24


@pytest.mark.parametrize("kind", list(KINDS))
def test_padding_and_company_change_nothing_in_a_batch(tiny_bundle, kind):
    tiny_bundle(kind, normalise=True)
    extractor = load_extractor("torchaudio:HUBERT_BASE", layer=2, device="cpu")
    waves = [noise(num_samples) for num_samples in (8_000, 2_500, 12_345, 500)]
    for wave, features in zip(waves, extractor.batch(waves), strict=True):
        np.testing.assert_allclose(features.numpy(), extractor(wave), atol=1e-5)


def test_identity_follows_weights_and_layer(tiny_bundle):
    def identity(layer, **options):
        tiny_bundle(**options)
        return str(load_extractor("torchaudio:HUBERT_BASE", layer=layer, device="cpu").identity)

    assert identity(2) == identity(2)
    assert len({identity(2), identity(1), identity(2, seed=1), identity(2, normalise=True)}) == 4


def test_without_network_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(MissingArtefactError, match="hf:DIRECTORY"):
        load_extractor("torchaudio:HUBERT_BASE", device="cpu")


def test_unknown_bundles_and_layers_are_refused(tiny_bundle):
    with pytest.raises(UsageError, match="HUBERT_LARGE"):
        load_extractor("torchaudio:HUBERT_HUGE")
    tiny_bundle()
    with pytest.raises(UsageError, match="layers 1 to 3"):
        load_extractor("torchaudio:HUBERT_BASE", layer=0, device="cpu")
    for name in ("WAV2VEC2_XLSR53", "WAVLM_BASE_PLUS", "HUBERT_LARGE"):
        assert _find_bundle(name).sample_rate == 16_000
