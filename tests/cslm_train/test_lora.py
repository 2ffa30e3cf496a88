"""Adapters change nothing until they learn, learn beside frozen weights, and merge into them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from crashing import TINY, assert_a_crash_changes_nothing, optimized, saved, train
from fairseq2.nn import BatchLayout

from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import LoraConfig, ModelConfig
from cslm_train.config_files import load_config
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.models.loading import load_run, read_weights
from cslm_train.models.lora import apply_lora, merged_weights
from cslm_train.train import run_training
from cslm_train.vocabulary import JointVocabulary

LLAMA = ModelConfig(
    model_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, ffn_inner_dim=48, max_seq_len=64
)
QWEN_2 = dataclasses.replace(LLAMA, kind="qwen2", qkv_bias=True)
QWEN_3 = dataclasses.replace(LLAMA, kind="qwen3", qk_norm=True, head_dim=16, tied_embeddings=False)
LORA = ["lora.rank=2", "lora.alpha=8", "lora.dropout=0.1"]
TABLES = ("decoder_frontend.embed.weight", "final_proj.weight")


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


def make(config: ModelConfig, vocabulary: JointVocabulary) -> SpeechLM:
    torch.manual_seed(0)
    model = create_model(config, vocabulary).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def logits(model: SpeechLM) -> torch.Tensor:
    seqs = torch.arange(290, 330)[None]
    with torch.inference_mode():
        return model(seqs, BatchLayout.of(seqs))


def adapters(model: SpeechLM) -> set[str]:
    return {
        name.removeprefix("decoder.layers.0.").removesuffix(".lora_a")
        for name, _ in model.named_parameters()
        if name.startswith("decoder.layers.0.") and name.endswith(".lora_a")
    }


@pytest.mark.parametrize("config", [LLAMA, QWEN_2, QWEN_3], ids=lambda config: config.kind)
def test_adapters_change_nothing_at_first_and_merge_when_they_have_learnt(
    vocabulary, config: ModelConfig
) -> None:
    lora = LoraConfig(rank=3, alpha=12.0, dropout=0.5)
    model, plain = make(config, vocabulary), make(config, vocabulary)
    before = logits(plain)
    apply_lora(model, lora)
    model.eval()
    assert torch.equal(logits(model), before)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1)
    assert (logits(model) - before).abs().max() > 0.1
    plain.load_state_dict(merged_weights(model.state_dict(), lora))
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=0)


def test_an_adapter_adds_what_the_paper_says(vocabulary) -> None:
    """alpha / rank of B A x, for one projection by hand."""
    model = make(QWEN_2, vocabulary)
    apply_lora(model, LoraConfig(rank=2, alpha=6.0, targets=("k_proj",)))
    projection = model.decoder.layers[1].self_attn.k_proj
    with torch.no_grad():
        projection.lora_b.normal_()
    x = torch.randn(3, 32)
    expected = x @ projection.weight.T + projection.bias
    expected = expected + 3.0 * (x @ projection.lora_a.T @ projection.lora_b.T)
    torch.testing.assert_close(projection(x), expected)
    assert projection.lora_a.std() > 0.05


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q_proj", "v_proj"), {"self_attn.q_proj", "self_attn.v_proj"}),
        (("output_proj",), {"self_attn.output_proj", "ffn.output_proj"}),
        (("ffn.output_proj",), {"ffn.output_proj"}),
        (("ffn", "ffn.output_proj"), {f"ffn.{n}_proj" for n in ("gate", "inner", "output")}),
        (("self_attn",), {f"self_attn.{n}_proj" for n in ("q", "k", "v", "output")}),
    ],
)
def test_targets_are_named_alone_or_by_their_place(
    vocabulary, targets: tuple[str, ...], expected: set[str]
) -> None:
    model = make(QWEN_3, vocabulary)
    apply_lora(model, LoraConfig(rank=1, targets=targets))
    assert adapters(model) == expected


@pytest.mark.parametrize("rows", ["none", "new_rows", "all"])
@pytest.mark.parametrize("tied", ["true", "false"])
def test_only_adapters_and_the_rows_asked_for_learn(
    workspace, build_mix, rows: str, tied: str
) -> None:
    build_mix()
    model = f"model.tied_embeddings={tied}"
    base = train(workspace, load_config("smoke", [*TINY, model, "trainer.num_steps=1"]), "base")
    settings = [*TINY, *LORA, "optimizer.weight_decay=0.1", f"lora.train_embeddings={rows}"]
    run_dir = train(workspace, load_config("smoke", settings), "adapted", init_from=base)
    start, end = saved(base), saved(run_dir)
    num_text = load_run(run_dir).info.num_text
    for name, weight in start.items():
        if name in TABLES and rows != "none":
            assert torch.equal(end[name][:num_text], weight[:num_text]) == (rows == "new_rows")
            assert not torch.equal(end[name][num_text:], weight[num_text:])
        else:
            assert torch.equal(end[name], weight), name
    added = {name for name in end if name not in start}
    assert len(added) == 2 * 2 * 7  # A and B in two layers of seven projections
    assert all(end[name].abs().max() > 0 for name in added)
    num_tables = 0 if rows == "none" else 1 if tied == "true" else 2
    assert optimized(run_dir, 8) == {*added, *TABLES[:num_tables]}


def test_a_run_with_adapters_answers_and_begins_another_as_any_run_does(
    workspace, build_mix
) -> None:
    build_mix()
    settings = [*TINY, "model.dropout=0"]
    base = train(workspace, load_config("smoke", settings), "base")
    config = load_config("smoke", [*settings, *LORA])
    run_dir = train(workspace, config, "adapted", init_from=base)
    wrapped = create_model(load_run(base).info.config.model, load_run(base).vocabulary)
    apply_lora(wrapped, config.lora)
    wrapped.load_state_dict(saved(run_dir))
    torch.testing.assert_close(
        logits(load_run(run_dir).model), logits(wrapped.eval()), atol=1e-5, rtol=0
    )
    assert read_weights(run_dir, 8).keys() == read_weights(base, 8).keys()
    first = run_training(
        workspace, stage="pretrain", config=config, output_dir=run_dir, init_from=base
    )
    second = run_training(
        workspace,
        stage="pretrain",
        config=config,
        output_dir=workspace.runs / "again",
        init_from=run_dir,
    )
    assert second.first_valid_loss == pytest.approx(first.last_valid_loss, abs=1e-5)
    assert second.last_valid_loss < second.first_valid_loss


@pytest.mark.parametrize("step", [3, 5])
def test_a_crash_changes_nothing_for_adapters(workspace, build_mix, monkeypatch, step: int) -> None:
    build_mix()
    base = train(workspace, load_config("smoke", [*TINY, "trainer.num_steps=1"]), "base")
    config = load_config("smoke", [*TINY, *LORA, "freeze.new_rows_only_steps=2"])
    reference = train(workspace, config, "reference", init_from=base)
    assert_a_crash_changes_nothing(
        workspace, config, reference, monkeypatch, step=step, init_from=base
    )
