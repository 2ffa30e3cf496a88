"""Shards + pack plan → packed batches, as a fairseq2 DataReader.

Step 1. `pack_plan` has measured every sample once and said which samples make which pack.
Step 2. An epoch is a keyed permutation of the packs. Step s on rank r of W with accumulation A
        reads `permutation[((s-1)·A + a)·W + r]`; where an epoch ends inside a step the next one
        begins, so no pack is left out and steps never run out.
Step 3. A background thread finds the samples of the next steps in the memory-mapped shards, frames
        them and encodes them.
Step 4. A batch is one pack: inputs are the tokens of each document but its last, targets those but
        its first, and the loss counts the targets that are trained.

The whole state is (epoch, position), equal on every rank.
"""

# S positions of a pack, K trained targets

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
from cslm_data.framing import frame
from cslm_data.records import Segment
from cslm_data.shards import ShardFile
from cslm_train.packing.assign import Cursor, Integers, epoch_order
from cslm_train.packing.plan import PackPlan
from cslm_train.vocabulary import JointVocabulary

_OPEN_SHARDS = 64


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
    """Samples of the documents."""

    @property
    def layout(self) -> BatchLayout:
        """Where the documents begin and end."""
        return BatchLayout.of(self.inputs_S, self.lengths, packed=True)

    def to(self, device: Device, *, non_blocking: bool = False) -> None:
        """Move the tensors."""
        for name in ("inputs_S", "positions_K", "targets_K", "groups_K"):
            setattr(self, name, getattr(self, name).to(device, non_blocking=non_blocking))


class ShardReader(DataReader[PackedBatch]):
    """Packs in a keyed order without end, or, without a seed, each once in the order of the mix.

    In a single pass, ranks that have no pack left in the last step read one again with nothing of
    it trained, so that every rank takes as many steps.
    """

    def __init__(
        self,
        plan: PackPlan,
        shards_dir: Path,
        vocabulary: JointVocabulary,
        *,
        groups: Sequence[str],
        seed: int | None,
        rank: int = 0,
        num_ranks: int = 1,
        accumulation: int = 1,
        prefetch: int = 2,
    ) -> None:
        self._plan = plan
        self._vocabulary = vocabulary
        self._groups = {group: number for number, group in enumerate(groups)}
        self._seed = seed
        self._rank = rank
        self._num_ranks = num_ranks
        self._accumulation = accumulation
        self._open = lru_cache(_OPEN_SHARDS)(
            lambda shard: ShardFile(shards_dir / plan.shards[shard])
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
        return epoch_order(self._plan.num_packs, seed=self._seed, epoch=epoch)

    def _read_step(self, cursor: Cursor) -> list[PackedBatch]:
        batches = []
        for micro_batch in range(self._accumulation):
            offset = micro_batch * self._num_ranks + self._rank
            place = cursor.advance(offset, self._plan.num_packs)
            pack = int(self._order(place.epoch)[place.position])
            batches.append(self._read_pack(pack, idle=self._ended(place)))
        return batches

    def _read_pack(self, pack: int, *, idle: bool) -> PackedBatch:
        plan = self._plan
        rows = range(int(plan.starts_P[pack]), int(plan.starts_P[pack + 1]))
        framing = self._vocabulary.framing
        encoded = self._vocabulary.encode_batch([frame(self._sample(row), framing) for row in rows])
        trained_S = np.concatenate([trained[1:] for _, trained in encoded])
        lengths = [len(ids) - 1 for ids, _ in encoded]
        positions_K = np.flatnonzero(trained_S & (not idle))
        targets_S = np.concatenate([ids[1:] for ids, _ in encoded])
        groups_S = np.repeat([self._groups[plan.groups[row]] for row in rows], lengths)
        inputs_S = np.concatenate([ids[:-1] for ids, _ in encoded])
        return PackedBatch(
            inputs_S=torch.from_numpy(inputs_S.astype(np.int64)),
            lengths=lengths,
            positions_K=torch.from_numpy(positions_K),
            targets_K=torch.from_numpy(targets_S[positions_K].astype(np.int64)),
            groups_K=torch.from_numpy(groups_S[positions_K]),
            pack_id=pack,
            keys=tuple(plan.keys[row] for row in rows),
        )

    def _sample(self, row: int) -> tuple[Segment, ...]:
        plan = self._plan
        file = self._open(int(plan.shard_N[row]))
        sample = file.sample(int(plan.index_N[row]))
        if sample.key != plan.keys[row]:
            raise CorruptArtefactError(
                f"{file.path}: holds {sample.key} where the plan has {plan.keys[row]}; the mix "
                "was built again under a running training; start the training again"
            )
        return sample.segments
