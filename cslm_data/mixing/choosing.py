"""candidates + shares → which samples are in, by thresholds of keyed hashes, all of it in SQL.

Of a source of less than an epoch those candidates are taken whose hash is under a threshold. It is
found from the tokens of 4096 ranges of hashes and the candidates of one of them, so nothing is ever
sorted. Leaves a table `chosen`; what is in depends on `selection_seed` and `prompts_seed` alone.
"""

# N candidates

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cslm_data.catalog import Connection, quoted, read_sql
from cslm_data.keys import key64, md5_key
from cslm_data.mixing.candidates import Pool
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.shares import Share
from cslm_data.mixing.sources import COMPILED
from cslm_data.records import SPLITS

_TRAIN = 0
_RANGE_BITS = 12
_NO_LIMIT = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Stock:
    """What a source has: candidates that make a sample, and those that do not."""

    num_rows: int
    num_usable: int
    tokens: dict[int, int]
    """Of one epoch of each split."""
    reasons: Counter[str]


def see_pools(
    pools: Sequence[Pool], connection: Connection, recipe: Recipe, *, without: Sequence[str] = ()
) -> None:
    """Make a view `pool_<source>` of each source's candidates, and an empty table `chosen`."""
    connection.execute(read_sql("mix_chosen"))
    earlier: dict[tuple[str, str], list[str]] = {}
    for pool in pools:
        source = pool.source
        same = earlier.setdefault((source.task, source.languages), [])
        connection.execute(
            _filled(
                "mix_pool",
                view=view_of(pool),
                task_hash=source.task_hash,
                file=quoted(pool.path),
                prompt_tokens=pool.costs.sql("sample_hash"),
                limit=recipe.max_sample_tokens or _NO_LIMIT,
                left_out=_left_out(pool, without),
                repeated=" or ".join(
                    f"id_hash in (select id_hash from {view} where reason is null)" for view in same
                )
                or "false",
            )
        )
        same.append(view_of(pool))


def view_of(pool: Pool) -> str:
    """Name of the view of a source's candidates."""
    return f"pool_{pool.source.index}"


def take_stock(pool: Pool, connection: Connection) -> Stock:
    """Count the candidates of a source."""
    rows = connection.execute(
        f"select split, reason, count(*), sum(total) from {view_of(pool)} group by split, reason"
    ).fetchall()
    reasons: Counter[str] = Counter()
    for _, reason, number, _ in rows:
        if reason is not None:
            reasons[reason] += number
    usable = [row for row in rows if row[1] is None]
    return Stock(
        num_rows=sum(row[2] for row in rows),
        num_usable=sum(row[2] for row in usable),
        tokens={split: int(tokens) for split, _, _, tokens in usable},
        reasons=reasons,
    )


def choose(pool: Pool, share: Share, connection: Connection, recipe: Recipe) -> None:
    """Put the samples of a source into `chosen`: of train to its target, of the others its cap."""
    left = share.target
    epoch = 0
    while left >= 0.5:
        tokens = _epoch_tokens(pool, connection, epoch)
        if tokens == 0:
            break
        if left < tokens:
            under = _beginning(pool, connection, recipe, epoch, left)
            _take(pool, connection, epoch, f"split = {_TRAIN} and {under}")
            break
        _take(pool, connection, epoch, f"split = {_TRAIN}")
        left -= tokens
        epoch += 1
    for split in range(1, len(SPLITS)):
        _take(
            pool, connection, 0, f"split = {split} and {_capped(pool, connection, recipe, split)}"
        )


def epoch_hash_sql(epoch: int) -> str:
    """`samples.epoch_hash` of a `sample_hash`, in SQL."""
    return f"keyed64(sample_hash, {key64('epoch', str(epoch))})" if epoch else "sample_hash"


def _filled(name: str, **values: object) -> str:
    """A query whose parts are expressions, which cannot be bound."""
    text = read_sql(name)
    for key, value in values.items():
        text = text.replace("{" + key + "}", str(value))
    return text


