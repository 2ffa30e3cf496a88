"""mixes/<name>, or a number of tokens → what a run reads: samples, positions, packs.

Packs are those of the run's own plan where it is made already; else the lengths in mix.parquet are
assigned to packs as a run does it, or a fill is assumed, and said.
"""

# N samples, or parts of them

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cslm_data.errors import CorruptArtefactError, NoDataError
from cslm_data.shards import MixInfo
from cslm_train.config import DataConfig
from cslm_train.packing.assign import Integers, assign_packs
from cslm_train.run_folder import RunInfo

ASSUMED_FILL = 0.99
"""Share of a pack that tokens take, where no plan says it: what plans of real mixes reach."""
_PLANNED_BY = ("pack_length", "window", "too_long")
_MOST_ASSIGNED = 1_000_000
"""Samples that are assigned to packs while one waits: some seconds."""


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


def read_plan(run_dir: Path, mix: MixInfo, data: DataConfig) -> Reading | None:
    """What one pass of a run reads by its own plan; None when that is not there or of another mix.

    The plan of a run whose mix, pack length, window and policy are those asked for.
    """
    if not (run_dir / "run.json").is_file():
        return None
    info = RunInfo.load(run_dir)
    made = info.config.data
    same = all(getattr(made, name) == getattr(data, name) for name in _PLANNED_BY)
    if info.mix_id != mix.mix_id or not same:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run_dir / "packs-train.parquet"
    try:
        table = pq.read_table(path, columns=["pack_id", "num_tokens"])
        head = json.loads((pq.read_metadata(path).metadata or {}).get(b"cslm", b"{}"))
    except (OSError, pa.ArrowException, ValueError):
        return None
    if not len(table):
        return None
    inputs_N = table["num_tokens"].to_numpy().astype(np.int64) - 1
    return _reading(
        f"the plan of runs/{run_dir.name}",
        inputs_N,
        num_samples=mix.splits["train"]["num_samples"],
        num_tokens=mix.splits["train"]["num_tokens"],
        num_too_long=head.get("num_skipped", 0) + head.get("num_split", 0),
        num_packs=int(table["pack_id"][-1].as_py()) + 1,
        pack_length=data.pack_length,
    )


def read_mix(mix: MixInfo, data: DataConfig) -> Reading:
    """What the train split of a mix comes to in packs, by the lengths of its samples.

    Raises NoDataError when it holds nothing that fits, CorruptArtefactError for no mix.parquet.
    """
    length = data.pack_length
    name = f"mixes/{mix.folder.name}"
    pieces = list(_sample_lengths(mix.folder / "mix.parquet"))
    lengths_N = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    inputs_N = lengths_N - 1
    num_too_long = int((inputs_N > length).sum())
    inputs_N = _shortened(inputs_N[inputs_N > 0], length, data.too_long)
    if not len(inputs_N):
        raise NoDataError(
            f"{name}: no sample of its train split fits into a pack of {length} tokens; raise "
            "data.pack_length, or build a mix with more data"
        )
    if len(inputs_N) <= _MOST_ASSIGNED:
        packs = int(assign_packs(inputs_N, pack_length=length, window=data.window).max()) + 1
        source = f"the lengths of samples in {name}, assigned to packs as a run does it"
    else:
        packs = _assumed_packs(int(inputs_N.sum()), length)
        source = f"the lengths of samples in {name}, and an assumed fill of {ASSUMED_FILL}"
    return _reading(
        source,
        inputs_N,
        num_samples=len(lengths_N),
        num_tokens=int(lengths_N.sum()),
        num_too_long=num_too_long,
        num_packs=packs,
        pack_length=length,
    )


def _shortened(inputs_N: Integers, length: int, too_long: str) -> Integers:
    """Positions of what is read of each sample: of those longer than a pack nothing, or parts."""
    whole_N = inputs_N[inputs_N <= length]
    long_N = inputs_N[inputs_N > length]
    if too_long == "skip" or not len(long_N):
        return whole_N
    full = np.full(len(long_N) if too_long == "cut" else int((long_N // length).sum()), length)
    rest_N = long_N % length if too_long == "split" else np.zeros(0, np.int64)
    # At the places of whole samples: where they stand does not change how many packs there are.
    return np.concatenate([whole_N, full, rest_N[rest_N > 0]]).astype(np.int64)


def _reading(
    source: str,
    inputs_N: Integers,
    *,
    num_samples: int,
    num_tokens: int,
    num_too_long: int,
    num_packs: int,
    pack_length: int,
) -> Reading:
    positions = int(inputs_N.sum())
    pairs = float((inputs_N.astype(np.float64) * (inputs_N + 1)).sum()) / 2
    return Reading(
        source=source,
        num_samples=num_samples,
        num_tokens=num_tokens,
        num_positions=positions,
        num_too_long=num_too_long,
        mean_context=pairs / positions,
        num_packs=num_packs,
        fill=positions / (num_packs * pack_length),
    )


def read_tokens(num_tokens: int, *, sample_tokens: int, pack_length: int) -> Reading:
    """The same of so many tokens, in samples that are all `sample_tokens` long."""
    samples = max(1, num_tokens // sample_tokens)
    positions = max(1, num_tokens - samples)
    packs = _assumed_packs(positions, pack_length)
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


def _assumed_packs(positions: int, pack_length: int) -> int:
    return max(1, math.ceil(positions / (ASSUMED_FILL * pack_length)))


def _sample_lengths(path: Path) -> Iterator[Integers]:
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
