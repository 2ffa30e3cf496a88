"""Shards' indexes + token counts → the Parquet file of a pack plan.

Step 1. Every sample's tokens are known (`measuring`).
Step 2. Samples that are too long, or of which nothing is trained, are left out or taken apart.
Step 3. `assign_packs` says which row makes which pack.
Step 4. The indexes are read once more, and rows written in the order of the packs; a pack's samples
        are neighbours, so no more than two windows of rows wait.
"""

# N samples of the split, R rows of the plan: samples, or parts of samples; P packs

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cslm_data.errors import CorruptArtefactError
from cslm_data.records import Reject
from cslm_data.reject_files import RejectFile, open_rejects
from cslm_data.shards import MixInfo
from cslm_data.workspace import atomic_path
from cslm_train.packing.assign import SKIPPED, Integers, assign_packs
from cslm_train.packing.encoding import SampleEncoder
from cslm_train.packing.measuring import Measured, measure_split, read_checked_index, samples_at
from cslm_train.packing.shard_store import ShardStore
from cslm_train.packing.too_long import Part, PartsFile, TooLong, open_parts, parts_of
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)

HEAD = b"cslm"
"""Under this name the metadata of the file say what it was planned for, and what is not in it."""
_ROWS_AT_A_TIME = 1 << 16

_SCHEMA = pa.schema(
    [
        ("pack_id", pa.uint32()),
        ("shard", pa.string()),
        ("json_offset", pa.uint64()),
        ("json_bytes", pa.uint32()),
        ("units_offset", pa.uint64()),
        ("units_bytes", pa.uint32()),
        ("checksum", pa.uint64()),
        ("key", pa.string()),
        ("group", pa.string()),
        ("first", pa.uint32()),
        ("num_tokens", pa.uint32()),
        ("sample_tokens", pa.uint32()),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """The rows of a plan in the order of the mix."""

    sample_R: Integers
    first_R: Integers
    positions_R: Integers
    """Tokens that are read: one less than those that are read or predicted."""


def write_plan(
    path: Path,
    identity: str,
    mix: MixInfo,
    store: ShardStore,
    vocabulary: JointVocabulary,
    *,
    split: str,
    pack_length: int,
    window: int,
    too_long: TooLong,
    num_workers: int | None = None,
) -> None:
    """Plan the packs of a split and write them, and beside them what is not or not whole in one.

    The file's bytes depend on the mix and the arguments alone, not on `num_workers`.
    """
    measured = measure_split(mix, store, vocabulary, split=split, num_workers=num_workers)
    with (
        open_rejects(path.with_name(f"rejects-{split}.parquet")) as rejects,
        open_parts(path.with_name(f"too-long-{split}.parquet"), too_long) as parts,
    ):
        rows = _choose_rows(
            mix, measured, store, vocabulary, rejects, parts, pack_length=pack_length
        )
    packs_R = assign_packs(rows.positions_R, pack_length=pack_length, window=window)
    assert not (packs_R == SKIPPED).any()
    num_samples, num_skipped = len(measured.num_tokens_N), rejects.reasons.total()
    head = {
        "identity": identity,
        "num_samples": num_samples,
        "num_skipped": num_skipped,
        "num_split": parts.num_samples,
        "too_long": too_long,
        "counted": "by the mix" if measured.by_mix else "from the shards",
    }
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary, _SCHEMA, compression="zstd", use_dictionary=["shard", "group"]
        ) as writer,
    ):
        for table in _in_order_of_packs(_tables(mix, measured, rows), packs_R):
            writer.write_table(table)
        writer.add_key_value_metadata({HEAD: json.dumps(head)})
    if num_skipped:
        log.warning(
            "%s of %s %s samples are in no pack (%s); %s says which and why",
            num_skipped,
            num_samples,
            split,
            ", ".join(sorted(rejects.reasons)),
            f"rejects-{split}.parquet",
        )
    if parts.num_samples:
        log.warning(
            "%s of %s %s samples are longer than a pack and were %s; %s says which",
            parts.num_samples,
            num_samples,
            split,
            "cut" if too_long == "cut" else "split",
            f"too-long-{split}.parquet",
        )


# --- which samples, which parts --------------------------------------------------------------


