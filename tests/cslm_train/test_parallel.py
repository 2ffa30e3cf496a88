"""What saves memory or time leaves a step as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fairseq2.gang import FakeGang, create_fake_gangs

from cslm_data.errors import UsageError
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.config import ModelConfig, ParallelConfig
from cslm_train.config_files import load_config
from cslm_train.models.family import SpeechLM, create_model
from cslm_train.packing.reader import PackedBatch
from cslm_train.training.elastic import named_weights
from cslm_train.training.loss import token_nll
from cslm_train.training.parallel import make_gangs, make_room, share_model, uses_autocast
from cslm_train.vocabulary import JointVocabulary

CPU = torch.device("cpu")
SMALL = ModelConfig(
    model_dim=32, num_layers=3, num_heads=4, num_kv_heads=2, ffn_inner_dim=48, dropout=0.1
)


@pytest.fixture
def make(tokenizer_folder) -> Callable[[], SpeechLM]:
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)

    def make() -> SpeechLM:
        torch.manual_seed(3)
        return create_model(SMALL, vocabulary)

    return make


def batch(lengths: list[int]) -> PackedBatch:
    generator = torch.Generator().manual_seed(sum(lengths))
    tokens = torch.randint(0, 300, (sum(lengths) + 1,), generator=generator)
    positions = torch.arange(1, sum(lengths), 2)
    return PackedBatch(
        inputs_S=tokens[:-1],
        lengths=lengths,
        positions_K=positions,
        targets_K=tokens[1:][positions],
        groups_K=torch.zeros(len(positions), dtype=torch.int64),
        pack_id=0,
        keys=(),
    )


def step(model: torch.nn.Module, lengths: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients, dropout and all."""
    torch.manual_seed(7)
    model.zero_grad()
    loss = token_nll(model, batch(lengths)).sum()
    loss.backward()
    gradients = {name: weight.grad for name, weight in named_weights(model).items()}
    assert all(gradient is not None for gradient in gradients.values())
    return loss.item(), gradients


@pytest.mark.parametrize("nth", [1, 2])
def test_activation_checkpointing_changes_no_bit_of_a_step(make, nth: int) -> None:
    plain = make()
    parallel = ParallelConfig(activation_checkpointing="layer", checkpoint_every_nth_layer=nth)
    model = share_model(make(), create_fake_gangs(CPU), parallel, precision="fp32")
    wrapped = [name for name, _ in model.named_modules() if name.endswith("wrapped_module")]
    assert len(wrapped) == {1: 3, 2: 2}[nth]
    assert list(model.state_dict()) == list(plain.state_dict())
    assert list(named_weights(model)) == [name for name, _ in plain.named_parameters()]
    (loss, gradients), (expected, theirs) = step(model, [9, 20, 3]), step(plain, [9, 20, 3])
    assert loss == expected
    assert all(torch.equal(gradients[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_compiled_model_takes_the_same_step_whatever_the_documents(make) -> None:
    parallel = ParallelConfig(activation_checkpointing="layer", compile=True)
    plain, model = make().eval(), make().eval()
    model = share_model(model, create_fake_gangs(CPU), parallel, precision="fp32")
    assert list(model.state_dict()) == list(plain.state_dict())
    for lengths in ([9, 20, 3], [16, 16], [5, 5, 5, 5, 4]):
        (loss, gradients), (expected, theirs) = step(model, lengths), step(plain, lengths)
        assert loss == pytest.approx(expected, rel=1e-5)
        for name, gradient in theirs.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-4)


def test_a_model_of_meta_tensors_gets_room_for_weights(make, tokenizer_folder) -> None:
    drawn = make()
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)
    model = create_model(SMALL, vocabulary, meta=True)
    assert all(weight.is_meta for weight in model.parameters())
    make_room(model)
    model.load_state_dict(drawn.state_dict())
    assert model.final_proj.weight is model.decoder_frontend.embed.weight
    assert step(model, [9, 20, 3])[0] == step(drawn, [9, 20, 3])[0]


class _Many(FakeGang):
    @property
    def size(self) -> int:
        return 6


def test_groups_that_do_not_fit_the_processes_are_named() -> None:
    parallel = ParallelConfig(data_parallel="fsdp", shard_group_size=4)
    with pytest.raises(UsageError, match="6 processes do not make groups of 4"):
        make_gangs(_Many(CPU), parallel)


def test_one_process_is_not_sharded_whatever_is_asked_for() -> None:
    gangs = make_gangs(FakeGang(CPU), ParallelConfig(data_parallel="fsdp", shard_group_size=4))
    assert gangs.sdp.size == 1
    assert uses_autocast("bf16", gangs)
    assert not uses_autocast("fp32", gangs)


@pytest.mark.parametrize("setting", ["parallel.shard_group_size=1", "parallel.shard_group_size=2"])
def test_a_group_of_shards_needs_shards_and_a_size(setting: str) -> None:
    with pytest.raises(UsageError, match="above 1, and only with parallel.data_parallel fsdp"):
        load_config("smoke", [setting])


def test_adafactor_in_shards_is_refused() -> None:
    with pytest.raises(UsageError, match="optimizer.name is adafactor, but must be adamw with"):
        load_config("smoke", ["optimizer.name=adafactor", "parallel.data_parallel=fsdp"])
