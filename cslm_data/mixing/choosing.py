"""candidates + shares → which samples are in, by thresholds of keyed hashes, all of it in SQL.

A source of less than an epoch gives the candidates whose hash is under a threshold. It is found from
the tokens of 4096 ranges of hashes and the candidates of one of them, so nothing is ever sorted.
Leaves a table `chosen`; which samples are in depends on `selection_seed` and `prompts_seed` alone.
"""

# S sources

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cslm_data.catalog import Connection
from cslm_data.keys import key64, md5_key
from cslm_data.mixing.candidates import Pool
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.shares import Share
from cslm_data.mixing.sources import COMPILED
from cslm_data.records import SPLITS

_TRAIN = 0
_RANGE_BITS = 12

CHOSEN = """
create or replace temp table chosen (
    source usmallint,
    epoch usmallint,
    split utinyint,
    id_hash ubigint,
    epoch_hash ubigint,
    num_tokens uinteger,
    num_units uinteger,
    num_bytes ubigint,
)
"""


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
    """Make a view `pool_<source>` of each source's candidates, with the reason of the refused."""
    earlier: dict[tuple[str, str], list[int]] = {}
    for pool in pools:
        source = pool.source
        same = earlier.setdefault((source.task, source.languages), [])
        twice = " or ".join(
            f"id_hash in (select id_hash from pool_{i} where reason is null)" for i in same
        )
        limit = recipe.max_sample_tokens
        tokens = f"num_tokens + {pool.costs.sql('sample_hash')}"
        compiled = source.task in COMPILED
        left_out = _left_out(pool, without)
        file = str(pool.path).replace("'", "''")
        connection.execute(
            f"create or replace temp view pool_{source.index} as "
            f"select *, {tokens} as total, case when reject_reason is not null then reject_reason "
            + (f"when {tokens} > {limit} then 'too_long' " if limit is not None else "")
            + (f"when {left_out} then 'left_out' " if left_out else "")
            + (f"when {twice} then 'duplicate' " if twice else "")
            + "end as reason from (select id_hash, "
            f"keyed64(id_hash, {source.task_hash}) as sample_hash, num_tokens, num_units, "
            f"num_bytes, split, quality, reject_reason, reject_detail{', source_ids' if compiled else ''} from read_parquet('{file}'))"
        )
        same.append(source.index)


def _left_out(pool: Pool, without: Sequence[str]) -> str:
    """A predicate for candidates that are made of one of some source rows."""
    if not without:
        return ""
    if pool.source.task in COMPILED:
        ids = ", ".join("'" + name.replace("'", "''") + "'" for name in without)
        return f"list_has_any(source_ids, [{ids}])"
    return f"id_hash in ({', '.join(str(md5_key(name)) for name in without)})"


def take_stock(pool: Pool, connection: Connection) -> Stock:
    """Count the candidates of a source."""
    rows = connection.execute(
        f"select split, reason, count(*), sum(total) from pool_{pool.source.index} group by all"
    ).fetchall()
    usable = [row for row in rows if row[1] is None]
    return Stock(
        num_rows=sum(row[2] for row in rows),
        num_usable=sum(row[2] for row in usable),
        tokens={split: int(tokens) for split, _, _, tokens in usable},
        reasons=sum((Counter({reason: n}) for _, reason, n, _ in rows if reason), Counter()),
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
            taken = _beginning(pool, connection, recipe, epoch, left)
            _insert(pool, connection, epoch, f"split = {_TRAIN} and {taken}")
            break
        _insert(pool, connection, epoch, f"split = {_TRAIN}")
        left -= tokens
        epoch += 1
    for split in range(1, len(SPLITS)):
        cap = recipe.splits.max_per_source
        if cap is None:
            _insert(pool, connection, 0, f"split = {split}")
            continue
        last = connection.execute(
            f"select {_selecting(recipe)} as drawn from pool_{pool.source.index} "
            f"where reason is null and split = {split} order by drawn limit 1 offset {cap - 1}"
        ).fetchone()
        under = f" and {_selecting(recipe)} <= {last[0]}" if last else ""
        _insert(pool, connection, 0, f"split = {split}{under}")


def epoch_hash_sql(epoch: int) -> str:
    """`samples.epoch_hash` of a `sample_hash` in SQL."""
    return f"keyed64(sample_hash, {key64('epoch', str(epoch))})" if epoch else "sample_hash"


def _selecting(recipe: Recipe) -> str:
    return f"keyed64(sample_hash, {key64('selection', str(recipe.selection_seed))})"


def _tokens(pool: Pool, epoch: int) -> str:
    return f"num_tokens + {pool.costs.sql(epoch_hash_sql(epoch))}" if epoch else "total"


def _epoch_tokens(pool: Pool, connection: Connection, epoch: int) -> int:
    [(tokens,)] = connection.execute(
        f"select sum({_tokens(pool, epoch)}) from pool_{pool.source.index} "
        f"where reason is null and split = {_TRAIN}"
    ).fetchall()
    return int(tokens or 0)


def _beginning(
    pool: Pool, connection: Connection, recipe: Recipe, epoch: int, target: float
) -> str:
    """A predicate for as near to `target` tokens as whole samples allow."""
    drawn, tokens = _selecting(recipe), _tokens(pool, epoch)
    rows = f"pool_{pool.source.index} where reason is null and split = {_TRAIN}"
    if pool.source.order_by is not None:
        return _best(connection, rows, drawn, tokens, target)
    shift = 64 - _RANGE_BITS
    ranges = connection.execute(
        f"select {drawn} >> {shift} as r, sum({tokens}) from {rows} group by r order by r"
    ).fetchall()
    before = 0
    for number, amount in ranges:
        if before + int(amount) > target:
            break
        before += int(amount)
    found = connection.execute(
        f"select {drawn} as drawn, {tokens} as tokens from {rows} and {drawn} >> {shift} = {number} "
        "order by drawn"
    ).fetchnumpy()
    count = _nearest(np.asarray(found["tokens"], np.int64), target - before)
    if count:
        return f"{drawn} <= {int(found['drawn'][count - 1])}"
    return f"{drawn} < {int(number) << shift}"


def _best(connection: Connection, rows: str, drawn: str, tokens: str, target: float) -> str:
    """The same by quality: the largest first, null last, equals by their hash."""
    quality = "coalesce(quality, '-infinity'::double)"
    found = connection.execute(
        f"select {quality} as q, {drawn} as drawn, {tokens} as tokens from {rows} "
        "order by q desc, drawn"
    ).fetchnumpy()
    count = _nearest(np.asarray(found["tokens"], np.int64), target)
    if count == 0:
        return "false"
    last = float(found["q"][count - 1])
    bound = f"'{last!r}'::double"
    under = f"{drawn} <= {int(found['drawn'][count - 1])}"
    return f"({quality} > {bound} or ({quality} = {bound} and {under}))"


def _nearest(tokens_N: np.ndarray, target: float) -> int:
    """How many of the first samples come nearest to so many tokens."""
    running = np.cumsum(tokens_N)
    count = int(np.searchsorted(running, target, side="right"))
    before = running[count - 1] if count else 0
    if count < len(running) and running[count] - target < target - before:
        count += 1
    return count


def _insert(pool: Pool, connection: Connection, epoch: int, condition: str) -> None:
    connection.execute(
        f"insert into chosen select {pool.source.index}, {epoch}, split, id_hash, "
        f"{epoch_hash_sql(epoch)}, {_tokens(pool, epoch)}, num_units, num_bytes "
        f"from pool_{pool.source.index} where reason is null and {condition}"
    )
