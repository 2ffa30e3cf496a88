"""sentences and what links them → train, valid or test, the same for every task and every mix.

A sentence is the key of its normalised text. A translation links two sentences, a spoken dialogue
its turns, a `parallel_id` its dialogues. What hangs together goes to one side, so that no task
trains on a sentence that another is tested on.
"""

# E links, S sentences, N rows

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cslm_data.catalog import Connection, read_sql
from cslm_data.errors import UsageError
from cslm_data.keys import U64, mix64, mix64_added
from cslm_data.mixing.recipes import SplitRules
from cslm_data.records import SPLITS, Split

SplitIndex = NDArray[np.uint8]
"""Index into SPLITS."""

TRAIN, VALID, TEST = (np.uint8(SPLITS.index(split)) for split in SPLITS)

LARGEST_HELD_OUT = 20
LARGEST_HELD_OUT_SHARE = 0.02
"""A group of more sentences, and of more than this share of all, is always trained on."""


def make_sentence_splits(connection: Connection, rules: SplitRules) -> None:
    """Leave a table `sentence_splits` of the sentences that are held out, 1 (valid) or 2 (test)."""
    import pyarrow as pa

    if rules.by == "manifest":
        connection.execute(
            "create or replace temp table sentence_splits (sentence ubigint, split utinyint)"
        )
        return
    corpora = {
        "test_corpora": list(rules.held_out.test),
        "valid_corpora": list(rules.held_out.valid),
    }
    held = connection.execute(read_sql("mix_held_out"), corpora).fetchnumpy()
    links = connection.execute(read_sql("mix_links")).fetchnumpy()
    linked_S, splits_S = split_sentences(
        np.stack([np.asarray(links[end], np.uint64) for end in ("a", "b")], 1),
        valid=rules.valid,
        test=rules.test,
        seed=rules.seed,
        held_out=(np.asarray(held["sentence"], np.uint64), np.asarray(held["split"], np.uint8)),
    )
    connection.register("linked", pa.table({"sentence": linked_S, "split": splits_S}))
    values = {**corpora, "added": mix64_added(rules.seed), "valid": rules.valid, "test": rules.test}
    connection.execute(
        f"create or replace temp table sentence_splits as {read_sql('mix_sentence_splits')}", values
    )
    connection.unregister("linked")


def require_corpora(connection: Connection, rules: SplitRules) -> None:
    """Raise UsageError for a corpus to hold out that there is not."""
    names = {*rules.held_out.valid, *rules.held_out.test}
    if not names:
        return
    there = {row[0] for row in connection.execute("select corpus from corpora").fetchall()}
    if names - there:
        raise UsageError(
            f"recipe: splits.held_out: no corpus {', '.join(sorted(names - there))}; there are "
            f"{', '.join(sorted(there))}"
        )


def split_sentences(
    links_E2: U64,
    *,
    valid: float,
    test: float,
    seed: int,
    held_out: tuple[U64, SplitIndex] | None = None,
) -> tuple[U64, SplitIndex]:
    """Split sentences by the hash of the group they hang together with: uint64 (E, 2) links.

    The keys, rising, and the split of each: uint64 (S,), uint8 (S,). The hash is of the group's
    smallest key, so the order of the links does not matter. A group with a sentence of `held_out`,
    some keys and their splits, goes there whole; test comes before valid.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sentences_S, ends = np.unique(links_E2, return_inverse=True)
    if len(sentences_S) == 0:
        return sentences_S, np.zeros(0, np.uint8)
    ends_E2 = ends.reshape(-1, 2).astype(np.int32)
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
    if held_out is not None:
        keys, held_splits = held_out
        found = np.minimum(np.searchsorted(sentences_S, keys), len(sentences_S) - 1)
        known = sentences_S[found] == keys
        np.maximum.at(splits, groups_S[found[known]], held_splits[known])
    return sentences_S, splits[groups_S].astype(np.uint8)


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
