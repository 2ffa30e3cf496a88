"""Acoustic models: MMS_FA and directories of Hugging Face, against their own libraries."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import torchaudio
from speech_catalog import add_said, write_speech
from tiny_ctc import MMS_PARAMETERS, VOCABULARY, save_w2v_bert, save_wav2vec2

from cslm_data.aligning.hf_ctc import load_hf_ctc
from cslm_data.aligning.mms_fa import load_mms_fa
from cslm_data.aligning.models import AlignerOptions, load_aligner
from cslm_data.alignment import align
from cslm_data.errors import CorruptArtefactError, MissingArtefactError, UsageError
from cslm_data.query import run_query
from cslm_data.workspace import Workspace


@pytest.fixture
def wave_T():
    return np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-wav2vec2"
    save_wav2vec2(folder)
    return folder


def by_the_library(model, front, wave_T):
    """Log-probabilities in the order blank, |, A, E, B, that of the numbers in vocab.json."""
    inputs = front(wave_T, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        everything = torch.log_softmax(model(**inputs).logits[0], dim=-1).numpy()
    return everything[:, [VOCABULARY[symbol] for symbol in ("<pad>", "|", "A", "E", "B")]]


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "w2v-bert"])
def test_a_directory_says_what_its_library_says_with_the_blank_first(tmp_path, wave_T, kind):
    folder = tmp_path / kind
    save = save_w2v_bert if kind == "w2v-bert" else lambda f: save_wav2vec2(f, kind)
    model, front = save(folder)
    found = load_hf_ctc(folder, spelling="characters", device="cpu")
    assert found.symbols == ("<blank>", "|", "A", "E", "B")
    assert (found.name, found.frame_rate_hz, found.spelling) == (kind, 50.0, "characters")
    emissions_NV = found.emissions(wave_T)
    assert emissions_NV.dtype == np.float32
    np.testing.assert_allclose(emissions_NV, by_the_library(model, front, wave_T), atol=1e-5)
    assert len(found.emissions(wave_T[:7])) == 1, "shorter than a frame"


def test_the_id_is_that_of_the_weights_and_the_alphabet(tmp_path, wav2vec2):
    first = load_hf_ctc(wav2vec2, spelling="characters", device="cpu")
    moved = tmp_path / "elsewhere"
    shutil.copytree(wav2vec2, moved)
    same = load_hf_ctc(moved, spelling="romanised", device="cpu")
    assert (same.aligner_id, same.name, same.spelling) == (
        first.aligner_id,
        "elsewhere",
        "romanised",
    )
    (moved / "vocab.json").write_text(json.dumps({**VOCABULARY, "B": 6, "E": 7}))
    assert load_hf_ctc(moved, spelling="characters").aligner_id != first.aligner_id
    save_wav2vec2(tmp_path / "other", seed=1)
    assert load_hf_ctc(tmp_path / "other", spelling="characters").aligner_id != first.aligner_id


def test_a_directory_that_cannot_align_is_a_clear_error(tmp_path, wav2vec2):
    def changed(name, files):
        folder = tmp_path / name
        shutil.copytree(wav2vec2, folder)
        for file, content in files.items():
            if content is None:
                (folder / file).unlink()
            else:
                (folder / file).write_text(content)
        return folder

    config = json.loads((wav2vec2 / "config.json").read_text())
    front = json.loads((wav2vec2 / "preprocessor_config.json").read_text())
    for name, files, error, message in [
        ("no-front", {"preprocessor_config.json": None}, MissingArtefactError, "preprocessor_conf"),
        ("no-weights", {"model.safetensors": None}, UsageError, "no CTC model that can be loaded"),
        ("nested", {"vocab.json": '{"eng": {"a": 1}}'}, UsageError, "set_target_lang"),
        ("broken", {"vocab.json": "{"}, CorruptArtefactError, "not JSON"),
        ("beyond", {"vocab.json": '{"a": 99}'}, UsageError, "beyond the 8 outputs"),
        ("pieces", {"vocab.json": '{"▁the": 1, "<pad>": 2}'}, UsageError, "word pieces"),
        (
            "telephone",
            {"preprocessor_config.json": json.dumps({**front, "sampling_rate": 8000})},
            UsageError,
            "8000 Hz",
        ),
        (
            "other-shape",
            {"config.json": json.dumps({**config, "num_hidden_layers": 2})},
            CorruptArtefactError,
            "do not fit config.json",
        ),
        (
            "bert",
            {"config.json": json.dumps({"model_type": "bert"})},
            UsageError,
            "no CTC model that can be loaded",
        ),
    ]:
        with pytest.raises(error, match=message):
            load_hf_ctc(changed(name, files), spelling="characters")


def test_mms_fa_says_what_torchaudio_says(tmp_path, wave_T):
    torch.manual_seed(0)
    network = torchaudio.models.wav2vec2_model(**MMS_PARAMETERS).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    found = load_mms_fa(tmp_path / "model.pt", device="cpu", parameters=MMS_PARAMETERS)
    assert (found.name, found.spelling, found.frame_rate_hz) == ("mms_fa", "romanised", 50.0)
    assert found.symbols == torchaudio.pipelines.MMS_FA.get_labels(star=None)
    wave_1T = torch.from_numpy(wave_T)[None]
    with torch.inference_mode():
        # As the bundle does before its network: torch's layer norm over the waveform.
        normal_1T = torch.nn.functional.layer_norm(wave_1T, wave_1T.shape)
        expected = torch.log_softmax(network(normal_1T)[0][0], dim=-1).numpy()
    np.testing.assert_allclose(found.emissions(wave_T), expected, atol=1e-5)


def test_weights_that_are_none_are_refused_and_never_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (exec, ("raise SystemExit('was run')",))

    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "x.safetensors").write_bytes(b"no")
    for name, message in [
        ("pickle.pt", "no weights of torch"),
        ("other.pt", "not the weights of MMS_FA"),
        ("list.pt", "no weights by name"),
        ("x.safetensors", "no weights of torch"),
    ]:
        with pytest.raises(CorruptArtefactError, match=message):
            load_mms_fa(tmp_path / name, parameters=MMS_PARAMETERS)
    with pytest.raises(MissingArtefactError, match="no such file"):
        load_mms_fa(tmp_path / "none.pt", parameters=MMS_PARAMETERS)


def test_a_directory_aligns_a_catalog(tmp_path, wav2vec2):
    workspace = Workspace(tmp_path / "workspace")
    path = write_speech(tmp_path / "a.wav", 1, duration_s=2.0)
    add_said(workspace, path, "a", "A bee, Abba!")
    summary = align(workspace, aligner=str(wav2vec2), min_score=0.0, num_workers=1)
    assert (summary.name, summary.num_out) == ("tiny-wav2vec2", 1)
    ((words,),) = run_query(workspace, "select words from best_alignments").rows
    assert [word["word"] for word in words] == ["A", "bee", "Abba"]
    times = [time for word in words for time in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 2.0
    options = AlignerOptions(workspace=workspace, device="cpu")
    assert load_aligner(f"hf:{wav2vec2}", options).aligner_id == summary.aligner_id
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="neither a name"):
        load_aligner(str(empty), options)
