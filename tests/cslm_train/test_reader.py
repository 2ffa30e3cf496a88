"""The reader hands out every pack in its order, as whole documents, from any position."""

from __future__ import annotations

import itertools
from pathlib import Path

import duckdb
import numpy as np
import pytest

from cslm_data.errors import CorruptArtefactError, NoDataError
from cslm_data.framing import frame
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer
from cslm_train.packing.batches import write_batches
from cslm_train.packing.plan import PackPlan, load_or_make_plan, require_packs
from cslm_train.packing.reader import PackedBatch, ShardReader
from cslm_train.packing.stretches import go_on
from cslm_train.vocabulary import JointVocabulary

GROUPS = ["asr/en", "asr/zh", "mt/en-zh", "mt/zh-en", "tts/en", "tts/zh"]


@pytest.fixture(scope="module")
def vocabulary(tokenizer_folder: Path) -> JointVocabulary:
    return JointVocabulary(load_text_tokenizer(tokenizer_folder), 20)


@pytest.fixture
def mix(build_mix) -> MixInfo:
    return MixInfo.load(build_mix())


def make_plan(
    mix: MixInfo, vocabulary: JointVocabulary, folder: Path, *, split="train", pack_length=64
) -> PackPlan:
    path = folder / f"packs-{split}.parquet"
    return load_or_make_plan(path, mix, vocabulary, split=split, pack_length=pack_length, window=8)


def make_reader(
    plan: PackPlan, mix: MixInfo, vocabulary: JointVocabulary, *, seed: int | None = 1, **options
) -> ShardReader:
    return ShardReader(plan, mix.folder / "shards", vocabulary, groups=GROUPS, seed=seed, **options)


def take(reader: ShardReader, count: int) -> list[list[PackedBatch]]:
    steps = list(itertools.islice(reader, count))
    reader.close()
    return steps


