from __future__ import annotations

import builtins
import json

import numpy as np
import onnx
import pytest
import s3tokenizer
import torch
from s3tokenizer import model, model_v2
from safetensors.torch import save_file

from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.features import (
    BatchExtractor,
    CodeExtractor,
    WindowedExtractor,
    load_extractor,
    normalise_spec,
)
from cslm_data.features.s3 import plan_windows
from cslm_data.features.windows import stream_features

SIZES = {"n_mels": 80, "n_audio_state": 64, "n_audio_head": 1, "n_audio_layer": 2}


def tiny_model(version="v2", seed=0):
    """A tokenizer of CosyVoice's kinds with small random weights."""
    torch.manual_seed(seed)
    if version == "v2":
        made = model_v2.S3TokenizerV2("speech_tokenizer_v2", model_v2.ModelConfig(**SIZES))
    else:
        made = model.S3Tokenizer(version, model.ModelConfig(**SIZES, n_codebook_size=40))
        torch.nn.init.normal_(made.quantizer._codebook.embed, std=0.1)
    return made.eval()


def save(folder, version="v2", **options):
    made = tiny_model(version, **options)
    names = {"v2": "speech_tokenizer_v2_25hz"}
    path = folder / f"{names.get(version, version)}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, path)
    return made, path


def save_onnx(made, path):
    """A graph that names its nodes and weights as CosyVoice's second version does."""
    helper, nodes, weights = onnx.helper, [], []
    state = {name: tensor.numpy() for name, tensor in made.state_dict().items()}

    def add(op, node_name, *inputs, **attributes):
        names = ["x"]
        for name, values in inputs:
            weights.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
            names.append(name)
        nodes.append(helper.make_node(op, names, ["y"], name=node_name, **attributes))

    for number, first in ((1, 2216), (2, 2218)):
        weight, bias = (state[f"encoder.conv{number}.{kind}"] for kind in ("weight", "bias"))
        inputs = (f"onnx::Conv_{first}", weight), (f"onnx::Conv_{first + 1}", bias)
        add("Conv", f"/conv{number}/Conv", *inputs, strides=[2])
    for name, values in state.items():
        if ".blocks." not in name:
            continue
        _, _, block, *rest, kind = name.split(".")
        place = f"/blocks.{block}/" + "/".join(rest).replace("mlp/", "mlp/mlp.")
        if rest[-1].endswith("_ln"):
            if kind == "weight":
                both = (name, values), (f"{name}.bias", state[name.replace("weight", "bias")])
                add("LayerNormalization", f"{place}/LayerNormalization", *both)
        elif rest[-1] == "fsmn_block":
            add("Conv", f"{place}/Conv", (name, values))
        else:
            op = "MatMul" if kind == "weight" else "Add"
            add(op, f"{place}/{op}", (name, values.T))
    down = {kind: state[f"quantizer._codebook.project_down.{kind}"] for kind in ("weight", "bias")}
    add("MatMul", "/quantizer/MatMul", ("onnx::MatMul_2536", down["weight"].T))
    add("Add", "/quantizer/Add", ("quantizer.project_in.bias", down["bias"]))
    onnx.save(helper.make_model(helper.make_graph(nodes, "tiny", [], [], weights)), str(path))


