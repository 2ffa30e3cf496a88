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
    splits = split_sentences(np.stack([alone, alone], 1), valid=0.05, test=0.1, seed=0).splits_S
    assert np.mean(splits == VALID) == pytest.approx(0.05, abs=0.006)
    assert np.mean(splits == TEST) == pytest.approx(0.1, abs=0.006)


KEYS = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEYS, KEYS), max_size=60), st.randoms())
def test_linked_sentences_are_on_one_side_whatever_the_order_of_the_links(pairs, random):
    one = split_sentences(links(*pairs), valid=0.3, test=0.3, seed=1)
    if pairs:
        assert (one.of(links(*pairs)[:, 0]) == one.of(links(*pairs)[:, 1])).all()
    shuffled = [pair[::-1] for pair in pairs]
    random.shuffle(shuffled)
    two = split_sentences(links(*shuffled), valid=0.3, test=0.3, seed=1)
    assert one.sentences_S.tolist() == two.sentences_S.tolist()
    assert one.splits_S.tolist() == two.splits_S.tolist()


def test_a_group_that_is_too_large_is_trained_on():
    chain = [(i, i + 1) for i in range(30)]
    for seed in range(20):
        splits = split_sentences(links(*chain), valid=0.5, test=0.4, seed=seed)
        assert (splits.splits_S == TRAIN).all()
    short = [split_sentences(links(*chain[:5]), valid=0.5, test=0.4, seed=s) for s in range(20)]
    assert any((splits.splits_S != TRAIN).all() for splits in short)


def test_a_sentence_never_seen_and_an_empty_catalog_are_trained_on():
    none = split_sentences(links(), valid=0.5, test=0.4, seed=0)
    assert none.of(np.array([5], np.uint64)).tolist() == [TRAIN]
    some = split_sentences(links((1, 1)), valid=0.5, test=0.5, seed=0)
    assert some.of(np.array([0, 2, 2**64 - 1], np.uint64)).tolist() == [TRAIN] * 3


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
