"""Shards + pack plan → packed batches, as a fairseq2 DataReader.

Step 1. `planning` has measured every sample once and said which samples make which pack.
Step 2. An epoch is a keyed permutation of the packs. Step s on rank r of W with accumulation A
        reads `permutation[((s-1)·A + a)·W + r]`; where an epoch ends inside a step the next one
        begins, so no pack is left out and steps never run out.
Step 3. A background thread finds the samples of the next steps in the memory-mapped shards, checks
        their bytes against the plan, frames them and encodes them, all texts of a step at once.
        Shards from afar are fetched some steps earlier still.
Step 4. A batch is one pack: inputs are the tokens of each document but its last, targets those but
        its first, and the loss counts the targets that are trained.

The whole state is (epoch, position), equal on every rank.
"""

# S positions of a pack, K trained targets, R rows of a step, T tokens of their samples

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from fairseq2.datasets import DataReader
from fairseq2.device import Device, SupportsDeviceTransfer
from fairseq2.nn import BatchLayout
from torch import Tensor

from cslm_data.errors import CorruptArtefactError
from cslm_data.records import Sample
from cslm_train.packing.assign import Cursor, Integers, epoch_order
from cslm_train.packing.encoding import SampleEncoder
from cslm_train.packing.plan import PackPlan
from cslm_train.packing.shard_store import LocalShards, ShardStore
from cslm_train.vocabulary import Flags, Ids, JointVocabulary

_OPEN_SHARDS = 64
_OPEN_FETCHED = 4
"""Fewer of those from afar: an open one takes room on the disk when long out of the cache."""
_FETCHED_AHEAD = 16
"""Steps whose shards are fetched before the steps after them are read."""
_TENSORS = ("inputs_S", "positions_K", "targets_K", "groups_K")


@dataclass(kw_only=True, eq=False)
class PackedBatch(SupportsDeviceTransfer):
    """One pack: documents one after the other, and what of them the loss counts."""

    inputs_S: Tensor
    """Tokens, int64."""
    lengths: list[int]
    """Positions of each document."""
    positions_K: Tensor
    """Where a trained target is predicted, int64."""
    targets_K: Tensor
    """The trained targets, int64."""
    groups_K: Tensor
    """Which of the reader's groups each belongs to, int64."""
    pack_id: int
    keys: tuple[str, ...]
    """Samples of the documents; a document may be a part of one."""

    @property
    def layout(self) -> BatchLayout:
        """Where the documents begin and end."""
        return BatchLayout.of(self.inputs_S, self.lengths, packed=True)

    def to(self, device: Device, *, non_blocking: bool = False) -> None:
        """Move the tensors."""
        for name in _TENSORS:
            setattr(self, name, getattr(self, name).to(device, non_blocking=non_blocking))

    def pin_memory(self) -> None:
        """Move the tensors to where a GPU can copy them from while it computes."""
        for name in _TENSORS:
            setattr(self, name, getattr(self, name).pin_memory())


