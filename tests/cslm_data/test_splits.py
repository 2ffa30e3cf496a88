from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cslm_data.mixing.splits import TEST, TRAIN, VALID, manifest_split, split_sentences


def links(*pairs):
    return np.array(pairs, np.uint64).reshape(-1, 2)


def test_shares_are_near_what_was_asked_for():
    alone = np.arange(20_000, dtype=np.uint64)
    _, splits = split_sentences(np.stack([alone, alone], 1), valid=0.05, test=0.1, seed=0)
    assert np.mean(splits == VALID) == pytest.approx(0.05, abs=0.006)
    assert np.mean(splits == TEST) == pytest.approx(0.1, abs=0.006)


KEYS = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEYS, KEYS), max_size=60), st.randoms())
def test_linked_sentences_are_on_one_side_whatever_the_order_of_the_links(pairs, random):
    keys, splits = split_sentences(links(*pairs), valid=0.3, test=0.3, seed=1)
    side = dict(zip(keys.tolist(), splits.tolist(), strict=True))
    assert all(side[a] == side[b] for a, b in pairs)
    shuffled = [pair[::-1] for pair in pairs]
    random.shuffle(shuffled)
    others, again = split_sentences(links(*shuffled), valid=0.3, test=0.3, seed=1)
    assert (keys.tolist(), splits.tolist()) == (others.tolist(), again.tolist())


def test_a_group_that_is_too_large_is_trained_on():
    chain = [(i, i + 1) for i in range(30)]
    for seed in range(20):
        _, splits = split_sentences(links(*chain), valid=0.5, test=0.4, seed=seed)
        assert (splits == TRAIN).all()
    short = [split_sentences(links(*chain[:5]), valid=0.5, test=0.4, seed=s)[1] for s in range(20)]
    assert any((splits != TRAIN).all() for splits in short)


def test_a_held_out_sentence_takes_all_it_hangs_together_with():
    chain = [(1, 2), (2, 3), (8, 9), (20, 21)]
    held = (np.array([3, 9, 500], np.uint64), np.array([2, 1, 2], np.uint8))
    keys, splits = split_sentences(links(*chain), valid=0, test=0, seed=0, held_out=held)
    assert dict(zip(keys.tolist(), splits.tolist(), strict=True)) == {
        1: TEST,
        2: TEST,
        3: TEST,
        8: VALID,
        9: VALID,
        20: TRAIN,
        21: TRAIN,
    }


def test_without_a_link_there_is_nothing_to_split():
    keys, splits = split_sentences(links(), valid=0.5, test=0.4, seed=0)
    assert len(keys) == len(splits) == 0


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ([None], "train"),
        (["train-clean-100"], "train"),
        (["dev"], "valid"),
        (["validation"], "valid"),
        (["test-other"], "test"),
        (["train", "dev"], "valid"),
        (["dev", "TEST"], "test"),
    ],
)
def test_the_corpus_names_its_splits_in_its_own_way(names, split):
    assert manifest_split(names) == split
