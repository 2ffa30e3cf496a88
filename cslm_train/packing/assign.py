"""Lengths in the order of a mix → packs, and packs → the order of an epoch. Pure functions.

A pack is a set of whole samples that are neighbours in the mix and together nearly fill a length.
Everything follows from the lengths, a seed and a number, so a plan made anywhere is the same plan.
"""

# N samples, W samples of a window, P packs

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.keys import key64, mix64

Integers = NDArray[np.int64]

_BLOCKS = 8

SKIPPED = -1
"""Pack of a sample that is longer than a pack: left out, and counted by the caller."""


def assign_packs(lengths_N: Integers, *, pack_length: int, window: int) -> Integers:
    """The pack of each sample: int64 (N,), SKIPPED where the sample is longer than `pack_length`.

    `window` samples at a time, the longest first, each go into the open pack that they fill best.
    A pack stays open for the window it began in and the next. Packs are numbered by their first
    sample.
    """
    if len(lengths_N) and lengths_N.min() < 1:
        raise ValueError("a sample needs at least one token")
    packs_N = np.full(len(lengths_N), SKIPPED, np.int64)
    open_packs: list[tuple[int, int]] = []  # (room left, pack), sorted
    num_packs = num_old = 0
    for start in range(0, len(lengths_N), window):
        open_packs = [entry for entry in open_packs if entry[1] >= num_old]
        num_old = num_packs
        lengths_W = lengths_N[start : start + window]
        longest_first_W = np.argsort(-lengths_W, kind="stable")
        packs = []
        for length in lengths_W[longest_first_W].tolist():
            if length > pack_length:
                packs.append(SKIPPED)
                continue
            best = bisect_left(open_packs, (length, -1))
            if best < len(open_packs):
                room, pack = open_packs.pop(best)
            else:
                room, pack = pack_length, num_packs
                num_packs += 1
            packs.append(pack)
            if room > length:
                insort(open_packs, (room - length, pack))
        packs_N[start + longest_first_W] = packs
    return _number_by_first(packs_N)


def _number_by_first(packs_N: Integers) -> Integers:
    """The same packs, numbered in the order of their first samples."""
    first_P = np.zeros(int(packs_N.max(initial=SKIPPED)) + 1, np.int64)
    kept_N = packs_N != SKIPPED
    # Of those that go to one place the last one stays, which from the end is the first.
    first_P[packs_N[kept_N][::-1]] = np.flatnonzero(kept_N)[::-1]
    rank_P = np.empty(len(first_P), np.int64)
    rank_P[np.argsort(first_P)] = np.arange(len(first_P))
    numbered_N = packs_N.copy()
    numbered_N[kept_N] = rank_P[packs_N[kept_N]]
    return numbered_N


def epoch_order(
    num_packs: int, *, seed: int, epoch: int, shuffle_packs: int | None = None
) -> Integers:
    """The packs in the order in which an epoch reads them: a permutation, int64 (P,).

    `shuffle_packs` None: any pack may follow any other; 0: as the mix has them. Else blocks of
    neighbouring packs, an eighth of that many, follow one another in keyed order, and so many packs
    are shuffled among each other at a time, so that a stretch of steps reads few shards.
    """
    if shuffle_packs == 0:
        return np.arange(num_packs)
    keys_P = mix64(np.arange(num_packs, dtype=np.uint64), key64("epoch", str(seed), str(epoch)))
    if shuffle_packs is None or shuffle_packs >= num_packs:
        return np.argsort(keys_P, kind="stable")
    blocks_P = np.arange(num_packs) // max(1, shuffle_packs // _BLOCKS)
    block_keys = mix64(
        np.arange(blocks_P[-1] + 1, dtype=np.uint64), key64("blocks", str(seed), str(epoch))
    )
    by_block_P = np.argsort(block_keys[blocks_P], kind="stable")
    windows_P = np.arange(num_packs) // shuffle_packs
    return by_block_P[np.lexsort((keys_P[by_block_P], windows_P))]


class Cursor(NamedTuple):
    """Everything a reader has to remember: the next pack is `epoch_order(…, epoch)[position]`."""

    epoch: int = 0
    position: int = 0

    def advance(self, count: int, num_packs: int) -> Cursor:
        """The cursor `count` packs later; the next epoch begins where one ends."""
        epochs, position = divmod(self.position + count, num_packs)
        return Cursor(self.epoch + epochs, position)


def place_in_step(index: Integers, *, num_ranks: int, accumulation: int) -> tuple[Integers, ...]:
    """Step (from 1), rank and micro-batch that read the pack at an index from the run's start.

    Step s on rank r of W reads index ((s-1)·A + a)·W + r as its micro-batch a of A.
    """
    per_step = num_ranks * accumulation
    return index // per_step + 1, index % num_ranks, index % per_step // num_ranks