def _left_out(pool: Pool, without: Sequence[str]) -> str:
    """A predicate for candidates that are made of one of some source rows."""
    if not without:
        return "false"
    if pool.source.task in COMPILED:
        return f"list_has_any(source_ids, [{', '.join(map(quoted, without))}])"
    return f"id_hash in ({', '.join(str(md5_key(name)) for name in without)})"


def _drawn(recipe: Recipe) -> str:
    return f"keyed64(sample_hash, {key64('selection', str(recipe.selection_seed))})"


def _tokens(pool: Pool, epoch: int) -> str:
    return f"num_tokens + {pool.costs.sql(epoch_hash_sql(epoch))}" if epoch else "total"


def _epoch_tokens(pool: Pool, connection: Connection, epoch: int) -> int:
    [(tokens,)] = connection.execute(
        f"select sum({_tokens(pool, epoch)}) from {view_of(pool)} "
        f"where reason is null and split = {_TRAIN}"
    ).fetchall()
    return int(tokens or 0)


def _beginning(
    pool: Pool, connection: Connection, recipe: Recipe, epoch: int, target: float
) -> str:
    """A predicate for as near to `target` tokens as whole samples allow."""
    drawn = _drawn(recipe)
    values = {"view": view_of(pool), "drawn": drawn, "tokens": _tokens(pool, epoch)}
    if pool.source.order_by is not None:
        return _best(connection, target, values)
    shift = 64 - _RANGE_BITS
    ranges = connection.execute(_filled("mix_ranges", shift=shift, **values)).fetchall()
    before, number = 0, 0
    for place, amount in ranges:
        number = int(place)
        if before + int(amount) > target:
            break
        before += int(amount)
    found = connection.execute(
        _filled("mix_range", shift=shift, number=number, **values)
    ).fetchnumpy()
    count = nearest(np.asarray(found["num_tokens"], np.int64), target - before)
    if count:
        return f"{drawn} <= {int(found['drawn'][count - 1])}"
    return f"{drawn} < {number << shift}"


def _best(connection: Connection, target: float, values: dict[str, str]) -> str:
    """The same by quality."""
    found = connection.execute(_filled("mix_best", **values)).fetchnumpy()
    count = nearest(np.asarray(found["num_tokens"], np.int64), target)
    if count == 0:
        return "false"
    quality = "coalesce(quality, '-infinity'::double)"
    bound = f"'{float(found['quality'][count - 1])!r}'::double"
    under = f"{values['drawn']} <= {int(found['drawn'][count - 1])}"
    return f"({quality} > {bound} or ({quality} = {bound} and {under}))"


def nearest(tokens_N: np.ndarray, target: float) -> int:
    """How many of the first samples come nearest to so many tokens."""
    running = np.cumsum(tokens_N)
    count = int(np.searchsorted(running, target, side="right"))
    before = running[count - 1] if count else 0
    if count < len(running) and running[count] - target < target - before:
        count += 1
    return count


def _capped(pool: Pool, connection: Connection, recipe: Recipe, split: int) -> str:
    """A predicate for as many of a held-out split as the recipe wants."""
    cap = recipe.splits.max_per_source
    if cap is None:
        return "true"
    last = connection.execute(
        f"select {_drawn(recipe)} as drawn from {view_of(pool)} "
        f"where reason is null and split = {split} order by drawn limit 1 offset {cap - 1}"
    ).fetchone()
    return "true" if last is None else f"{_drawn(recipe)} <= {last[0]}"


def _take(pool: Pool, connection: Connection, epoch: int, condition: str) -> None:
    connection.execute(
        _filled(
            "mix_take",
            source=pool.source.index,
            epoch=epoch,
            epoch_hash=epoch_hash_sql(epoch),
            tokens=_tokens(pool, epoch),
            view=view_of(pool),
            condition=condition,
        )
    )
