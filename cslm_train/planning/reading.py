"""mixes/<name>, or a number of tokens → what a run reads: samples, positions, packs.

Packs are those of the run's own plan where it is made already; else they follow from the lengths in
mix.parquet, at a fill that is assumed and said.
"""

# N samples

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import CorruptArtefactError, NoDataError
from cslm_data.shards import MixInfo

ASSUMED_FILL = 0.99
"""Share of a pack that tokens take, where no plan says it: what plans of real mixes reach."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """What a split has of one task and its languages."""

    split: str
    task: str
    languages: str
    num_samples: int
    num_tokens: int
    share: float
    """Of the split's tokens."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one pass over the train split reads."""

    source: str
    """Where the numbers are from, in words."""
    num_samples: int
    num_tokens: int
    num_positions: int
    """Tokens that the model reads: the last of a sample is only ever a target."""
    num_too_long: int | None
    """Samples longer than a pack; None: not known."""
    mean_context: float
    """Positions that a token attends to on average, itself too."""
    num_packs: int
    fill: float


def groups_of(mix: MixInfo) -> list[Group]:
    """Tokens of each split, task and languages, as mix.json says them."""
    totals = {name: split.get("num_tokens", 0) for name, split in mix.splits.items()}
    try:
        return [
            Group(
                split=row["split"],
                task=row["task"],
                languages=row["languages"],
                num_samples=row["num_samples"],
                num_tokens=row["realised_tokens"],
                share=row["realised_tokens"] / max(1, totals.get(row["split"], 0)),
            )
            for row in mix.realised
        ]
    except (KeyError, TypeError) as error:
        raise CorruptArtefactError(
            f"{mix.folder / 'mix.json'}: realised: {error}; cslm-data build-mix --overwrite"
        ) from None


def read_mix(mix: MixInfo, *, pack_length: int) -> Reading:
    """What the train split of a mix comes to in packs, by the lengths of its samples.

    Raises NoDataError when it holds nothing that fits, MissingArtefactError for no mix.parquet.
    """
    samples = tokens = positions = too_long = 0
    pairs = 0.0
    for lengths_N in _sample_lengths(mix.folder / "mix.parquet"):
        inputs_N = lengths_N - 1
        fitting_N = inputs_N[inputs_N <= pack_length].astype(np.float64)
        samples += len(lengths_N)
        tokens += int(lengths_N.sum())
        positions += int(fitting_N.sum())
        too_long += len(lengths_N) - len(fitting_N)
        pairs += float((fitting_N * (fitting_N + 1) / 2).sum())
    if not positions:
        raise NoDataError(
            f"mixes/{mix.folder.name}: no sample of its train split fits into a pack of "
            f"{pack_length} tokens; raise data.pack_length, or build a mix with more data"
        )
    packs = _packs(positions, pack_length)
    return Reading(
        source=f"lengths in mixes/{mix.folder.name}/mix.parquet, a fill of {ASSUMED_FILL} assumed",
        num_samples=samples,
        num_tokens=tokens,
        num_positions=positions,
        num_too_long=too_long,
        mean_context=pairs / positions,
        num_packs=packs,
        fill=positions / (packs * pack_length),
    )


def read_tokens(num_tokens: int, *, sample_tokens: int, pack_length: int) -> Reading:
    """The same of so many tokens, in samples that are all `sample_tokens` long."""
    samples = max(1, num_tokens // sample_tokens)
    positions = max(1, num_tokens - samples)
    packs = _packs(positions, pack_length)
    return Reading(
        source=f"--tokens, in samples of {sample_tokens}, a fill of {ASSUMED_FILL} assumed",
        num_samples=samples,
        num_tokens=num_tokens,
        num_positions=positions,
        num_too_long=None,
        mean_context=min(sample_tokens, pack_length) / 2,
        num_packs=packs,
        fill=positions / (packs * pack_length),
    )


def _packs(positions: int, pack_length: int) -> int:
    return max(1, math.ceil(positions / (ASSUMED_FILL * pack_length)))


def _sample_lengths(path: Path) -> Iterator[NDArray[np.int64]]:
    """Tokens of the samples of the train split, in pieces: int64 (N,)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(columns=["split", "num_tokens"], batch_size=1 << 20):
            train = batch.filter(pc.equal(batch["split"], "train"))
            yield train["num_tokens"].to_numpy(zero_copy_only=False).astype(np.int64)
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtefactError(
            f"{path}: cannot be read ({error}); cslm-data build-mix --overwrite"
        ) from None
