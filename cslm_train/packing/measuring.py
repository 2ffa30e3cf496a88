"""Mix + vocabulary → how many tokens each sample of a split has, in the order of the mix.

The mix counted them when it was planned (mix.parquet). Where its text tokenizer and framing are
those of the vocabulary, its numbers are taken and no shard is read; the reader checks them as it
goes. Otherwise every sample is read and encoded, by as many processes as there are cores.
"""

# N samples

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cslm_data.engines import Worker, load_engine
from cslm_data.errors import TokenizerMismatchError
from cslm_data.progress import progress
from cslm_data.records import Sample
from cslm_data.shard_index import read_index_table
from cslm_data.shards import MixInfo, ShardBytes
from cslm_data.text_tokenizer import TextTokenizer, load_text_tokenizer
from cslm_train.packing.encoding import SampleEncoder
from cslm_train.packing.shard_store import ShardStore
from cslm_train.vocabulary import JointVocabulary

log = logging.getLogger(__name__)

Counts = NDArray[np.int32]
Flags = NDArray[np.bool_]

_ENCODED_AT_A_TIME = 512
_BYTES_PER_WORKER = 32 * 2**20
"""Shards of less are read sooner by this process than by several that have yet to start."""
_PLACES = ("json_offset", "json_bytes", "units_offset", "units_bytes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What a plan needs to know of the samples of a split."""

    shards: tuple[Path, ...]
    """In order; beside them lie their indexes."""
    starts: tuple[int, ...]
    """First sample of each shard, and the number of samples."""
    num_tokens_N: Counts
    trained_N: Flags
    """Whether the loss counts any token of a sample."""
    by_mix: bool
    """Whether the mix's own counts were taken."""


def measure_split(
    mix: MixInfo,
    store: ShardStore,
    vocabulary: JointVocabulary,
    *,
    split: str,
    num_workers: int | None = None,
) -> Measured:
    """Tokens of every sample. Raises TokenizerMismatchError where shards have other units."""
    shards = tuple(mix.shards(split))
    counted = _counts_of_mix(mix, shards, split) if _counts_alike(mix, vocabulary) else None
    by_mix = counted is not None
    if counted is None:
        counted = _counts_of_shards(mix, shards, store, vocabulary, split, num_workers)
    sizes = [len(num_tokens) for num_tokens, _ in counted]
    return Measured(
        shards=shards,
        starts=tuple(np.cumsum([0, *sizes]).tolist()),
        num_tokens_N=np.concatenate([np.zeros(0, np.int32), *(c for c, _ in counted)]),
        trained_N=np.concatenate([np.zeros(0, np.bool_), *(flags for _, flags in counted)]),
        by_mix=by_mix,
    )


def read_checked_index(shard: Path, mix: MixInfo) -> pa.Table:
    """The index of a shard of a mix. Raises TokenizerMismatchError for units of another."""
    identity, table = read_index_table(shard)
    if identity.tokenizer_id != mix.tokenizer_id:
        raise TokenizerMismatchError(
            f"{shard}: units of {identity.tokenizer_id}, but mix.json says {mix.tokenizer_id}; "
            f"build the mix again: cslm-data build-mix --stage {mix.stage} --overwrite"
        )
    return table


def samples_at(shard: ShardBytes, index: pa.Table) -> Iterator[Sample]:
    """The samples of some rows of a shard's index."""
    places = (index[name].to_pylist() for name in _PLACES)
    return map(shard.sample, index["key"].to_pylist(), *places)


# --- as the mix counted them -----------------------------------------------------------------


def _counts_alike(mix: MixInfo, vocabulary: JointVocabulary) -> bool:
    return (
        mix.text_tokenizer_id == vocabulary.text_tokenizer.text_tokenizer_id
        and mix.template_version == vocabulary.framing.template_version
    )


def _counts_of_mix(
    mix: MixInfo, shards: tuple[Path, ...], split: str
) -> list[tuple[Counts, Flags]] | None:
    """Of each shard; None unless mix.parquet is there and names the samples of its shards."""
    path = mix.folder / "mix.parquet"
    if not path.exists():
        return None
    counted = []
    with pq.ParquetFile(path) as file:
        rows = _rows_of_split(file, split)
        waiting = next(rows, None)
        for shard in shards:
            keys = read_checked_index(shard, mix)["key"]
            while waiting is not None and len(waiting) < len(keys):
                more = next(rows, None)
                waiting = None if more is None else pa.concat_tables([waiting, more])
            if waiting is None or not waiting["key"].slice(0, len(keys)).equals(keys):
                log.warning("%s does not name the samples of %s: counting anew", path, shard)
                return None
            num_tokens = waiting["num_tokens"].slice(0, len(keys)).to_numpy().astype(np.int32)
            # A sample of a mix ends with an answer, so something of it is trained.
            counted.append((num_tokens, np.ones(len(num_tokens), np.bool_)))
            waiting = waiting.slice(len(keys))
    return counted


def _rows_of_split(file: pq.ParquetFile, split: str) -> Iterator[pa.Table]:
    for batch in file.iter_batches(columns=["split", "key", "num_tokens"]):
        table = pa.Table.from_batches([batch])
        yield table.filter(pa.compute.equal(table["split"], split))


# --- counted here ----------------------------------------------------------------------------


def _counts_of_shards(
    mix: MixInfo,
    shards: tuple[Path, ...],
    store: ShardStore,
    vocabulary: JointVocabulary,
    split: str,
    num_workers: int | None,
) -> list[tuple[Counts, Flags]]:
    entries = [entry for entry in mix.entries if entry.split == split]
    if num_workers is None and sum(e.num_bytes for e in entries) < 2 * _BYTES_PER_WORKER:
        num_workers = 1
    make_counter = functools.partial(_make_counter, mix, store, vocabulary)
    tokenizer = vocabulary.text_tokenizer
    if num_workers == 1 or not isinstance(tokenizer, TextTokenizer):
        num_workers = 1
    else:
        make_counter = functools.partial(
            _make_counter_apart, mix, store, tokenizer.folder, vocabulary.num_units
        )
    counted: dict[Path, tuple[Counts, Flags]] = {}
    total = sum(entry.num_samples for entry in entries)
    store.fetch_ahead(shard.name for shard in shards)
    with progress(f"count {split}", total=total, unit="samples") as bar:
        for shard, found in load_engine("local")(shards, make_counter, num_workers):
            counted[shard] = found
            bar.advance(len(found[0]))
    return [counted[shard] for shard in shards]


def _make_counter_apart(mix: MixInfo, store: ShardStore, tokenizer: Path, num_units: int) -> Worker:
    """In a process of its own, which encodes with one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    vocabulary = JointVocabulary(load_text_tokenizer(tokenizer), num_units)
    return _make_counter(mix, store, vocabulary)


def _make_counter(mix: MixInfo, store: ShardStore, vocabulary: JointVocabulary) -> Worker:
    encoder = SampleEncoder(vocabulary)

    def count(shard: Path) -> tuple[Counts, Flags]:
        index = read_checked_index(shard, mix)
        file = store.open(shard.name)
        counts, flags = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
        for start in range(0, len(index), _ENCODED_AT_A_TIME):
            samples = samples_at(file, index.slice(start, _ENCODED_AT_A_TIME))
            _, trained_T, lengths_B = encoder.encode([sample.segments for sample in samples])
            firsts_B = np.cumsum(lengths_B) - lengths_B
            trained_T[firsts_B] = False  # nothing predicts the first token of a sample
            counts.append(lengths_B)
            flags.append(np.logical_or.reduceat(trained_T, firsts_B))
        return np.concatenate(counts).astype(np.int32), np.concatenate(flags)

    return count
