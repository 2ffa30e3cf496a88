"""Packs hold whole samples, fill up, and come in an order that only keys decide."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cslm_data.keys import keyed_rng
from cslm_train.packing import plan_file
from cslm_train.packing.assign import SKIPPED, Cursor, assign_packs, epoch_order, place_in_step
from cslm_train.packing.plan_file import _SCHEMA, _in_order_of_packs
from cslm_train.packing.too_long import parts_of

LENGTHS = st.lists(st.integers(1, 40), max_size=200)


def pack(lengths: list[int], *, pack_length: int = 32, window: int = 16) -> np.ndarray:
    return assign_packs(np.array(lengths, np.int64), pack_length=pack_length, window=window)


def test_samples_go_where_they_fit_best() -> None:
    # Longest first: 6 | 5 | 4 into 6 | 4 into 5 | 1 into 5+4.
    assert pack([4, 6, 1, 5, 4], pack_length=10).tolist() == [0, 0, 1, 1, 1]


def test_a_sample_longer_than_a_pack_is_skipped() -> None:
    assert pack([33, 32, 40, 1]).tolist() == [SKIPPED, 0, SKIPPED, 1]


def test_a_sample_without_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack([3, 0])


@given(LENGTHS, st.integers(1, 50))
def test_every_sample_is_in_one_pack_that_is_not_overfull(lengths: list[int], window: int) -> None:
    packs = pack(lengths, window=window)
    assert [p == SKIPPED for p in packs] == [length > 32 for length in lengths]
    used = sorted(set(packs.tolist()) - {SKIPPED})
    assert used == list(range(len(used)))
    for number in used:
        assert sum(np.array(lengths)[packs == number]) <= 32


@given(LENGTHS, st.integers(1, 50))
def test_packs_hold_neighbours_and_are_numbered_by_their_first(
    lengths: list[int], window: int
) -> None:
    packs = pack(lengths, window=window)
    firsts = []
    for number in sorted(set(packs.tolist()) - {SKIPPED}):
        members = np.flatnonzero(packs == number)
        firsts.append(members[0])
        assert members[-1] // window - members[0] // window <= 1
    assert firsts == sorted(firsts)


@given(LENGTHS, st.integers(1, 50))
def test_rows_are_written_pack_after_pack_however_they_come(
    lengths: list[int], per_table: int
) -> None:
    packs = pack([min(length, 32) for length in lengths])
    rows = pa.table(
        [np.arange(len(packs)) if name == "first" else [None] * len(packs) for name in NAMES],
        schema=_SCHEMA,
    )
    tables = (rows.slice(start, per_table) for start in range(0, len(packs), per_table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_file, "_ROWS_AT_A_TIME", 20)
        written = pa.concat_tables(
            [_SCHEMA.empty_table(), *_in_order_of_packs(iter(tables), packs)]
        )
    expected = sorted(range(len(packs)), key=lambda row: (packs[row], row))
    assert written["first"].to_pylist() == expected
    assert written["pack_id"].to_pylist() == sorted(packs.tolist())


NAMES = _SCHEMA.names


@given(LENGTHS, LENGTHS)
def test_later_samples_leave_finished_packs_as_they_are(
    lengths: list[int], more: list[int]
) -> None:
    window = 16
    whole = len(lengths) // window * window
    settled = max(0, whole - window)  # the last whole window's packs are still open
    before, after = pack(lengths[:whole]), pack([*lengths[:whole], *more])
    assert before[:settled].tolist() == after[:settled].tolist()


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(1, 70))
def test_a_long_sample_is_split_where_a_pack_is_full(trained: list[bool], length: int) -> None:
    flags = np.array(trained)
    parts = parts_of(flags, pack_length=length, too_long="split")
    # A position is predicted from the one before it: position p of the inputs has target p + 1.
    wanted = [
        (first, min(length, len(trained) - 1 - first))
        for first in range(0, len(trained) - 1, length)
    ]
    assert [p for p in wanted if any(trained[p[0] + 1 : sum(p) + 1])] == parts
    read = [p for first, number in parts for p in range(first, first + number)]
    assert len(read) == len(set(read))
    assert {p for p in range(len(trained) - 1) if trained[p + 1]} <= set(read)
    assert parts_of(flags, pack_length=length, too_long="skip") == []
    assert parts_of(flags, pack_length=length, too_long="cut") == [p for p in parts if p[0] == 0]


def test_packs_of_realistic_lengths_are_full() -> None:
    lengths = keyed_rng(1, "lengths").lognormal(5.0, 0.8, size=20_000).astype(np.int64) + 1
    packs = assign_packs(lengths, pack_length=4096, window=1024)
    kept = lengths[packs != SKIPPED]
    assert kept.sum() / ((packs.max() + 1) * 4096) > 0.99


@given(st.integers(0, 100), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_reads_every_pack_once(num_packs: int, seed: int, epoch: int) -> None:
    order = epoch_order(num_packs, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(num_packs))


@given(st.integers(0, 100), st.integers(0, 5), st.integers(0, 120))
def test_an_epoch_shuffled_in_windows_reads_every_pack_once(
    num_packs: int, epoch: int, shuffle_packs: int
) -> None:
    order = epoch_order(num_packs, seed=1, epoch=epoch, shuffle_packs=shuffle_packs)
    assert sorted(order.tolist()) == list(range(num_packs))


def test_a_stretch_of_a_windowed_epoch_comes_from_few_blocks_and_is_shuffled() -> None:
    """Of 10,000 packs, 80 shuffled at a time: eight blocks of ten neighbours in each stretch."""
    order = epoch_order(10_000, seed=1, epoch=0, shuffle_packs=80)
    stretches = order.reshape(-1, 80)
    assert all(len(set((stretch // 10).tolist())) == 8 for stretch in stretches)
    assert not any((np.diff(stretch) == 1).all() for stretch in stretches)
    first_blocks = [int(stretch.min()) // 10 for stretch in stretches]
    assert first_blocks != sorted(first_blocks)
    again = epoch_order(10_000, seed=1, epoch=1, shuffle_packs=80)
    assert order.tolist() != again.tolist()


def test_a_mix_with_a_curriculum_can_be_read_as_it_is() -> None:
    order = epoch_order(7, seed=1, epoch=3, shuffle_packs=0)
    assert order.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {
        tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9
    assert tuple(epoch_order(50, seed=1, epoch=2)) in orders


@given(st.integers(1, 20), st.lists(st.integers(0, 50), max_size=10))
def test_advancing_in_parts_arrives_where_one_leap_does(num_packs: int, counts: list[int]) -> None:
    cursor = Cursor()
    for count in counts:
        cursor = cursor.advance(count, num_packs)
    assert cursor == Cursor().advance(sum(counts), num_packs)
    assert cursor.epoch * num_packs + cursor.position == sum(counts)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.data())
def test_the_place_in_a_step_inverts_the_formula(
    num_ranks: int, accumulation: int, step: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, num_ranks - 1))
    micro = data.draw(st.integers(0, accumulation - 1))
    index = np.array([((step - 1) * accumulation + micro) * num_ranks + rank])
    place = place_in_step(index, num_ranks=num_ranks, accumulation=accumulation)
    assert [int(part[0]) for part in place] == [step, rank, micro]
