from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import load_extractor, normalise_spec, readable_name

TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
FAMILIES = {
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}


def save_model(folder, family="hubert", *, stable=False, normalise=False, seed=0, **fields):
    """A small random network in the directory form that real ones are published in."""
    torch.manual_seed(seed)
    kind, network = FAMILIES[family]
    norm = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"} if stable else {}
    model = network(kind(**TINY, **norm, **fields)).eval()
    # Fresh norms are all alike: give them values of their own, as training would.
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    extractor.save_pretrained(folder)
    return model


def noise(num_samples=8_000, seed=0):
    values = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.05 * values + 0.02).astype(np.float32)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("stable", [False, True])
def test_stopping_at_a_layer_gives_the_hidden_state_of_the_full_model(tmp_path, family, stable):
    model = save_model(tmp_path, family, stable=stable)
    wave = noise()
    with torch.inference_mode():
        full = model(torch.from_numpy(wave)[None], output_hidden_states=True)
    for layer in (0, 1, 2, 3, None):
        extractor = load_extractor(f"hf:{tmp_path}", layer=layer, device="cpu")
        expected = full.hidden_states[-1 if layer is None else layer][0].numpy()
        actual = extractor(wave)
        assert actual.dtype == np.float32
        assert actual.shape == expected.shape == ((8_000 - 325) // 320 + 1, 24)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert (extractor.dim, extractor.frame_rate_hz) == (24, 50.0)


def test_the_waveform_is_normalised_where_the_model_was_trained_so(tmp_path):
    wave = noise()
    processor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    ready = processor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    for normalise in (True, False):
        folder = tmp_path / str(normalise)
        model = save_model(folder, stable=True, normalise=normalise)
        with torch.inference_mode():
            given = ready if normalise else torch.from_numpy(wave)[None]
            expected = model(given).last_hidden_state[0].numpy()
        actual = load_extractor(f"hf:{folder}", device="cpu")(wave)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_identity_follows_weights_layer_and_normalisation_but_not_the_place(tmp_path):
    save_model(tmp_path / "a")
    save_model(tmp_path / "b")
    save_model(tmp_path / "other-weights", seed=1)
    save_model(tmp_path / "normalised", normalise=True)
    save_model(tmp_path / "other-eps", layer_norm_eps=1e-3)

    def identity(name, layer=2):
        spec = f"hf:{tmp_path / name}"
        return json.dumps(load_extractor(spec, layer=layer, device="cpu").identity, sort_keys=True)

    assert identity("a") == identity("b") == identity("a")
    others = [identity(n) for n in ("other-weights", "normalised", "other-eps")]
    assert len({identity("a"), identity("a", layer=1), *others}) == 5


def test_weights_above_the_layer_are_no_part_of_the_identity(tmp_path):
    model = save_model(tmp_path / "a")
    with torch.no_grad():
        model.encoder.layers[2].feed_forward.output_dense.bias.add_(1.0)
    model.save_pretrained(tmp_path / "b")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "b")
    below, above = (
        [
            load_extractor(f"hf:{tmp_path / name}", layer=layer, device="cpu").identity["weights"]
            for name in ("a", "b")
        ]
        for layer in (2, 3)
    )
    assert below[0] == below[1]
    assert above[0] != above[1]


def test_very_short_speech_gives_one_frame(tmp_path):
    save_model(tmp_path, normalise=True)
    extractor = load_extractor(f"hf:{tmp_path}", device="cpu")
    assert extractor(noise(3)).shape == (1, 24)
    assert np.isfinite(extractor(noise(3))).all()


def test_what_cannot_be_used_is_said(tmp_path, monkeypatch):
    save_model(tmp_path / "good")
    with pytest.raises(UsageError, match="layers 0 to 3"):
        load_extractor(f"hf:{tmp_path / 'good'}", layer=4, device="cpu")
    with pytest.raises(UsageError, match="bfloat16"):
        load_extractor("mfcc", dtype="int4")
    with pytest.raises(UsageError, match=r"kinds are hf, mfcc, torchaudio"):
        load_extractor("nosuch:thing")
    with pytest.raises(UsageError, match="no layers"):
        load_extractor("mfcc", layer=3)
    with pytest.raises(MissingArtefactError, match=r"config\.json"):
        load_extractor(f"hf:{tmp_path / 'nothing'}")
    transformers.BertConfig().save_pretrained(tmp_path / "text")
    with pytest.raises(UsageError, match="'bert'"):
        load_extractor(f"hf:{tmp_path / 'text'}", device="cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingArtefactError, match="network"):
        load_extractor("hf:nobody/no-such-model")


def test_weights_that_lack_a_part_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    save_model(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state.pop("encoder.layers.1.attention.q_proj.weight")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CorruptArtefactError, match="q_proj"):
        load_extractor(f"hf:{tmp_path}", device="cpu")


def test_specs_are_kept_with_absolute_paths_and_named_readably(tmp_path, monkeypatch):
    (tmp_path / "HuBERT_zh").mkdir()
    monkeypatch.chdir(tmp_path)
    assert normalise_spec("hf:HuBERT_zh") == f"hf:{tmp_path / 'HuBERT_zh'}"
    assert normalise_spec("hf:nobody/model") == "hf:nobody/model"
    assert normalise_spec("mfcc") == "mfcc"
    assert readable_name("hf:facebook/hubert-base-ls960", 6) == "hubert-base-ls960-l6"
    assert readable_name("torchaudio:HUBERT_BASE", None) == "hubert-base"
    assert readable_name("mfcc", None) == "mfcc"


def test_third_parties_bring_extractors_of_their_own(monkeypatch):
    class Constant:
        identity = {"kind": "constant"}
        frame_rate_hz = 1.0
        dim = 2

        def __call__(self, waveform_T):
            return np.ones((1, 2), np.float32)

    class Entry:
        name = "constant"

        def load(self):
            return lambda name, options: Constant()

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()])
    assert load_extractor("constant:x")(noise(10)).shape == (1, 2)
    with pytest.raises(UsageError, match="constant, hf, mfcc"):
        load_extractor("nosuch")