def noise(duration_s, seed=0):
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * 16_000)
    loudness = np.repeat(rng.uniform(0.01, 0.3, num_samples // 1600 + 1), 1600)[:num_samples]
    return (rng.standard_normal(num_samples) * loudness).astype(np.float32)


def codes_by_the_package(made, wave):
    mel, lengths = s3tokenizer.padding(
        [s3tokenizer.log_mel_spectrogram(torch.from_numpy(wave), 80)]
    )
    codes, counts = made.quantize(mel, lengths)
    return codes[0, : counts[0]].numpy()


@pytest.mark.parametrize(
    ("version", "rate_hz", "num_codes"),
    [("v2", 25, 6561), ("speech_tokenizer_v1", 50, 40), ("speech_tokenizer_v1_25hz", 25, 40)],
)
def test_codes_are_those_of_the_package(tmp_path, version, rate_hz, num_codes):
    made, path = save(tmp_path, version)
    extractor = load_extractor(f"s3:{path}", device="cpu")
    assert (extractor.frame_rate_hz, extractor.num_codes, extractor.dim) == (rate_hz, num_codes, 1)
    for duration_s in (0.4, 2.345, 45.0):
        wave = noise(duration_s)
        codes = extractor(wave)
        assert codes.dtype == np.float32
        np.testing.assert_array_equal(codes[:, 0], codes_by_the_package(made, wave))
        assert abs(len(codes) - duration_s * rate_hz) <= 1
    assert len(np.unique(codes)) > 5, "a constant would prove nothing"
    assert extractor(noise(0.001)).shape == (1, 1)


def test_a_batch_gives_the_codes_of_each_alone(tmp_path):
    _, path = save(tmp_path)
    extractor = load_extractor(f"s3:{path}", device="cpu")
    waves = [noise(seconds, seed) for seed, seconds in enumerate((1.0, 3.3, 0.2, 31.0))]
    for wave, codes in zip(waves, extractor.batch(waves), strict=True):
        np.testing.assert_array_equal(codes.numpy(), extractor(wave))
    assert isinstance(extractor, BatchExtractor)
    assert isinstance(extractor, WindowedExtractor)
    assert isinstance(extractor, CodeExtractor)


@pytest.mark.parametrize("num_frames", [0, 1, 3000, 3001, 5200, 5300, 5601, 20_001])
def test_windows_of_thirty_seconds_keep_every_frame_once(num_frames):
    plan = plan_windows(num_frames)
    assert all(span.last - span.first <= 3000 for span in plan)
    kept = [(s.keep_from, num_frames if s.keep_to is None else s.keep_to) for s in plan]
    assert [start for start, _ in kept] == [0, *(stop for _, stop in kept[:-1])]
    assert kept[-1][1] == num_frames
    assert all(s.first + 200 <= s.keep_from for s in plan[1:])


@pytest.mark.parametrize("num_samples", [64 * 16_000, 52 * 16_000 + 801, 67 * 16_000 + 333])
def test_a_long_recording_met_in_blocks_has_the_codes_of_the_whole(tmp_path, num_samples):
    _, path = save(tmp_path)
    extractor = load_extractor(f"s3:{path}", device="cpu")
    wave = noise(num_samples / 16_000)
    wave[-9000:-8000] *= 20  # the loudest point, which sets the floor, comes last
    blocks = np.array_split(wave, 37)
    found = np.concatenate(list(extractor.windows(lambda: iter(blocks), num_samples)))
    np.testing.assert_array_equal(found, extractor(wave))
    streamed = np.concatenate(list(stream_features(extractor, lambda: iter(blocks), num_samples)))
    np.testing.assert_array_equal(streamed, found)


def test_each_form_of_the_weights_gives_the_same_tokenizer(tmp_path):
    made, path = save(tmp_path / "safetensors")
    state_path = tmp_path / "state" / "speech_tokenizer_v2.pt"
    graph_path = tmp_path / "graph" / "speech_tokenizer_v2.onnx"
    state_path.parent.mkdir()
    graph_path.parent.mkdir()
    torch.save(made.state_dict(), state_path)
    save_onnx(made, graph_path)
    wave = noise(1.5)
    loaded = [
        load_extractor(f"s3:{place}", device="cpu")
        for place in (path, path.parent, state_path, graph_path, graph_path.parent)
    ]
    assert len({json.dumps(extractor.identity, sort_keys=True) for extractor in loaded}) == 1
    for extractor in loaded:
        np.testing.assert_array_equal(extractor(wave), loaded[0](wave))
    _, other = save(tmp_path / "other", seed=1)
    assert load_extractor(f"s3:{other}", device="cpu").identity != loaded[0].identity
    assert normalise_spec(f"s3:{path}") == f"s3:{path.resolve()}"
    assert normalise_spec("s3:speech_tokenizer_v1") == "s3:speech_tokenizer_v1"


def test_what_cannot_be_used_is_said(tmp_path, monkeypatch):
    _, path = save(tmp_path)
    with pytest.raises(UsageError, match="no layers"):
        load_extractor(f"s3:{path}", layer=3)
    with pytest.raises(UsageError, match="float32"):
        load_extractor(f"s3:{path}", dtype="bfloat16")
    with pytest.raises(UsageError, match="speech_tokenizer_v2_25hz"):
        load_extractor("s3:speech_tokenizer_v9")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found none"):
        load_extractor(f"s3:{tmp_path / 'empty'}")
    torn = tmp_path / "torn_tokenizer.safetensors"
    torn.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptArtefactError, match="cannot be read"):
        load_extractor(f"s3:{torn}")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"some.weight": torch.zeros(3)}, foreign)
    with pytest.raises(CorruptArtefactError, match="not the weights"):
        load_extractor(f"s3:{foreign}")
    lacking = dict(tiny_model().state_dict())
    del lacking["encoder.blocks.1.attn.query.weight"]
    save_file(lacking, foreign)
    with pytest.raises(CorruptArtefactError, match=r"blocks\.1\.attn\.query"):
        load_extractor(f"s3:{foreign}")
    torch.save(tiny_model(), tmp_path / "whole.pt")
    with pytest.raises(CorruptArtefactError, match="never read"):
        load_extractor(f"s3:{tmp_path / 'whole.pt'}")


def test_weights_are_fetched_once_with_a_word_and_without_network_it_says_where_they_belong(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def unreachable(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(MissingArtefactError, match=r"s3tokenizer/speech_tokenizer_v2_25hz\.onnx"):
        load_extractor("s3:speech_tokenizer_v2_25hz", device="cpu")
    assert "fetching about 500 MB" in caplog.text
    save_onnx(tiny_model(), tmp_path / "s3tokenizer" / "speech_tokenizer_v2_25hz.onnx")
    assert load_extractor("s3:speech_tokenizer_v2_25hz", device="cpu").num_codes == 6561


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def no_package(name, *arguments, **options):
        if name == "s3tokenizer":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_package)
    with pytest.raises(UsageError, match=r"cslm\[s3tokenizer\]"):
        load_extractor("s3:speech_tokenizer_v1")
