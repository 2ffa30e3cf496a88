"""sentences and what links them → train, valid or test, the same for every task and every mix.

A sentence is the key of its normalised text. A translation links two sentences, a spoken dialogue
its turns, a `parallel_id` its dialogues. What hangs together goes to one side, so that no task
trains on a sentence that another is tested on.
"""

# E links, S sentences, N rows

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.keys import U64, mix64
from cslm_data.records import SPLITS, Split

SplitIndex = NDArray[np.uint8]
"""Index into SPLITS."""

TRAIN, VALID, TEST = (np.uint8(SPLITS.index(split)) for split in SPLITS)

LARGEST_HELD_OUT = 20
LARGEST_HELD_OUT_SHARE = 0.02
"""A group of more sentences, and of more than this share of all, is always trained on."""


@dataclass(frozen=True, kw_only=True)
class SentenceSplits:
    """The split of each sentence."""

    sentences_S: U64
    """Keys, rising."""
    splits_S: SplitIndex

    def of(self, sentences_N: U64) -> SplitIndex:
        """Split of some sentences: uint64 (N,) → uint8 (N,). An unknown one is trained on."""
        if len(self.sentences_S) == 0:
            return np.full(len(sentences_N), TRAIN, np.uint8)
        found = np.searchsorted(self.sentences_S, sentences_N)
        found = np.minimum(found, len(self.sentences_S) - 1)
        known = self.sentences_S[found] == sentences_N
        return np.where(known, self.splits_S[found], TRAIN).astype(np.uint8)


def split_sentences(links_E2: U64, *, valid: float, test: float, seed: int) -> SentenceSplits:
    """Split sentences by the hash of the group they hang together with: uint64 (E, 2) links.

    A sentence with no link is a link to itself. The hash is of the group's smallest key, so the
    order of the links does not matter.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sentences_S, ends = np.unique(links_E2, return_inverse=True)
    if len(sentences_S) == 0:
        return SentenceSplits(sentences_S=sentences_S, splits_S=np.zeros(0, np.uint8))
    ends_E2 = ends.reshape(-1, 2)
    graph = coo_array(
        (np.ones(len(ends_E2), np.bool_), (ends_E2[:, 0], ends_E2[:, 1])),
        shape=(len(sentences_S), len(sentences_S)),
    )
    num_groups, groups_S = connected_components(graph, directed=False)
    # Keys rise, so the first of a group is its smallest.
    smallest = sentences_S[np.unique(groups_S, return_index=True)[1]]
    draws = mix64(smallest, seed) / np.float64(2**64)
    splits = np.where(draws < test, TEST, np.where(draws < test + valid, VALID, TRAIN))
    largest = max(LARGEST_HELD_OUT, LARGEST_HELD_OUT_SHARE * len(sentences_S))
    splits[np.bincount(groups_S, minlength=num_groups) > largest] = TRAIN
    return SentenceSplits(sentences_S=sentences_S, splits_S=splits[groups_S].astype(np.uint8))


def manifest_split(names: list[str | None]) -> Split:
    """The split that a corpus gives its rows, the strictest where a sample has several rows.

    `dev…`, `val…` are valid, `test…`, `eval…` are test, anything else is train.
    """
    found: Split = "train"
    for name in names:
        folded = (name or "").casefold()
        if folded.startswith(("test", "eval")):
            return "test"
        if folded.startswith(("dev", "val")):
            found = "valid"
    return found
