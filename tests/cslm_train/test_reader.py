"""The reader hands out every pack in its order, as whole documents, from any position."""

from __future__ import annotations

import itertools
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cslm_data.errors import CorruptArtefactError, NoDataError
from cslm_data.framing import frame
from cslm_data.shards import MixInfo, iter_samples
from cslm_data.text_tokenizer import load_text_tokenizer, train_text_tokenizer
from cslm_train.packing.assign import epoch_order
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
    mix: MixInfo,
    vocabulary: JointVocabulary,
    folder: Path,
    *,
    split="train",
    pack_length=64,
    **options,
) -> PackPlan:
    path = folder / f"packs-{split}.parquet"
    return load_or_make_plan(
        path, mix, vocabulary, split=split, pack_length=pack_length, window=8, **options
    )


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
@pytest.mark.parametrize("too_long", ["skip", "split"])
def test_a_reader_goes_on_where_another_stopped(
    mix, vocabulary, tmp_path, taken: int, too_long: str
) -> None:
    plan = make_plan(mix, vocabulary, tmp_path, pack_length=32, too_long=too_long)
    whole = contents(take(make_reader(plan, mix, vocabulary, accumulation=2), 40))
    first = make_reader(plan, mix, vocabulary, accumulation=2)
    assert contents(take(first, taken)) == whole[: 2 * taken]
    second = make_reader(plan, mix, vocabulary, accumulation=2, prefetch=5)
    take_one = next(second)
    second.load_state_dict(first.state_dict())
    assert contents([take_one]) == whole[:2]
    assert contents(take(second, 40 - taken)) == whole[2 * taken :]


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
    write_batches(tmp_path, plan, seed=1, shuffle_packs=8, num_steps=20, stretches=stretches)
    rows = duckdb.sql(
        f"select step, rank, micro_batch, pack_id, list(key) "
        f"from '{tmp_path}/batches-*.parquet' group by all order by step, rank"
    ).fetchall()
    readers = [
        make_reader(plan, mix, vocabulary, rank=rank, num_ranks=2, shuffle_packs=8)
        for rank in range(2)
    ]
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
    assert list(again.keys) == list(plan.keys)
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


@pytest.mark.parametrize("too_long", ["split", "cut"])
def test_long_samples_are_read_in_parts(mix, vocabulary, tmp_path, too_long: str) -> None:
    plan = make_plan(mix, vocabulary, tmp_path, pack_length=7, too_long=too_long)
    wanted, kept, skipped = [], {}, set()
    for sample in iter_samples(mix.folder, "train"):
        ids, trained = vocabulary.encode(frame(sample.segments))
        length = len(ids) - 1
        parts = []
        for first in range(0, length, 7):
            stop = min(first + 7, length)
            targets = [int(ids[p + 1]) for p in range(first, stop) if trained[p + 1]]
            if targets and (first == 0 or too_long == "split"):
                parts.append((sample.key, ids[first:stop].tolist(), targets))
        wanted += parts
        if length > 7:
            kept[sample.key] = len(parts)
            if not parts:
                skipped.add(sample.key)
    assert len(wanted) > 5
    found = []
    for (batch,) in take(make_reader(plan, mix, vocabulary), plan.num_packs):
        assert len(batch.inputs_S) <= 7
        start = 0
        for key, length in zip(batch.keys, batch.lengths, strict=True):
            inside = (batch.positions_K >= start) & (batch.positions_K < start + length)
            inputs = batch.inputs_S[start : start + length].tolist()
            found.append((key, inputs, batch.targets_K[inside].tolist()))
            start += length
    assert sorted(found) == sorted(wanted)
    assert plan.num_skipped == len(skipped) == (0 if too_long == "split" else 34)
    assert plan.num_split == len(kept) - len(skipped)
    rows = duckdb.sql(
        f"select key, num_parts, too_long from '{tmp_path}/too-long-train.parquet' order by key"
    ).fetchall()
    assert rows == [(k, n, too_long) for k, n in sorted(kept.items()) if n]
    left_out = duckdb.sql(f"select key from '{tmp_path}/rejects-train.parquet'").fetchall()
    assert {key for (key,) in left_out} == skipped


# --- what the mix has counted ----------------------------------------------------------------


def write_counts(mix: MixInfo, vocabulary: JointVocabulary, *, more: int = 0, name="{}") -> None:
    """The columns of mix.parquet that matter, with counts that are `more` than they should be."""
    rows = [
        (split, name.format(s.key), len(vocabulary.encode(frame(s.segments))[0]) + more)
        for split in ("train", "valid")
        for s in iter_samples(mix.folder, split)
    ]
    columns = zip(("split", "key", "num_tokens"), zip(*rows, strict=True), strict=True)
    pq.write_table(pa.table(dict(columns)), mix.folder / "mix.parquet")


