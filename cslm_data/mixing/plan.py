"""candidates + weights + seeds → the plan of a mix: which samples, in which order, in which shard.

Two seeds do two things. The recipe's `selection_seed` and `prompts_seed` say which samples are in
and how they are worded; `seed` says in which order. So another seed is another order of the same.
"""

# S sources, N candidates of a source, M samples of the mix

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.errors import UsageError
from cslm_data.keys import U64, content_id, key64, mix64
from cslm_data.mixing.candidates import Candidates, sample_choices
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.rows import MixSource
from cslm_data.mixing.selection import U32, take, water_fill
from cslm_data.mixing.splits import TEST, TRAIN, VALID
from cslm_data.records import SPLITS
from cslm_data.samples import epoch_hash, sample_name

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MixPlan:
    """Every sample of a mix, in its order."""

    keys: list[str]
    sources_M: NDArray[np.uint16]
    candidates_M: U32
    epochs_M: U32
    splits_M: NDArray[np.uint8]
    positions_M: U64
    tokens_M: U32
    units_M: U32
    shards: list[str]
    """Name of the shard of each sample."""
    realised: list[Row]
    """Requested against realised, a row per split, task and languages."""
    num_selected: int
    """Distinct candidates that are in, repeats not counted."""

    def __len__(self) -> int:
        return len(self.keys)

    def digest(self) -> str:
        """Hash of which samples there are, in which order and in which shards."""
        rows = zip(self.shards, self.keys, strict=True)
        return content_id("\n".join(f"{shard} {key}" for shard, key in rows), length=32)


@dataclass(kw_only=True)
class _Chosen:
    """Samples chosen from one source for one split."""

    source: int
    split: np.uint8
    rows_M: NDArray[np.intp]
    """Positions among the candidates of the source."""
    epochs_M: U32
    keys: list[str]
    tokens_M: U32


def plan_mix(
    sources: Sequence[MixSource],
    candidates: Sequence[Candidates],
    recipe: Recipe,
    *,
    seed: int,
    shard_bytes: int,
) -> MixPlan:
    """Choose the samples of every source and split, put them in order, cut them into shards."""
    chosen: list[_Chosen] = []
    realised = _choose_train(sources, candidates, recipe, chosen)
    for split in (VALID, TEST):
        for source, pool in zip(sources, candidates, strict=True):
            order_N = _selection_order(pool, split, recipe.selection_seed)
            cap = recipe.splits.max_per_source
            part = _chosen(source, pool, recipe, split, [order_N[:cap]])
            if len(part.keys):
                chosen.append(part)
                tokens_N = _tokens_of_epoch(source, pool, recipe, order_N, 0)
                realised.append(_held_out_row(source, part, int(tokens_N.sum(dtype=np.int64))))
    return _put_in_order(chosen, candidates, realised, seed=seed, shard_bytes=shard_bytes)


def _choose_train(
    sources: Sequence[MixSource],
    candidates: Sequence[Candidates],
    recipe: Recipe,
    chosen: list[_Chosen],
) -> list[Row]:
    """Whole epochs and a beginning of each source, by weight; the rows that say how it came out."""
    orders = [_selection_order(pool, TRAIN, recipe.selection_seed) for pool in candidates]
    seen = [
        int(_tokens_of_epoch(source, pool, recipe, order_N, 0)[order_N].sum(dtype=np.int64))
        for source, pool, order_N in zip(sources, candidates, orders, strict=True)
    ]
    available = [
        tokens if pool.population == pool.num_rows else tokens * pool.population // pool.num_rows
        for tokens, pool in zip(seen, candidates, strict=True)
    ]
    total = recipe.total_tokens or _default_total(sources, available)
    targets = _targets(sources, available, total)
    for source, pool, has, target in zip(sources, candidates, seen, targets, strict=True):
        if pool.population > pool.num_rows and target > has:
            raise UsageError(
                f"recipe: max_candidates {recipe.max_candidates}: the {pool.num_rows} rows looked "
                f"at for {source.task} {source.languages} (of {pool.population}) have {has} "
                f"tokens, and the mix asks for {round(target)}; raise it, or lower total_tokens"
            )
    parts: list[_Chosen] = []
    for source, pool, order_N, target in zip(sources, candidates, orders, targets, strict=True):

        def tokens(epoch: int, source: MixSource = source, pool: Candidates = pool) -> U32:
            return _tokens_of_epoch(source, pool, recipe, order_N, epoch)  # noqa: B023 - used at once

        parts.append(_chosen(source, pool, recipe, TRAIN, take(tokens, order_N, target)))
    chosen.extend(part for part in parts if part.keys)
    realised_total = sum(int(part.tokens_M.sum(dtype=np.int64)) for part in parts)
    return [
        _train_row(
            source,
            pool,
            part,
            available=has,
            target=target,
            requested=source.share * total,
            total=realised_total,
        )
        for source, pool, part, has, target in zip(
            sources, candidates, parts, available, targets, strict=True
        )
    ]


