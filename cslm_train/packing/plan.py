"""mixes/<name>/shards + vocabulary → runs/<run>/packs-<split>.parquet and batches-*.parquet.

The plan says which samples make which pack. It is made once for a mix, a vocabulary and a pack
length, and with a seed it says what any step of a run reads, before and after it is read.
"""

# N samples of packs, P packs, T packs read by a run

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cslm_data.errors import NoDataError, TokenizerMismatchError
from cslm_data.framing import frame
from cslm_data.keys import content_id
from cslm_data.progress import progress
from cslm_data.records import Reject
from cslm_data.reject_files import write_rejects
from cslm_data.shards import MixInfo, ShardFile
from cslm_data.workspace import atomic_path
from cslm_train.packing.assign import SKIPPED, Integers, assign_packs
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)

_PLAN_VERSION = 1
_ENCODED_AT_A_TIME = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class PackPlan:
    """The packs of a split: pack p holds the samples `starts_P[p]` to `starts_P[p + 1]`."""

    split: str
    pack_length: int
    starts_P: Integers
    """First sample of each pack, and the number of samples: int64 (P + 1,)."""
    shards: tuple[str, ...]
    shard_N: NDArray[np.int32]
    """Which of `shards` holds a sample."""
    index_N: NDArray[np.int32]
    """Its place in that shard."""
    num_tokens_N: NDArray[np.int32]
    keys: tuple[str, ...]
    groups: tuple[str, ...]
    """Task and languages, `asr/en`, of a sample."""
    num_skipped: int
    """Samples that are in no pack, because they are too long or nothing of them is trained."""

    @property
    def num_packs(self) -> int:
        """P."""
        return len(self.starts_P) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads in one pass: the last of a sample is only ever a target."""
        return int(self.num_tokens_N.sum()) - len(self.keys)

    @property
    def fill(self) -> float:
        """Share of the packs' length that tokens take."""
        return self.num_tokens / max(1, self.num_packs * self.pack_length)


def load_or_make_plan(
    path: Path,
    mix: MixInfo,
    vocabulary: JointVocabulary,
    *,
    split: str,
    pack_length: int,
    window: int,
) -> PackPlan:
    """The plan at `path`, made first when it is not there or of another mix, vocabulary or length.

    What is left out is written beside it, as `rejects-<split>.parquet`.
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
        }
    )
    plan = _load(path, identity, split, pack_length)
    if plan is None:
        _make(path, identity, mix, vocabulary, split, pack_length, window)
        plan = _load(path, identity, split, pack_length)
    assert plan is not None
    return plan


def _make(
    path: Path,
    identity: str,
    mix: MixInfo,
    vocabulary: JointVocabulary,
    split: str,
    pack_length: int,
    window: int,
) -> None:
    shards = mix.shards(split)
    rows: dict[str, list[object]] = {name: [] for name in _COLUMNS.names if name != "pack_id"}
    lengths: list[int] = []
    rejects: list[Reject] = []
    total = sum(entry.num_samples for entry in mix.entries if entry.split == split)
    with progress(f"pack {split}", total=total, unit="samples") as bar:
        for shard in shards:
            for index, key, group, length, trained in _measure(_open(shard, mix), vocabulary):
                bar.advance()
                if length - 1 > pack_length:
                    detail = f"{length} tokens > data.pack_length {pack_length} + 1"
                    rejects.append(_reject(key, "too_long", detail))
                elif not trained:
                    rejects.append(_reject(key, "nothing_trained", "no segment of it is trained"))
                else:
                    lengths.append(length - 1)
                    for name, value in zip(
                        rows, (shard.name, index, key, group, length), strict=True
                    ):
                        rows[name].append(value)
    packs_N = assign_packs(np.array(lengths, np.int64), pack_length=pack_length, window=window)
    assert not (packs_N == SKIPPED).any()
    order_N = np.argsort(packs_N, kind="stable")
    table = pa.table({"pack_id": packs_N, **rows}, schema=_COLUMNS).take(pa.array(order_N))
    head = {"identity": identity, "num_skipped": len(rejects)}
    write_rejects(path.with_name(f"rejects-{split}.parquet"), rejects)
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"cslm": json.dumps(head)}), temporary)
    if rejects:
        log.warning(
            "%s of %s %s samples are in no pack (%s); %s says which and why",
            len(rejects),
            total,
            split,
            ", ".join(sorted({reject.reason for reject in rejects})),
            f"rejects-{split}.parquet",
        )


_COLUMNS = pa.schema(
    [
        ("pack_id", pa.uint32()),
        ("shard", pa.string()),
        ("index", pa.int32()),
        ("key", pa.string()),
        ("group", pa.string()),
        ("num_tokens", pa.int32()),
    ]
)


def _reject(key: str, reason: str, detail: str) -> Reject:
    return Reject(stage="train", corpus="", key=key, reason=reason, detail=detail)


def _open(shard: Path, mix: MixInfo) -> ShardFile:
    file = ShardFile(shard)
    if file.index.tokenizer_id != mix.tokenizer_id:
        raise TokenizerMismatchError(
            f"{shard}: units of {file.index.tokenizer_id}, but mix.json says {mix.tokenizer_id}; "
            f"build the mix again: cslm-data build-mix --stage {mix.stage} --overwrite"
        )
    return file


def _measure(
    file: ShardFile, vocabulary: JointVocabulary
) -> Iterator[tuple[int, str, str, int, bool]]:
    """Index, key, group, number of tokens and whether any target is trained, of each sample."""
    for start in range(0, len(file), _ENCODED_AT_A_TIME):
        indexes = range(start, min(start + _ENCODED_AT_A_TIME, len(file)))
        samples = list(file.samples(indexes.start, indexes.stop))
        encoded = vocabulary.encode_batch(
            [frame(sample.segments, vocabulary.framing) for sample in samples]
        )
        for index, sample, (ids, trained) in zip(indexes, samples, encoded, strict=True):
            group = f"{sample.task}/{sample.languages}"
            yield index, sample.key, group, len(ids), bool(trained[1:].any())


def _load(path: Path, identity: str, split: str, pack_length: int) -> PackPlan | None:
    try:
        table = pq.read_table(path)
        head = json.loads((table.schema.metadata or {}).get(b"cslm", b"{}"))
    except (OSError, pa.ArrowInvalid, ValueError):
        return None
    if head.get("identity") != identity:
        return None
    packs_N = table["pack_id"].to_numpy()
    num_packs = int(packs_N[-1]) + 1 if len(packs_N) else 0
    shards = table["shard"].combine_chunks().dictionary_encode()
    return PackPlan(
        split=split,
        pack_length=pack_length,
        starts_P=np.searchsorted(packs_N, np.arange(num_packs + 1)).astype(np.int64),
        shards=tuple(shards.dictionary.to_pylist()),
        shard_N=shards.indices.to_numpy(),
        index_N=table["index"].to_numpy(),
        num_tokens_N=table["num_tokens"].to_numpy(),
        keys=tuple(table["key"].to_pylist()),
        groups=tuple(table["group"].to_pylist()),
        num_skipped=head["num_skipped"],
    )


def require_packs(plan: PackPlan, mix: MixInfo) -> None:
    """Raise NoDataError when there is nothing to read."""
    if plan.num_packs == 0:
        raise NoDataError(
            f"mixes/{mix.folder.name}: no sample of its {plan.split} split fits into a pack of "
            f"{plan.pack_length} tokens ({plan.num_skipped} left out); raise data.pack_length, or "
            "build a mix with more data"
        )
