"""Weights, optimizer state and activations of a plan are those of real models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fairseq2.models.transformer_lm import apply_ac_to_transformer_lm
from fairseq2.nn import BatchLayout
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from cslm_data.framing import CONTROLS
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import LoraConfig, ModelConfig
from cslm_train.config_files import load_config
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.models.lora import apply_lora
from cslm_train.models.weights import num_parameters
from cslm_train.planning.memory import (
    Arithmetic,
    Placement,
    activation_bytes,
    logit_bytes,
    memory_of,
    optimizer_bytes,
)
from cslm_train.planning.parameters import count_parameters
from cslm_train.planning.shapes import SHAPES, shape_of
from cslm_train.training.optim import make_optimizer
from cslm_train.vocabulary import JointVocabulary

KINDS = {
    "llama": ModelConfig(model_dim=64, num_layers=2, ffn_inner_dim=176),
    "untied": ModelConfig(model_dim=64, num_layers=3, ffn_inner_dim=176, tied_embeddings=False),
    "qwen2": ModelConfig(kind="qwen2", model_dim=64, num_layers=2, ffn_inner_dim=96, qkv_bias=True),
    "qwen3": ModelConfig(
        kind="qwen3", model_dim=64, num_layers=2, ffn_inner_dim=96, head_dim=32, qk_norm=True
    ),
}


@pytest.fixture
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-1.5b", 1_543_714_304),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
    ],
)
def test_public_models_have_the_weights_that_they_are_known_to_have(name: str, total: int) -> None:
    shape = shape_of(name)
    parameters = count_parameters(shape.model, shape.vocab_size)
    assert parameters.total == total
    assert num_parameters(shape.model, shape.vocab_size) == total
    parts = (parameters.embedding, parameters.output, parameters.non_embedding)
    assert sum(parts) == total
    assert set(SHAPES) >= {name}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_by_part_are_those_of_a_real_model(kind: str, vocabulary: JointVocabulary) -> None:
    config = KINDS[kind]
    model = create_model(config, vocabulary)
    parameters = count_parameters(config, vocabulary.size, base_vocab_size=vocabulary.num_text)
    sizes = {name: p.numel() for name, p in model.named_parameters()}

    def real(*parts: str) -> int:
        return sum(size for name, size in sizes.items() if any(part in name for part in parts))

    assert parameters.total == sum(sizes.values()) == num_parameters(config, vocabulary.size)
    assert parameters.attention == real("q_proj", "k_proj", "v_proj", "self_attn.output_proj")
    assert parameters.feed_forward == real(".ffn.")
    assert parameters.norms == real("norm")
    assert parameters.embedding == real("embed")
    assert parameters.output == (0 if config.tied_embeddings else real("final_proj"))
    rows = len(CONTROLS) + 20
    assert parameters.new_rows == rows * 64 * (1 if config.tied_embeddings else 2)


@pytest.mark.parametrize("targets", [("self_attn", "ffn"), ("q_proj", "ffn.output_proj")])
@pytest.mark.parametrize("rows", ["none", "new_rows"])
def test_adapters_train_what_a_real_model_with_them_trains(
    targets: tuple, rows: str, vocabulary: JointVocabulary
) -> None:
    lora = LoraConfig(rank=4, targets=targets, train_embeddings=rows)  # type: ignore[arg-type]
    config = KINDS["untied"]
    model = create_model(config, vocabulary)
    plain = sum(p.numel() for p in model.parameters())
    apply_lora(model, lora)
    parameters = count_parameters(config, vocabulary.size, lora=lora)
    assert parameters.total == plain
    assert parameters.adapters == sum(p.numel() for p in model.parameters()) - plain
    assert parameters.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("rank", [0, 4])
def test_the_optimizer_keeps_as_many_bytes_as_said(
    name: str, rank: int, vocabulary: JointVocabulary
) -> None:
    config, lora = KINDS["qwen2"], LoraConfig(rank=rank)
    model = create_model(config, vocabulary)
    apply_lora(model, lora)
    optimizer = make_optimizer(model, load_config("smoke", [f"optimizer.name={name}"]).optimizer)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    state = [
        value.nbytes
        for values in optimizer.state.values()
        for key, value in values.items()
        if isinstance(value, Tensor) and key != "step"
    ]
    parameters = count_parameters(config, vocabulary.size, lora=lora)
    assert optimizer_bytes(parameters, factored=name == "adafactor") == sum(state)


# --- memory -----------------------------------------------------------------------------------

LENGTHS = [100, 200, 84, 128]
TRAINED, POSITIONS = 64, sum(LENGTHS)


def loss_of(model: SpeechLM, vocab_size: int, *, autocast: bool) -> Tensor:
    """The loss of a pack, computed as the trainer does."""
    inputs = torch.randint(1, vocab_size, (POSITIONS,))
    layout = BatchLayout.of(inputs, LENGTHS, packed=True)
    targets = torch.randint(0, vocab_size, (TRAINED,))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(inputs, layout, positions_K=torch.arange(TRAINED))
        return cross_entropy(logits.float(), targets, reduction="none").sum()


def saved_bytes(model: Module, compute: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass, weights and buffers aside."""
    own = [*model.parameters(), *model.buffers()]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in known)