def rows_of(folder: Path, split="train") -> list:
    return duckdb.sql(f"from '{folder}/packs-{split}.parquet'").fetchall()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_what_the_mix_has_counted_is_not_counted_again(mix, vocabulary, tmp_path, split) -> None:
    make_plan(mix, vocabulary, tmp_path, split=split)
    by_reading = rows_of(tmp_path, split)
    write_counts(mix, vocabulary)
    for shard in (mix.folder / "shards").glob("*.tar"):
        shard.unlink()
    make_plan(mix, vocabulary, tmp_path / "again", split=split)
    assert rows_of(tmp_path / "again", split) == by_reading


def test_counts_of_other_samples_are_not_taken(mix, vocabulary, tmp_path, caplog) -> None:
    make_plan(mix, vocabulary, tmp_path)
    write_counts(mix, vocabulary, more=5, name="other-{}")
    make_plan(mix, vocabulary, tmp_path / "again")
    assert "counting anew" in caplog.text
    assert rows_of(tmp_path / "again") == rows_of(tmp_path)


def test_counts_of_another_text_tokenizer_are_not_taken(mix, tmp_path, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("other")
    other = train_text_tokenizer(["one two three"], folder=folder / "bpe", vocab_size=270)
    vocabulary = JointVocabulary(other, 20)
    write_counts(mix, vocabulary, more=5)
    make_plan(mix, vocabulary, tmp_path)
    lengths = [
        len(vocabulary.encode(frame(s.segments))[0]) for s in iter_samples(mix.folder, "train")
    ]
    assert sorted(row[-1] for row in rows_of(tmp_path)) == sorted(lengths)


def test_a_wrong_count_is_noticed_when_the_sample_is_read(mix, vocabulary, tmp_path) -> None:
    write_counts(mix, vocabulary, more=1)
    reader = make_reader(make_plan(mix, vocabulary, tmp_path), mix, vocabulary)
    with pytest.raises(CorruptArtefactError, match=r"tokens, but \d+ were counted .* build-mix"):
        next(reader)
    reader.close()


def test_a_plan_is_the_same_however_many_count(mix, vocabulary, tmp_path) -> None:
    for num_workers in (1, 2):
        make_plan(mix, vocabulary, tmp_path / str(num_workers), num_workers=num_workers)
    one, two = ((tmp_path / n / "packs-train.parquet").read_bytes() for n in "12")
    assert one == two


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


def test_a_damaged_byte_is_noticed(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    shard = mix.folder / "shards" / plan.shards[0]
    content = bytearray(shard.read_bytes())
    row = int(np.flatnonzero((plan.shard_N == 0) & (plan.units_offset_N > 0))[0])
    content[int(plan.units_offset_N[row]) + 128] ^= 1  # the first unit
    shard.write_bytes(content)
    reader = make_reader(plan, mix, vocabulary)
    with pytest.raises(CorruptArtefactError, match=f"{shard.name}: does not hold {plan.keys[row]}"):
        list(itertools.islice(reader, plan.num_packs))
    reader.close()


def contents(steps: list[list[PackedBatch]]) -> list:
    return [
        (b.pack_id, b.keys, b.lengths, b.inputs_S.tolist(), b.positions_K.tolist())
        for step in steps
        for b in step
    ]


@pytest.mark.parametrize("prefetch", [1, 9])
def test_batches_are_the_same_however_far_ahead_they_are_read(
    mix, vocabulary, tmp_path, prefetch: int
) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    readers = [
        make_reader(plan, mix, vocabulary, accumulation=2, prefetch=number)
        for number in (3, prefetch)
    ]
    one, other = (contents(take(reader, 20)) for reader in readers)
    assert one == other


def test_the_rows_of_packs_are_found_at_once(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    packs = epoch_order(plan.num_packs, seed=3, epoch=0)[:7]
    rows = [r for p in packs for r in range(plan.starts_P[p], plan.starts_P[p + 1])]
    assert plan.rows_of(packs).tolist() == rows
    assert plan.keys.take(plan.rows_of(packs)).to_pylist() == [plan.keys[row] for row in rows]
    assert list(plan.keys) == plan.keys[:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_for_a_gpu_lie_in_pinned_memory(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    ((batch,),) = take(make_reader(plan, mix, vocabulary, pin_memory=True), 1)
    assert batch.inputs_S.is_pinned() and batch.targets_K.is_pinned()
    batch.to(torch.device("cuda"), non_blocking=True)
    assert batch.inputs_S.is_cuda


def test_inputs_are_what_torch_expects(mix, vocabulary, tmp_path) -> None:
    plan = make_plan(mix, vocabulary, tmp_path)
    ((batch,),) = take(make_reader(plan, mix, vocabulary), 1)
    kinds = [batch.inputs_S, batch.positions_K, batch.targets_K, batch.groups_K]
    assert {str(tensor.dtype) for tensor in kinds} == {"torch.int64"}
    assert np.all(batch.inputs_S.numpy() < vocabulary.size)
