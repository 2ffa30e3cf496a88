"""The architecture is LLaMA's, and a run folder gives back the model that was saved in it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from fairseq2.models.llama import convert_llama_state_dict
from fairseq2.nn import BatchLayout
from transformers import LlamaConfig, LlamaForCausalLM

from cslm_data.errors import CorruptArtefactError, MissingArtefactError
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig, TrainConfig
from cslm_train.models.family import create_model
from cslm_train.models.loading import load_run
from cslm_train.run_folder import RunInfo, model_file, text_tokenizer_folder
from cslm_train.vocabulary import JointVocabulary

SMALL = ModelConfig(
    model_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    ffn_inner_dim=72,
    max_seq_len=64,
    rms_norm_eps=1e-3,
)


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_those_of_transformers_with_the_same_weights(
    vocabulary: JointVocabulary, tied: bool
) -> None:
    torch.manual_seed(0)
    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.size,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=72,
            max_position_embeddings=64,
            rms_norm_eps=1e-3,
            tie_word_embeddings=tied,
        )
    ).eval()
    model = create_model(dataclasses.replace(SMALL, tied_embeddings=tied), vocabulary).eval()
    config = dataclasses.replace(SMALL, tied_embeddings=tied)
    from cslm_train.models.family import architecture

    state = dict(reference.state_dict())
    model.load_state_dict(convert_llama_state_dict(state, architecture(config, vocabulary)))
    seqs = torch.randint(1, vocabulary.size, (1, 17), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = model(seqs, BatchLayout.of(seqs))
        theirs = reference(seqs).logits
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


@pytest.fixture
def run_dir(tmp_path: Path, vocabulary: JointVocabulary, tokenizer_folder: Path) -> Path:
    run_dir = tmp_path / "run"
    info = RunInfo(
        run="run",
        stage="pretrain",
        mix="pretrain",
        mix_id="m",
        languages=("en", "zh"),
        tokenizer_id="t",
        num_units=20,
        frame_rate_hz=50.0,
        text_tokenizer_id=vocabulary.text_tokenizer.text_tokenizer_id,
        num_text=vocabulary.num_text,
        vocabulary_id=vocabulary.identity,
        vocab_size=vocabulary.size,
        template_version="1",
        num_processes=1,
        num_steps=2,
        init_from=None,
        config=TrainConfig(model=SMALL),
    )
    run_dir.mkdir()
    info.save(run_dir)
    shutil.copytree(tokenizer_folder, text_tokenizer_folder(run_dir))
    for step in (1, 2):
        torch.manual_seed(step)
        path = model_file(run_dir, step)
        path.parent.mkdir(parents=True)
        torch.save(create_model(SMALL, vocabulary).state_dict(), path)
    return run_dir


def logits(run_dir: Path, step: int | None = None) -> torch.Tensor:
    run = load_run(run_dir, step=step)
    assert not run.model.training
    seqs = torch.arange(10)[None]
    with torch.inference_mode():
        return run.model(seqs, BatchLayout.of(seqs))


def test_a_run_loads_at_its_last_step_or_the_one_asked_for(run_dir: Path) -> None:
    assert torch.equal(logits(run_dir), logits(run_dir, 2))
    assert not torch.equal(logits(run_dir), logits(run_dir, 1))


def test_a_missing_run_or_step_is_named(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingArtefactError, match="no checkpoint of step 7; there are 1, 2"):
        load_run(run_dir, step=7)
    with pytest.raises(MissingArtefactError, match="cslm-train run"):
        load_run(tmp_path / "nowhere")
    shutil.rmtree(run_dir / "checkpoints")
    with pytest.raises(MissingArtefactError, match="no checkpoint yet"):
        load_run(run_dir)


def test_an_exchanged_text_tokenizer_is_refused(run_dir: Path) -> None:
    file = text_tokenizer_folder(run_dir) / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(CorruptArtefactError, match="text tokenizer is not the one"):
        load_run(run_dir)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("code from a checkpoint ran",))


def test_a_checkpoint_runs_no_code(run_dir: Path) -> None:
    torch.save({"weight": _Evil()}, model_file(run_dir, 2))
    with pytest.raises(CorruptArtefactError, match="not a checkpoint"):
        load_run(run_dir)