def _targets(sources: Sequence[MixSource], available: Sequence[int], total: float) -> list[float]:
    """Training tokens of each source: first of each of the recipe's tasks, then of its languages.

    What a language lacks, the other languages of the task give; what a task lacks, other tasks.
    """
    capacities = [tokens * s.max_epochs for tokens, s in zip(available, sources, strict=True)]
    rules = [[s.index for s in sources if s.rule == rule] for rule in {s.rule: 0 for s in sources}]
    of_rules = water_fill(
        [sum(sources[i].share for i in members) for members in rules],
        [sum(capacities[i] for i in members) for members in rules],
        total,
    )
    targets = [0.0] * len(sources)
    for members, tokens in zip(rules, of_rules, strict=True):
        shares = [sources[i].share for i in members]
        inside = water_fill(shares, [capacities[i] for i in members], tokens)
        for i, target in zip(members, inside, strict=True):
            targets[i] = target
    return targets


def _default_total(sources: Sequence[MixSource], available: Sequence[int]) -> int:
    """One pass over all sources, or as much as the scarcest required task can hold its share of.

    So a small spoken corpus is not drowned in the text that is only there to be replayed.
    """
    capacity: dict[int, float] = {}
    share: dict[int, float] = {}
    for source, tokens in zip(sources, available, strict=True):
        if not source.optional:
            capacity[source.rule] = capacity.get(source.rule, 0.0) + tokens * source.max_epochs
            share[source.rule] = share.get(source.rule, 0.0) + source.share
    limits = [capacity[rule] / share[rule] for rule in capacity if capacity[rule] > 0]
    return round(min([sum(available), *limits]))


def _chosen(
    source: MixSource,
    pool: Candidates,
    recipe: Recipe,
    split: np.uint8,
    epochs: list[NDArray[np.intp]],
) -> _Chosen:
    keys: list[str] = []
    tokens: list[U32] = []
    for epoch, rows_M in enumerate(epochs):
        keys.extend(_keys(source, pool, rows_M, epoch))
        tokens.append(_count(source, pool, recipe, rows_M, epoch))
    return _Chosen(
        source=source.index,
        split=split,
        rows_M=np.concatenate([np.zeros(0, np.intp), *epochs]),
        epochs_M=np.repeat(np.arange(len(epochs)), [len(rows) for rows in epochs]).astype(
            np.uint32
        ),
        keys=keys,
        tokens_M=np.concatenate([np.zeros(0, np.uint32), *tokens]),
    )


def _put_in_order(
    chosen: list[_Chosen],
    candidates: Sequence[Candidates],
    realised: list[Row],
    *,
    seed: int,
    shard_bytes: int,
) -> MixPlan:
    names = [key for part in chosen for key in part.keys]

    def joined(arrays: list[Any], kind: Any) -> Any:
        return np.concatenate([np.zeros(0, kind), *arrays]).astype(kind)

    splits_M = joined([np.full(len(p.keys), p.split) for p in chosen], np.uint8)
    hashes_M = np.array([key64(name) for name in names], np.uint64)
    ordinals = np.lexsort((hashes_M, mix64(hashes_M, seed), splits_M))
    splits_M = splits_M[ordinals]
    starts = np.searchsorted(splits_M, np.arange(len(SPLITS)))
    positions_M = np.arange(len(names), dtype=np.uint64) - starts[splits_M].astype(np.uint64)
    bytes_M = joined([candidates[p.source].bytes_N[p.rows_M] for p in chosen], np.uint32)[ordinals]
    first = [candidates[p.source].first + p.rows_M for p in chosen]
    selected = joined(first, np.uint32)
    return MixPlan(
        keys=[names[i] for i in ordinals.tolist()],
        sources_M=joined([np.full(len(p.keys), p.source) for p in chosen], np.uint16)[ordinals],
        candidates_M=selected[ordinals],
        epochs_M=joined([p.epochs_M for p in chosen], np.uint32)[ordinals],
        splits_M=splits_M,
        positions_M=positions_M,
        tokens_M=joined([p.tokens_M for p in chosen], np.uint32)[ordinals],
        units_M=joined([candidates[p.source].units_N[p.rows_M] for p in chosen], np.uint32)[
            ordinals
        ],
        shards=_cut_shards(splits_M, bytes_M, shard_bytes),
        realised=realised,
        num_selected=len(np.unique(selected)),
    )