def _choose_rows(
    mix: MixInfo,
    measured: Measured,
    store: ShardStore,
    vocabulary: JointVocabulary,
    rejects: RejectFile,
    parts: PartsFile,
    *,
    pack_length: int,
) -> _Rows:
    """All samples that fit, and the parts of those that do not."""
    long_N = measured.num_tokens_N > pack_length + 1
    whole_N = ~long_N & measured.trained_N
    apart: list[tuple[int, int, int]] = []
    for place, shard in enumerate(measured.shards):
        start, stop = measured.starts[place], measured.starts[place + 1]
        odd = start + np.flatnonzero(~whole_N[start:stop])
        if not len(odd):
            continue
        index = read_checked_index(shard, mix).take(odd - start)
        found: Iterator[list[Part]] = iter([[]] * len(odd))
        if parts.too_long != "skip":
            found = _take_apart(shard.name, index, store, vocabulary, pack_length, parts.too_long)
        for key, sample, sample_parts in zip(index["key"].to_pylist(), odd, found, strict=True):
            count = int(measured.num_tokens_N[sample])
            if not long_N[sample]:
                rejects.add(_reject(key, "nothing_trained", "no segment of it is trained"))
            elif not sample_parts:
                detail = f"{count} tokens > data.pack_length {pack_length} + 1"
                rejects.add(_reject(key, "too_long", detail))
            else:
                parts.add(key, count, sample_parts)
                apart.extend((int(sample), *part) for part in sample_parts)
    whole_W = np.flatnonzero(whole_N)
    apart_Q3 = np.array(apart, np.int64).reshape(-1, 3)
    rows_R3 = np.zeros((len(whole_W) + len(apart), 3), np.int64)
    rows_R3[: len(whole_W), 0] = whole_W
    rows_R3[: len(whole_W), 2] = measured.num_tokens_N[whole_W] - 1
    rows_R3[len(whole_W) :] = apart_Q3
    if apart:
        rows_R3 = rows_R3[np.lexsort((rows_R3[:, 1], rows_R3[:, 0]))]
    return _Rows(sample_R=rows_R3[:, 0], first_R=rows_R3[:, 1], positions_R=rows_R3[:, 2])


def _take_apart(
    shard: str,
    index: pa.Table,
    store: ShardStore,
    vocabulary: JointVocabulary,
    pack_length: int,
    too_long: TooLong,
) -> Iterator[list[Part]]:
    """Of each sample of some rows of a shard's index, the parts that go into packs."""
    encoder = SampleEncoder(vocabulary)
    for sample in samples_at(store.open(shard), index):
        _, trained_S, _ = encoder.encode([sample.segments])
        yield parts_of(trained_S, pack_length=pack_length, too_long=too_long)


def _reject(key: str, reason: str, detail: str) -> Reject:
    return Reject(stage="train", corpus="", key=key, reason=reason, detail=detail)


# --- the table -------------------------------------------------------------------------------


def _tables(mix: MixInfo, measured: Measured, rows: _Rows) -> Iterator[pa.Table]:
    """The rows of each shard, in the order of the mix; their packs are still to be told."""
    for place, shard in enumerate(measured.shards):
        start, stop = measured.starts[place], measured.starts[place + 1]
        first, last = np.searchsorted(rows.sample_R, (start, stop))
        sample_R = rows.sample_R[first:last]
        index = read_checked_index(shard, mix)
        if len(index) != stop - start:
            raise CorruptArtefactError(
                f"{shard}: changed while its packs were planned; start the training again"
            )
        index = index.take(sample_R - start)
        told = {
            "pack_id": np.zeros(len(sample_R), np.uint32),
            "shard": pa.repeat(shard.name, len(sample_R)),
            "group": pc.binary_join_element_wise(index["task"], index["languages"], "/"),
            "first": rows.first_R[first:last],
            "num_tokens": rows.positions_R[first:last] + 1,
            "sample_tokens": measured.num_tokens_N[sample_R],
        }
        columns = [told[name] if name in told else index[name] for name in _SCHEMA.names]
        yield pa.table(columns, names=_SCHEMA.names).cast(_SCHEMA)


def _in_order_of_packs(tables: Iterator[pa.Table], packs_R: Integers) -> Iterator[pa.Table]:
    """The same rows pack after pack, with the numbers of their packs."""
    last_P = np.zeros(int(packs_R.max(initial=-1)) + 1, np.int64)
    last_P[packs_R] = np.arange(len(packs_R))
    # Packs up to and with p are whole after so many rows.
    whole_P = np.maximum.accumulate(last_P) + 1
    waiting, waiting_packs = _SCHEMA.empty_table(), packs_R[:0]
    seen = 0
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        waiting_packs = np.concatenate([waiting_packs, packs_R[seen : seen + len(table)]])
        seen += len(table)
        if len(waiting) < _ROWS_AT_A_TIME and seen < len(packs_R):
            continue
        ready = waiting_packs < np.searchsorted(whole_P, seen, side="right")
        order = np.flatnonzero(ready)[np.argsort(waiting_packs[ready], kind="stable")]
        numbers = pa.array(waiting_packs[order], pa.uint32())
        yield waiting.take(order).set_column(0, _SCHEMA.field("pack_id"), numbers)
        waiting, waiting_packs = waiting.filter(~ready), waiting_packs[~ready]
