"""What is frozen stays as it is, bit by bit, and learns again when its step comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from crashing import TINY, assert_a_crash_changes_nothing, optimized, saved, train
from fairseq2.nn import BatchLayout
from fairseq2.nn.data_parallel import get_data_parallel_facade
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from worlds import run_world

from cslm_data.errors import UsageError
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import FreezeConfig, LoraConfig, ModelConfig, OptimizerConfig, TrainConfig
from cslm_train.config_files import load_config
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.training.freezing import Freezing, freeze_for_good, local_rows
from cslm_train.training.optim import make_optimizer
from cslm_train.vocabulary import JointVocabulary

SMALL = ModelConfig(
    model_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, ffn_inner_dim=16, max_seq_len=64
)
DECAY = ["optimizer.weight_decay=0.1", "optimizer.decayed=all"]
TABLES = ("decoder_frontend.embed.weight", "final_proj.weight")


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


def make(vocabulary: JointVocabulary, *, tied: bool = True) -> SpeechLM:
    torch.manual_seed(0)
    return create_model(dataclasses.replace(SMALL, tied_embeddings=tied), vocabulary)


def backward(model: torch.nn.Module, vocabulary: JointVocabulary) -> None:
    seqs = torch.arange(vocabulary.num_text - 5, vocabulary.size)[None]
    model(seqs, BatchLayout.of(seqs)).logsumexp(-1).sum().backward()


def split(weights: dict[str, Tensor], num_text: int) -> tuple[dict[str, Tensor], ...]:
    """Old rows, new rows, all other weights."""
    old = {name: weights[name][:num_text] for name in TABLES}
    new = {name: weights[name][num_text:] for name in TABLES}
    return old, new, {name: w for name, w in weights.items() if name not in TABLES}


def same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> set[bool]:
    """Whether each weight is bit-identical in both."""
    return {torch.equal(mine[name], theirs[name]) for name in theirs}


@pytest.mark.parametrize("tied", ["true", "false"])
def test_new_rows_train_first_and_then_everything(
    workspace, build_mix, vocabulary, tied: str
) -> None:
    """Also with momentum and weight decay, which move weights that have no gradient."""
    build_mix()
    settings = [*TINY, *DECAY, "freeze.new_rows_only_steps=4", f"model.tied_embeddings={tied}"]
    config = load_config("smoke", settings)
    run_dir = train(workspace, config, "frozen")
    torch.manual_seed(config.trainer.seed)
    start = create_model(config.model, vocabulary).state_dict()
    begun, half, end = (split(w, 300) for w in (start, saved(run_dir, 4), saved(run_dir, 8)))
    assert vocabulary.num_text == 300
    assert [same(a, b) for a, b in zip(half, begun, strict=True)] == [{True}, {False}, {True}]
    assert [same(a, b) for a, b in zip(end, half, strict=True)] == [{False}, {False}, {False}]
    assert (half[1][TABLES[1]] != begun[1][TABLES[1]]).any(dim=1).all()  # every new row learns


def test_old_rows_may_stay_for_the_whole_run(workspace, build_mix, vocabulary) -> None:
    build_mix()
    config = load_config("smoke", [*TINY, *DECAY, "freeze.old_rows=true"])
    run_dir = train(workspace, config, "frozen")
    torch.manual_seed(config.trainer.seed)
    begun = split(create_model(config.model, vocabulary).state_dict(), 300)
    end = split(saved(run_dir), 300)
    assert [same(a, b) for a, b in zip(end, begun, strict=True)] == [{True}, {False}, {False}]


def test_only_new_rows_for_a_whole_run_need_no_other_gradient(workspace, build_mix) -> None:
    """And learn what they do when the rest waits for its turn."""
    build_mix()
    same_rate = ["lr_scheduler.name=constant", "lr_scheduler.warmup_ratio=0"]
    waiting = load_config("smoke", [*TINY, *same_rate, "freeze.new_rows_only_steps=4"])
    whole = load_config(
        "smoke", [*TINY, *same_rate, "freeze.new_rows_only_steps=null", "trainer.num_steps=4"]
    )
    first = saved(train(workspace, waiting, "waiting"), 4)
    run_dir = train(workspace, whole, "whole")
    assert same(saved(run_dir, 4), first) == {True}
    assert len(optimized(run_dir, 4)) == 1  # the tied matrix


@pytest.mark.parametrize("step", [4, 7])
def test_a_crash_before_or_after_the_thaw_changes_nothing(
    workspace, build_mix, monkeypatch, step: int
) -> None:
    build_mix()
    settings = ["freeze.new_rows_only_steps=5", "checkpoint.every_n_steps=2", "optimizer.beta2=0.9"]
    more = ["validation.every_n_steps=2", "freeze.old_rows=true"]
    config = load_config("smoke", [*TINY, *DECAY, *settings, *(more if step % 2 else more[:1])])
    reference = train(workspace, config, "reference")
    assert_a_crash_changes_nothing(workspace, config, reference, monkeypatch, step=step)


def test_the_norm_that_is_clipped_is_that_of_what_trains(vocabulary) -> None:
    config = TrainConfig(freeze=FreezeConfig(new_rows_only_steps=2))
    model, reference = make(vocabulary), make(vocabulary)
    backward(reference, vocabulary)
    new_rows = reference.final_proj.weight.grad[vocabulary.num_text :]
    optimizer = make_optimizer(model, config.optimizer)
    freezing = Freezing(model, config, num_text=vocabulary.num_text)
    freezing.watch(model)
    facade = get_data_parallel_facade(model)
    freezing.step = lambda: 2
    backward(model, vocabulary)
    assert facade.clip_grad_norm(None).item() == pytest.approx(new_rows.norm().item())
    optimizer.step()
    assert len(optimizer.state) == 1
    optimizer.zero_grad()
    freezing.step = lambda: 3
    backward(model, vocabulary)
    everything = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert facade.clip_grad_norm(None).item() == pytest.approx(everything.item())


def test_new_rows_decay_while_the_old_ones_stay(vocabulary) -> None:
    """Without a pull of the gradient, rate 0.5 and decay 0.5 leave three quarters."""
    model = make(vocabulary, tied=False)
    optimization = OptimizerConfig(lr=0.5, weight_decay=0.5)
    config = TrainConfig(freeze=FreezeConfig(old_rows=True), optimizer=optimization)
    freezing = Freezing(model, config, num_text=vocabulary.num_text)
    optimizer = make_optimizer(model, config.optimizer, held_rows=freezing.held_rows)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    old, new, others = split(model.state_dict(), vocabulary.num_text)
    old_before, new_before, others_before = split(before, vocabulary.num_text)
    assert same(old, old_before) == {True}
    for name in TABLES:
        torch.testing.assert_close(new[name], 0.75 * new_before[name])
    matrices = [name for name in others if others[name].ndim > 1]
    for name in matrices:
        torch.testing.assert_close(others[name], 0.75 * others_before[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["lora.rank=2", "lora.train_embeddings=none", "freeze.new_rows_only_steps=3"],
            "new_rows_only_steps is 3, but must be 0 with lora",
        ),
        (["freeze.new_rows_only_steps=-1"], "new_rows_only_steps is -1, but must be at least 0"),
        (
            ["freeze.new_rows_only_steps=3", "guard.spike_factor=4"],
            "spike_factor is 4.0, but must be 0 with freeze",
        ),
    ],
)
def test_what_cannot_be_frozen_is_said(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config("smoke", settings)


# --- several processes ------------------------------------------------------------------------


@pytest.mark.parametrize("num_rows", [1, 7, 8, 320])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_rows_of_a_process_are_those_of_its_chunk(num_rows: int, size: int) -> None:
    chunks = torch.arange(num_rows).chunk(size)
    for rank in range(size):
        expected = chunks[rank].tolist() if rank < len(chunks) else []
        first, count = local_rows(num_rows, [(1, 0), (size, rank)])
        assert list(range(first, first + count)) == expected
    halves = torch.arange(num_rows).chunk(2)[0].chunk(size)
    first, count = local_rows(num_rows, [(2, 0), (size, 0)])
    assert list(range(first, first + count)) == halves[0].tolist()


@pytest.fixture
def one_of_four() -> Iterator[int]:
    """A rank of a world of four, of which the others only seem to be there."""
    dist.init_process_group("fake", store=FakeStore(), rank=2, world_size=4)
    yield 2
    dist.destroy_process_group()


@pytest.mark.parametrize("tied", [True, False])
def test_each_process_holds_the_old_rows_of_its_shard(
    one_of_four: int, vocabulary, tied: bool
) -> None:
    model = make(vocabulary, tied=tied)
    full = model.final_proj.weight.detach().clone()
    fully_shard(model, mesh=init_device_mesh("cpu", (4,)))
    step = -(-vocabulary.size // 4)
    config = TrainConfig(freeze=FreezeConfig(new_rows_only_steps=1))
    # Of 4 shards, text ends within the third: the one of this rank.
    num_text = 2 * step + 3
    freezing = Freezing(model, config, num_text=num_text)
    freezing.watch(model)
    local = model.final_proj.weight.to_local()
    assert torch.equal(local, full[2 * step : 3 * step])
    for parameter in model.parameters():
        parameter.grad = DTensor.from_local(
            torch.ones_like(parameter.to_local()),
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
    get_data_parallel_facade(model).clip_grad_norm(None)
    assert freezing.held_rows(model.final_proj.weight) == 3
    with_gradient = [name for name, p in model.named_parameters() if p.grad is not None]
    assert with_gradient == list(TABLES[:1] if tied else TABLES)
    with pytest.raises(UsageError, match="adafactor .* cannot be sharded"):
        make_optimizer(model, OptimizerConfig(name="adafactor"))
    left = model.final_proj.weight.grad.to_local().abs().sum(dim=1)
    assert (left[:3] == 0).all()
    assert (left[3:] > 0).all()


@pytest.fixture
def world_of_one(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("lora", [0, 2])
def test_a_replicated_model_freezes_and_thaws(world_of_one, vocabulary, lora: int) -> None:
    from cslm_train.models.lora import apply_lora

    config = TrainConfig(
        freeze=FreezeConfig(new_rows_only_steps=2), lora=LoraConfig(rank=lora, dropout=0.1)
    )
    inner = make(vocabulary, tied=False)
    apply_lora(inner, config.lora)
    freeze_for_good(inner, config.freeze)
    model = DistributedDataParallel(inner)
    optimizer = make_optimizer(model, config.optimizer)
    freezing = Freezing(model, config, num_text=vocabulary.num_text)
    freezing.watch(model)
    moved = []
    for step in range(1, 5):
        freezing.step = partial(int, step)
        before = {name: w.clone() for name, w in inner.state_dict().items()}
        backward(model, vocabulary)
        get_data_parallel_facade(model).clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        after = split(inner.state_dict(), vocabulary.num_text)
        moved.append(
            [
                False in same(a, b)
                for a, b in zip(after, split(before, vocabulary.num_text), strict=True)
            ]
        )
    assert moved[:2] == [[False, True, False]] * 2
    assert moved[2:] == [[lora == 0, True, True]] * 2


def test_shards_freeze_and_thaw_as_one_process_does(workspace, build_mix) -> None:
    """Two processes in shards until past the thaw, then one to the end; with adapters."""
    build_mix()
    settings = [*TINY, "model.dropout=0", "trainer.packs_per_step=2", "lora.rank=2"]
    settings += ["freeze.new_rows_only_steps=3", "optimizer.weight_decay=0.1"]
    reference = train(workspace, load_config("smoke", settings), "reference")
    shards = [*settings, "parallel.data_parallel=fsdp"]
    ended = run_world(2, workspace.root, shards, run="sharded", stop_at=5)
    assert [rank.code for rank in ended] == [0, 0], ended
    run_dir = train(workspace, load_config("smoke", shards), "sharded")
    mine, theirs = saved(run_dir), saved(reference)
    for name, weight in theirs.items():
        torch.testing.assert_close(mine[name], weight, atol=1e-5, rtol=1e-4, msg=name)
    for name in TABLES:
        assert torch.equal(mine[name][:300], theirs[name][:300])