def _cut_shards(splits_M: NDArray[np.uint8], bytes_M: U32, shard_bytes: int) -> list[str]:
    """Name of the shard of each sample: a new one whenever the size is reached."""
    shards: list[str] = []
    split, number, size = -1, 0, 0
    for this, num_bytes in zip(splits_M.tolist(), bytes_M.tolist(), strict=True):
        if this != split:
            split, number, size = this, 0, 0
        elif size + num_bytes > shard_bytes:
            number, size = number + 1, 0
        size += num_bytes
        shards.append(f"{SPLITS[this]}-{number:06d}.tar")
    return shards


def _selection_order(pool: Candidates, split: np.uint8, seed: int) -> NDArray[np.intp]:
    """Candidates of a split in the order in which they are taken."""
    rows = np.flatnonzero(pool.splits_N == split)
    keys = pool.keys_N[rows]
    return rows[np.lexsort((keys, mix64(keys, seed)))]


def _keys(source: MixSource, pool: Candidates, rows_M: NDArray[np.intp], epoch: int) -> list[str]:
    hashes = pool.keys_N[rows_M].tolist()
    return [sample_name(source.task, source.languages, key, epoch) for key in hashes]


def _count(
    source: MixSource,
    pool: Candidates,
    recipe: Recipe,
    rows_M: NDArray[np.intp],
    epoch: int,
) -> U32:
    """Exact tokens of samples: what the source says, and the wording that each sample got."""
    hashes = [epoch_hash(key, epoch) for key in pool.keys_N[rows_M].tolist()]
    choices = sample_choices(source, hashes, prompts_seed=recipe.prompts_seed)
    wordings = np.array(pool.wording_tokens, np.uint32)[np.array(choices, np.intp)]
    return pool.tokens_N[rows_M] + wordings


def _tokens_of_epoch(
    source: MixSource, pool: Candidates, recipe: Recipe, rows_M: NDArray[np.intp], epoch: int
) -> U32:
    """Tokens of each candidate in an epoch; those outside of `rows_M` are left at 0."""
    tokens_N = np.zeros(len(pool.tokens_N), np.uint32)
    tokens_N[rows_M] = _count(source, pool, recipe, rows_M, epoch)
    return tokens_N


# --- what came out ---------------------------------------------------------------------------


def _train_row(
    source: MixSource,
    pool: Candidates,
    part: _Chosen,
    *,
    available: int,
    target: float,
    requested: float,
    total: int,
) -> Row:
    tokens = int(part.tokens_M.sum(dtype=np.int64))
    note = ""
    if available == 0:
        note = "no data, its share goes to the others" if pool.num_rows == 0 else "none in train"
    elif target < requested * 0.999:
        note = f"all of it {source.max_epochs:g} times is less than asked for"
    elif target > requested * 1.001:
        note = "takes over what others lack"
    return {
        "split": "train",
        "task": source.task,
        "languages": source.languages,
        "requested_share": source.share,
        "realised_share": tokens / total if total else 0.0,
        "requested_tokens": round(requested),
        "realised_tokens": tokens,
        "num_samples": len(part.keys),
        "available_tokens": available,
        "epochs": tokens / available if available else 0.0,
        "note": note,
    }


def _held_out_row(source: MixSource, part: _Chosen, available: int) -> Row:
    tokens = int(part.tokens_M.sum(dtype=np.int64))
    return {
        "split": SPLITS[part.split],
        "task": source.task,
        "languages": source.languages,
        "requested_share": None,
        "realised_share": None,
        "requested_tokens": None,
        "realised_tokens": tokens,
        "num_samples": len(part.keys),
        "available_tokens": available,
        "epochs": None,
        "note": "",
    }