class ShardReader(DataReader[PackedBatch]):
    """Packs in a keyed order without end, or, without a seed, each once in the order of the mix.

    In a single pass, ranks that have no pack left in the last step read one again with nothing of
    it trained, so that every rank takes as many steps.
    """

    def __init__(
        self,
        plan: PackPlan,
        shards: Path | ShardStore,
        vocabulary: JointVocabulary,
        *,
        groups: Sequence[str],
        seed: int | None,
        shuffle_packs: int | None = None,
        rank: int = 0,
        num_ranks: int = 1,
        accumulation: int = 1,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self._plan = plan
        self._encoder = SampleEncoder(vocabulary)
        numbers = {group: number for number, group in enumerate(groups)}
        self._group_numbers = np.array([numbers[group] for group in plan.groups], np.int64)
        self._seed = seed
        self._shuffle_packs = shuffle_packs
        self._rank = rank
        self._num_ranks = num_ranks
        self._accumulation = accumulation
        self._pin_memory = pin_memory
        self._store = LocalShards(shards) if isinstance(shards, Path) else shards
        local = isinstance(self._store, LocalShards)
        self._open = lru_cache(_OPEN_SHARDS if local else _OPEN_FETCHED)(
            lambda shard: self._store.open(plan.shards[shard])
        )
        self._order = lru_cache(2)(self._order_of)
        self._prefetch = prefetch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shard-reader")
        self._ahead: deque[Future[list[PackedBatch]]] = deque()
        self._next = self._planned = Cursor()

    @property
    def cursor(self) -> Cursor:
        """Where the next step begins."""
        return self._next

    @property
    def num_accumulate(self) -> int:
        """Batches of a step."""
        return self._accumulation

    def __iter__(self) -> ShardReader:
        return self

    def __next__(self) -> list[PackedBatch]:
        """The batches of this rank's next step."""
        while len(self._ahead) <= self._prefetch and not self._ended(self._planned):
            self._ahead.append(self._thread.submit(self._read_step, self._planned))
            self._planned = self._advance(self._planned)
        if not self._ahead:
            raise StopIteration
        batches = self._ahead.popleft().result()
        self._next = self._advance(self._next)
        return batches

    def reset(self) -> None:
        """Begin again; fairseq2 calls it where data ends, which only a single pass does."""
        self._go_to(Cursor())

    def state_dict(self) -> dict[str, object]:
        """The cursor: what comes after the last step that was handed out."""
        return {"epoch": self._next.epoch, "position": self._next.position}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Go on from a cursor."""
        epoch, position = state_dict["epoch"], state_dict["position"]
        if not isinstance(epoch, int) or not isinstance(position, int):
            raise TypeError("the state of a reader is two integers, epoch and position")
        self._go_to(Cursor(epoch, position))

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(cancel_futures=True)
        self._store.close()

    def _go_to(self, cursor: Cursor) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._next = self._planned = cursor

    def _advance(self, cursor: Cursor) -> Cursor:
        return cursor.advance(self._num_ranks * self._accumulation, self._plan.num_packs)

    def _ended(self, cursor: Cursor) -> bool:
        return self._seed is None and (cursor.epoch > 0 or self._plan.num_packs == 0)

    def _order_of(self, epoch: int) -> Integers:
        if self._seed is None:
            return np.arange(self._plan.num_packs)
        return epoch_order(
            self._plan.num_packs, seed=self._seed, epoch=epoch, shuffle_packs=self._shuffle_packs
        )

    def _packs_of(self, cursor: Cursor) -> list[tuple[int, bool]]:
        """What a step of this rank reads, and whether only to keep step with other ranks."""
        packs = []
        for micro_batch in range(self._accumulation):
            offset = micro_batch * self._num_ranks + self._rank
            place = cursor.advance(offset, self._plan.num_packs)
            packs.append((int(self._order(place.epoch)[place.position]), self._ended(place)))
        return packs

    def _fetch_ahead(self, cursor: Cursor) -> None:
        """Have the shards of a step and of those after it on their way."""
        plan, shards = self._plan, []
        for _ in range(_FETCHED_AHEAD):
            if self._ended(cursor):
                break
            for pack, _ in self._packs_of(cursor):
                shards += plan.shard_N[plan.starts_P[pack] : plan.starts_P[pack + 1]].tolist()
            cursor = self._advance(cursor)
        self._store.fetch_ahead(plan.shards[shard] for shard in dict.fromkeys(shards))

    def _read_step(self, cursor: Cursor) -> list[PackedBatch]:
        packs = self._packs_of(cursor)
        if not isinstance(self._store, LocalShards):
            self._fetch_ahead(cursor)
        starts_P = self._plan.starts_P
        rows = [range(int(starts_P[pack]), int(starts_P[pack + 1])) for pack, _ in packs]
        samples = [[self._sample(row) for row in of_pack] for of_pack in rows]
        encoded = self._encode(
            [row for of_pack in rows for row in of_pack],
            [sample for of_pack in samples for sample in of_pack],
        )
        batches = []
        for (pack, idle), of_pack, of_rows in zip(packs, samples, rows, strict=True):
            mine, encoded = _cut(encoded, len(of_pack))
            keys = tuple(sample.key for sample in of_pack)
            batch = self._make_batch(pack, of_rows, keys, *mine, idle=idle)
            if self._pin_memory:
                batch.pin_memory()
            batches.append(batch)
        return batches

    def _sample(self, row: int) -> Sample:
        plan = self._plan
        shard = self._open(int(plan.shard_N[row]))
        place = (
            int(plan.json_offset_N[row]),
            int(plan.json_bytes_N[row]),
            int(plan.units_offset_N[row]),
            int(plan.units_bytes_N[row]),
        )
        if shard.checksum(*place) != int(plan.checksum_N[row]):
            raise CorruptArtefactError(
                f"{shard.path}: does not hold {plan.keys[row]} where the plan has it; the file is "
                "damaged (see: cslm-data verify MIX), or the mix was built again under a running "
                "training; start the training again"
            )
        return shard.sample(shard.key(place[0]), *place)

    def _encode(self, rows: list[int], samples: list[Sample]) -> _Encoded:
        """Whole samples encoded, and found to be as long as planned."""
        encoded = self._encoder.encode([sample.segments for sample in samples])
        planned_R = self._plan.sample_tokens_N[rows]
        wrong = np.flatnonzero(encoded[2] != planned_R)
        if len(wrong):
            place = int(wrong[0])
            raise CorruptArtefactError(
                f"{self._plan.shards[self._plan.shard_N[rows[place]]]}: {samples[place].key} has "
                f"{encoded[2][place]} tokens, but {planned_R[place]} were counted when the mix was "
                "built (mix.parquet); build the mix again: cslm-data build-mix --overwrite"
            )
        return encoded

    def _make_batch(
        self,
        pack: int,
        rows: range,
        keys: tuple[str, ...],
        ids_T: Ids,
        trained_T: Flags,
        tokens_R: Integers,
        *,
        idle: bool,
    ) -> PackedBatch:
        plan, chosen = self._plan, slice(rows.start, rows.stop)
        lengths_R = plan.num_tokens_N[chosen].astype(np.int64) - 1
        firsts_R = np.cumsum(tokens_R) - tokens_R + plan.first_N[chosen]
        # A place in the pack is so much further in T: last tokens and other parts are not read.
        shifts_R = firsts_R - (np.cumsum(lengths_R) - lengths_R)
        places_S = np.arange(int(lengths_R.sum())) + np.repeat(shifts_R, lengths_R)
        positions_K = np.flatnonzero(trained_T[places_S + 1] & (not idle))
        groups_S = np.repeat(self._group_numbers[plan.group_N[chosen]], lengths_R)
        return PackedBatch(
            inputs_S=torch.from_numpy(ids_T[places_S].astype(np.int64)),
            lengths=lengths_R.tolist(),
            positions_K=torch.from_numpy(positions_K),
            targets_K=torch.from_numpy(ids_T[places_S[positions_K] + 1].astype(np.int64)),
            groups_K=torch.from_numpy(groups_S[positions_K]),
            pack_id=pack,
            keys=keys,
        )


_Encoded = tuple[Ids, Flags, Integers]
"""Ids int32 (T,) and flags (T,) of samples one after the other, and their lengths (R,)."""


def _cut(encoded: _Encoded, num_samples: int) -> tuple[_Encoded, _Encoded]:
    """The first samples, and the others."""
    ids_T, trained_T, tokens_R = encoded
    stop = int(tokens_R[:num_samples].sum())
    first = ids_T[:stop], trained_T[:stop], tokens_R[:num_samples]
    return first, (ids_T[stop:], trained_T[stop:], tokens_R[num_samples:])