# PyTorch says that heads in bf16 with a norm in fp32 (Qwen 3 under autocast) take its slower path.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("arithmetic", ["fp32", "autocast", "bf16"])
def test_activations_are_within_a_hundredth_of_what_autograd_saves(
    kind: str, arithmetic: Arithmetic, vocabulary: JointVocabulary
) -> None:
    config = dataclasses.replace(KINDS[kind], max_seq_len=512)
    model = create_model(config, vocabulary)
    if arithmetic == "bf16":  # as FSDP casts the weights of a layer
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16()
    saved = saved_bytes(
        model, lambda: loss_of(model, vocabulary.size, autocast=arithmetic == "autocast")
    )
    size = 4 if arithmetic == "fp32" else 2
    saved -= TRAINED * (vocabulary.size * 4 + config.model_dim * size)  # log-softmax and its input
    if arithmetic == "autocast":
        saved -= 2 * sum(p.numel() for p in model.parameters() if p.ndim == 2)  # bf16 weights
    expected = activation_bytes(config, arithmetic, pack_length=POSITIONS)
    assert saved == pytest.approx(expected, rel=0.01)


def peak_bytes(compute: Callable[[], object]) -> int:
    """Most bytes that were allocated at once while computing, over those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    allocated = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()
            highest = max(highest, allocated)
    return highest


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("every", [0, 1, 2])
def test_a_step_needs_no_more_than_said_and_not_much_less(
    precision: str, every: int, vocabulary: JointVocabulary
) -> None:
    config = dataclasses.replace(KINDS["llama"], max_seq_len=512, num_layers=5)
    model = create_model(config, vocabulary)
    if every:
        apply_ac_to_transformer_lm(model, every)
    peak = peak_bytes(
        lambda: loss_of(model, vocabulary.size, autocast=precision == "bf16").backward()
    )
    said = memory_of(
        config,
        vocabulary.size,
        count_parameters(config, vocabulary.size),
        placement(precision=precision, recompute_every=every),
    )
    computed = said.bf16_weights + said.gradients + said.activations + said.logits
    assert 0.75 * computed < peak < 1.02 * computed


def placement(**fields) -> Placement:
    return Placement(
        **{
            "world_size": 1,
            "shards": 1,
            "recompute_every": 0,
            "precision": "fp32",
            "pack_length": POSITIONS,
            "trained_share": TRAINED / POSITIONS,
            **fields,
        }
    )


def test_the_loss_needs_three_times_its_logits() -> None:
    hidden = torch.randn(TRAINED, 8, requires_grad=True)
    output = torch.randn(20_000, 8, requires_grad=True)
    targets = torch.randint(0, len(output), (TRAINED,))
    peak = peak_bytes(
        lambda: cross_entropy(hidden @ output.T, targets, reduction="none").sum().backward()
    )
    gradients = hidden.nbytes + output.nbytes
    said = logit_bytes(len(output), TRAINED)
    assert said == 3 * 4 * TRAINED * len(output)
    assert said < peak < said + 1.5 * gradients


def test_shards_share_what_ddp_has_on_every_gpu() -> None:
    shape = SHAPES["llama-3.1-8b"]
    parameters = count_parameters(shape.model, shape.vocab_size)
    fields = {"world_size": 16, "precision": "bf16", "pack_length": 4096, "trained_share": 1.0}
    ddp, fsdp, group = (
        memory_of(shape.model, shape.vocab_size, parameters, placement(**fields, shards=shards))
        for shards in (1, 16, 8)
    )
    weights = 8_030_261_248
    assert (ddp.weights, ddp.gradients, ddp.optimizer) == (4 * weights, 4 * weights, 8 * weights)
    assert ddp.buckets == 4 * weights
    assert ddp.gathered == 0
    assert (fsdp.weights, fsdp.optimizer, fsdp.buckets) == (weights // 4, weights // 2, 0)
    assert group.weights == weights // 2
    assert fsdp.bf16_weights == 0 < ddp.bf16_weights
    # Two layers and both token tables in bf16, their gradients, the tables' once more in fp32.
    layer = 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14_336
    tables = 2 * 128_256 * 4096
    assert fsdp.gathered == 2 * (tables + 2 * layer) + 2 * (tables + layer) + 4 * tables
    assert fsdp.logits == 12 * 4096 * 128_256
    assert ddp.total > 16 * weights
    assert fsdp.total == sum(v for k, v in vars(fsdp).items() if k != "total")
