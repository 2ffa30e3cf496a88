"""mixes/<name>/shards + vocabulary → runs/<run>/packs-<split>.parquet, and the plan that it holds.

The plan says which samples make which pack and where their bytes lie. It is made once for a mix, a
vocabulary and a pack length, and with a seed it says what any step of a run reads, before and after
it is read. What is in no pack, or only in parts, lies beside it: rejects-<split>.parquet and
too-long-<split>.parquet.
"""

# N rows of the plan: samples, or parts of samples longer than a pack; P packs

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cslm_data.errors import NoDataError
from cslm_data.keys import content_id
from cslm_data.shards import MixInfo
from cslm_train.packing.assign import Integers
from cslm_train.packing.plan_file import HEAD, write_plan
from cslm_train.packing.shard_store import ShardStore, open_store
from cslm_train.packing.too_long import TooLong
from cslm_train.vocabulary import JointVocabulary

_PLAN_VERSION = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class PackPlan:
    """The packs of a split: pack p holds the rows `starts_P[p]` to `starts_P[p + 1]`.

    Some fifty bytes a row are held in memory; keys are read when they are asked for.
    """

    split: str
    pack_length: int
    starts_P: Integers
    """First row of each pack, and the number of rows: int64 (P + 1,)."""
    shards: tuple[str, ...]
    shard_N: NDArray[np.int32]
    """Which of `shards` holds a sample."""
    json_offset_N: NDArray[np.uint64]
    json_bytes_N: NDArray[np.uint32]
    units_offset_N: NDArray[np.uint64]
    """0 where a sample has no units."""
    units_bytes_N: NDArray[np.uint32]
    checksum_N: NDArray[np.uint64]
    """Of the sample's bytes, as the shard's index has it."""
    first_N: NDArray[np.uint32]
    """First token of the sample that is in the pack: above 0 in later parts of a long one."""
    num_tokens_N: NDArray[np.int32]
    """Tokens from there on; the last is only ever a target, and begins the next part."""
    sample_tokens_N: NDArray[np.int32]
    """Tokens of the whole sample."""
    group_N: NDArray[np.int32]
    """Which of `groups` a sample belongs to."""
    groups: tuple[str, ...]
    """Task and languages, `asr/en`, of all samples, in order."""
    keys: Keys
    num_skipped: int
    """Samples that are in no pack, because they are too long or nothing of them is trained."""
    num_split: int
    """Samples longer than a pack that are in packs as their first part or in several."""

    @property
    def num_packs(self) -> int:
        """P."""
        return len(self.starts_P) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads in one pass: the last of a row is only ever a target."""
        return int(self.num_tokens_N.sum(dtype=np.int64)) - len(self.num_tokens_N)

    def rows_of(self, packs_T: Integers) -> Integers:
        """The rows of some packs, one pack after the other."""
        sizes_T = np.diff(self.starts_P)[packs_T]
        shifts_T = self.starts_P[:-1][packs_T] - (np.cumsum(sizes_T) - sizes_T)
        rows: Integers = np.arange(int(sizes_T.sum())) + np.repeat(shifts_T, sizes_T)
        return rows

    @property
    def fill(self) -> float:
        """Share of the packs' length that tokens take, the last pack like any other."""
        return self.num_tokens / max(1, self.num_packs * self.pack_length)


def load_or_make_plan(
    path: Path,
    mix: MixInfo,
    vocabulary: JointVocabulary,
    *,
    split: str,
    pack_length: int,
    window: int,
    too_long: TooLong = "skip",
    store: ShardStore | None = None,
    num_workers: int | None = None,
) -> PackPlan:
    """The plan at `path`, made first when it is not there or of another mix, vocabulary or length.

    `store` is where the shards lie, by default beside the mix.
    """
    identity = content_id(
        {
            "version": _PLAN_VERSION,
            "mix_id": mix.mix_id,
            "vocabulary": vocabulary.identity,
            "template_version": vocabulary.framing.template_version,
            "split": split,
            "pack_length": pack_length,
            "window": window,
            "too_long": too_long,
        }
    )
    plan = _load(path, identity, split, pack_length)
    if plan is None:
        write_plan(
            path,
            identity,
            mix,
            store or open_store(mix),
            vocabulary,
            split=split,
            pack_length=pack_length,
            window=window,
            too_long=too_long,
            num_workers=num_workers,
        )
        plan = _load(path, identity, split, pack_length)
    assert plan is not None
    return plan


def require_packs(plan: PackPlan, mix: MixInfo) -> None:
    """Raise NoDataError when there is nothing to read."""
    if plan.num_packs == 0:
        raise NoDataError(
            f"mixes/{mix.folder.name}: no sample of its {plan.split} split fits into a pack of "
            f"{plan.pack_length} tokens ({plan.num_skipped} left out); raise data.pack_length, or "
            "build a mix with more data"
        )


_NUMBERS = {
    "json_offset": np.uint64,
    "json_bytes": np.uint32,
    "units_offset": np.uint64,
    "units_bytes": np.uint32,
    "checksum": np.uint64,
    "first": np.uint32,
    "num_tokens": np.int32,
    "sample_tokens": np.int32,
}


def _load(path: Path, identity: str, split: str, pack_length: int) -> PackPlan | None:
    try:
        with pq.ParquetFile(path, read_dictionary=["shard", "group"]) as file:
            head = json.loads((file.metadata.metadata or {}).get(HEAD, b"{}"))
            if head.get("identity") != identity:
                return None
            table = file.read(["pack_id", "shard", "group", *_NUMBERS])
    except (OSError, pa.ArrowException, ValueError):
        return None
    packs_N = table["pack_id"].to_numpy()
    num_packs = int(packs_N[-1]) + 1 if len(packs_N) else 0
    shards, shard_N = _names_and_codes(table["shard"])
    groups, group_N = _names_and_codes(table["group"])
    numbers: dict[str, Any] = {
        f"{name}_N": table[name].to_numpy().astype(kind, copy=False)
        for name, kind in _NUMBERS.items()
    }
    return PackPlan(
        split=split,
        pack_length=pack_length,
        starts_P=np.searchsorted(packs_N, np.arange(num_packs + 1)).astype(np.int64),
        shards=shards,
        shard_N=shard_N,
        groups=groups,
        group_N=group_N,
        keys=Keys(path, len(packs_N)),
        num_skipped=head["num_skipped"],
        num_split=head["num_split"],
        **numbers,
    )


def _names_and_codes(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The different strings of a column, sorted, and which of them each row has."""
    if not len(column):
        return (), np.zeros(0, np.int32)
    coded = column.unify_dictionaries().combine_chunks()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    return tuple(names[number] for number in order), place[coded.indices.to_numpy()]


class Keys(Sequence[str]):
    """The keys of a plan's rows, read with the first that is asked for."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        found = self._read[row]
        return found.to_pylist() if isinstance(row, slice) else str(found)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, self._length, 8192):
            yield from self[start : start + 8192]

    def take(self, rows: Integers) -> pa.LargeStringArray:
        """The keys of some rows, without a Python string for each."""
        return self._read.take(pa.array(rows))

    @functools.cached_property
    def _read(self) -> pa.LargeStringArray:
        column = pq.read_table(self._path, columns=["key"])["key"]
        return column.cast(pa.large_string()).combine_chunks()