def test_an_epoch_hands_out_every_sample_once(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    steps = take(make_reader(plan, mix, vocabulary), plan.num_packs)
    seen = [key for (batch,) in steps for key in batch.keys]
    assert sorted(seen) == sorted(sample.key for sample in iter_samples(mix.folder, "train"))
    assert plan.num_packs > 5
    assert plan.num_tokens == sum(len(batch.inputs_S) for (batch,) in steps)


def test_a_batch_holds_inputs_and_trained_targets_of_whole_documents(
    mix, vocabulary, tmp_path
) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    samples = {sample.key: sample for sample in iter_samples(mix.folder, "train")}
    for (batch,) in take(make_reader(plan, mix, vocabulary), 5):
        inputs, targets, groups, positions = [], [], [], []
        for key in batch.keys:
            ids, trained = vocabulary.encode(frame(samples[key].segments))
            for place in range(len(ids) - 1):
                if trained[place + 1]:
                    positions.append(len(inputs) + place)
                    targets.append(ids[place + 1])
                    groups.append(f"{samples[key].task}/{samples[key].languages}")
            inputs.extend(ids[:-1])
        assert batch.inputs_S.tolist() == inputs
        assert len(inputs) <= 64
        assert batch.positions_K.tolist() == positions
        assert batch.targets_K.tolist() == targets
        assert [GROUPS[number] for number in batch.groups_K.tolist()] == groups
        assert batch.lengths == [
            len(vocabulary.encode(frame(samples[key].segments))[0]) - 1 for key in batch.keys
        ]
        assert list(batch.layout.seq_lens) == batch.lengths


def ids_of(steps: list[list[PackedBatch]]) -> list[list[int]]:
    return [[batch.pack_id for batch in step] for step in steps]


@pytest.mark.parametrize("taken", [0, 1, 7, 25])
def test_a_reader_goes_on_where_another_stopped(mix, vocabulary, tmp_path, taken: int) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    whole = ids_of(take(make_reader(plan, mix, vocabulary, accumulation=2), 40))
    first = make_reader(plan, mix, vocabulary, accumulation=2)
    assert ids_of(take(first, taken)) == whole[:taken]
    second = make_reader(plan, mix, vocabulary, accumulation=2, prefetch=5)
    take_one = next(second)
    second.load_state_dict(first.state_dict())
    assert ids_of([take_one]) == whole[:1]
    assert ids_of(take(second, 40 - taken)) == whole[taken:]


def test_ranks_share_the_packs_that_one_process_would_read(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    alone = ids_of(take(make_reader(plan, mix, vocabulary, accumulation=4), 10))
    ranks = [
        make_reader(plan, mix, vocabulary, rank=rank, num_ranks=2, accumulation=2)
        for rank in range(2)
    ]
    states = [reader.state_dict() for reader in ranks]
    both = [ids_of(take(reader, 10)) for reader in ranks]
    assert states[0] == states[1]
    assert ranks[0].state_dict() == ranks[1].state_dict()
    for step, (zero, one) in enumerate(zip(*both, strict=True)):
        assert [zero[0], one[0], zero[1], one[1]] == alone[step]


def test_epochs_follow_one_another_inside_a_step(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    steps = ids_of(take(make_reader(plan, mix, vocabulary, accumulation=3), 2 * plan.num_packs))
    packs = [pack for step in steps for pack in step]
    epochs = [packs[i : i + plan.num_packs] for i in range(0, len(packs), plan.num_packs)]
    assert len(epochs) == 6
    assert all(sorted(epoch) == list(range(plan.num_packs)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_a_single_pass_counts_every_target_once(mix, vocabulary, tmp_path, num_ranks: int) -> None:
    plan = make_plan(mix, vocabulary, tmp_path, split="valid", pack_length=32)
    counted: list[str] = []
    num_steps = set()
    for rank in range(num_ranks):
        reader = make_reader(plan, mix, vocabulary, seed=None, rank=rank, num_ranks=num_ranks)
        for _ in range(2):  # after reset it is the same pass again
            steps = list(reader)
            reader.reset()
        reader.close()
        num_steps.add(len(steps))
        counted += [key for (batch,) in steps if len(batch.targets_K) for key in batch.keys]
    assert sorted(counted) == sorted(s.key for s in iter_samples(mix.folder, "valid"))
    assert num_steps == {-(-plan.num_packs // num_ranks)}


def test_batches_say_what_each_step_reads(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    stretches = go_on((), step=None, num_processes=2, accumulation=1)
    write_batches(tmp_path, plan, seed=1, num_steps=20, stretches=stretches)
    rows = duckdb.sql(
        f"select step, rank, micro_batch, pack_id, list(key) "
        f"from '{tmp_path}/batches-*.parquet' group by all order by step, rank"
    ).fetchall()
    readers = [make_reader(plan, mix, vocabulary, rank=rank, num_ranks=2) for rank in range(2)]
    expected = [
        (step, rank, 0, batch.pack_id, sorted(batch.keys))
        for step in range(1, 21)
        for rank, reader in enumerate(readers)
        for batch in next(reader)
    ]
    assert [(*row[:4], sorted(row[4])) for row in rows] == expected
    for reader in readers:
        reader.close()


def test_a_plan_is_reused_until_what_it_depends_on_changes(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    path = tmp_path / "packs-train.parquet"
    made = path.stat().st_mtime_ns
    again = make_plan(mix, vocabulary, tmp_path)
    assert path.stat().st_mtime_ns == made
    assert again.keys == plan.keys
    assert make_plan(mix, vocabulary, tmp_path, pack_length=128).num_packs < plan.num_packs
    assert path.stat().st_mtime_ns != made


def test_samples_left_out_are_rejects_with_their_reason(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path, pack_length=16)
    lengths = {
        sample.key: len(vocabulary.encode(frame(sample.segments))[0])
        for sample in iter_samples(mix.folder, "train")
    }
    long = sorted(key for key, length in lengths.items() if length > 17)
    rows = duckdb.sql(f"select * from '{tmp_path}/rejects-train.parquet' order by key").fetchall()
    assert [row[:4] for row in rows] == [("train", "", key, "too_long") for key in long]
    assert plan.num_skipped == len(long) > 0
    assert sorted(plan.keys) == sorted(set(lengths) - set(long))


def test_a_split_without_packs_is_an_error_that_says_what_to_do(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path, pack_length=2)
    with pytest.raises(NoDataError, match=r"40 left out\); raise data.pack_length"):
        require_packs(plan, mix)


def test_a_mix_exchanged_under_its_plan_is_noticed(mix, vocabulary, tmp_path, build_mix) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    samples = list(iter_samples(mix.folder, "train"))
    build_mix(train=samples[::-1])
    reader = make_reader(plan, mix, vocabulary)
    with pytest.raises(CorruptArtefactError, match="built again"):
        next(reader)
    reader.close()


def test_inputs_are_what_torch_expects(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    ((batch,),) = take(make_reader(plan, mix, vocabulary), 1)
    kinds = [batch.inputs_S, batch.positions_K, batch.targets_K, batch.groups_K]
    assert {str(tensor.dtype) for tensor in kinds} == {"torch.int64"}
    assert np.all(batch.inputs_S.numpy() < vocabulary.size)
