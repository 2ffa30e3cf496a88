from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import BatchExtractor, load_extractor, normalise_spec, readable_name

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
    "unispeech-sat": (transformers.UniSpeechSatConfig, transformers.UniSpeechSatModel),
    "data2vec-audio": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
KINDS = {
    "hubert-base": ("hubert", {}),
    "hubert-base-normalised": ("hubert", {"normalise": True}),
    "hubert-large": ("hubert", {"normalise": True, "conv_bias": True, **STABLE}),
    "hubert-batch-norm": ("hubert", {"conv_pos_batch_norm": True}),
    "wav2vec2-base": ("wav2vec2", {"normalise": True}),
    "wav2vec2-large": ("wav2vec2", STABLE),
    "wav2vec2-adapters": ("wav2vec2", {"adapter_attn_dim": 4, **STABLE}),
    "wavlm-base": ("wavlm", {}),
    "wavlm-large": ("wavlm", {"normalise": True, **STABLE}),
    "unispeech-sat": ("unispeech-sat", {}),
    "data2vec": ("data2vec-audio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}),
}
"""Each way in which published models differ, Chinese HuBERT and mHuBERT-147 among the base ones."""


def save_model(folder, family="hubert", *, normalise=False, seed=0, **fields):
    """A small random network in the directory form that real ones are published in."""
    torch.manual_seed(seed)
    kind, network = FAMILIES[family]
    model = network(kind(**{**TINY, **fields})).eval()
    # Fresh norms are all alike: give them values of their own, as training would.
    for name, parameter in model.named_parameters():
        if "_norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    for name, buffer in model.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 2.0)
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    extractor.save_pretrained(folder)
    return model


def noise(num_samples=8_000, seed=0):
    values = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.05 * values + 0.02).astype(np.float32)


def full_model(model, wave, *, normalise=False):
    """Hidden states of every layer as transformers computes them: a list of (N, D)."""
    prepare = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
    ready = prepare(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        states = model(ready, output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]


@pytest.mark.parametrize("kind", list(KINDS))
def test_stopping_at_a_layer_gives_the_hidden_state_of_the_full_model(tmp_path, kind):
    family, options = KINDS[kind]
    model = save_model(tmp_path, family, **options)
    wave = noise()
    states = full_model(model, wave, normalise=options.get("normalise", False))
    for layer in (0, 1, 2, 3, None):
        extractor = load_extractor(f"hf:{tmp_path}", layer=layer, device="cpu")
        expected = states[-1 if layer is None else layer]
        actual = extractor(wave)
        assert actual.dtype == np.float32
        assert actual.shape == expected.shape == ((8_000 - 325) // 320 + 1, 24)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert (extractor.dim, extractor.frame_rate_hz) == (24, 50.0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_padding_and_company_change_nothing_in_a_batch(tmp_path, kind):
    family, options = KINDS[kind]
    model = save_model(tmp_path, family, **options)
    extractor = load_extractor(f"hf:{tmp_path}", layer=2, device="cpu")
    assert isinstance(extractor, BatchExtractor)
    waves = [noise(n, seed) for seed, n in enumerate((8_000, 2_500, 12_345, 326))]
    for wave, features in zip(waves, extractor.batch(waves), strict=True):
        expected = full_model(model, wave, normalise=options.get("normalise", False))[2]
        assert features.dtype == torch.float32
        np.testing.assert_allclose(features.numpy(), expected, atol=1e-5)


def test_hundreds_of_short_clips_share_a_batch(tmp_path):
    save_model(tmp_path)
    extractor = load_extractor(f"hf:{tmp_path}", layer=2, device="cpu")
    waves = [noise(700 + 3 * index, index) for index in range(300)]
    for wave, features in zip(waves, extractor.batch(waves), strict=True):
        np.testing.assert_allclose(features.numpy(), extractor(wave), atol=1e-5)


@pytest.mark.parametrize("kind", ["hubert-base", "hubert-large", "wavlm-base"])
def test_bfloat16_stays_close_and_is_the_same_in_batches(tmp_path, kind):
    family, options = KINDS[kind]
    save_model(tmp_path, family, **options)
    exact, short = (
        load_extractor(f"hf:{tmp_path}", layer=2, device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert exact.identity == short.identity, "the dtype is how it runs, not what it is"
    waves = [noise(n, seed) for seed, n in enumerate((8_000, 2_500, 12_345))]
    for wave, features in zip(waves, short.batch(waves), strict=True):
        expected = exact(wave)
        assert np.sqrt(np.mean((short(wave) - expected) ** 2)) < 0.01 * expected.std()
        np.testing.assert_allclose(features.numpy(), short(wave), atol=0.01 * expected.std())


def test_without_a_preprocessor_file_the_family_decides_about_normalisation(tmp_path):
    for kind, normalised in (("hubert-base", False), ("wav2vec2-large", True)):
        family, options = KINDS[kind]
        model = save_model(tmp_path / kind, family, **options)
        (tmp_path / kind / "preprocessor_config.json").unlink()
        expected = full_model(model, noise(), normalise=normalised)[-1]
        actual = load_extractor(f"hf:{tmp_path / kind}", device="cpu")(noise())
        np.testing.assert_allclose(actual, expected, atol=1e-5)


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
    with pytest.raises(UsageError, match=r"kinds are hf, mfcc, s3, torchaudio"):
        load_extractor("nosuch:thing")
    with pytest.raises(UsageError, match="no layers"):
        load_extractor("mfcc", layer=3)
    with pytest.raises(MissingArtefactError, match=r"config\.json"):
        load_extractor(f"hf:{tmp_path / 'nothing'}")
    transformers.BertConfig().save_pretrained(tmp_path / "text")
    with pytest.raises(UsageError, match="'bert'"):
        load_extractor(f"hf:{tmp_path / 'text'}", device="cpu")
    save_model(tmp_path / "other-rate")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(
        tmp_path / "other-rate"
    )
    with pytest.raises(UsageError, match="8000 Hz"):
        load_extractor(f"hf:{tmp_path / 'other-rate'}", device="cpu")
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
