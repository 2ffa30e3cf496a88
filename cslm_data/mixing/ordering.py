"""chosen samples + seed → the order of a mix, and its shards. Fills the table `plan`.

The order is that of a keyed hash of each sample, kept in mix.parquet: no library's sort or random
generator is in it. A curriculum bends where a hash leads, so that a source lies denser where its
weight is larger.
"""

# P points of a curriculum

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cslm_data.catalog import Connection, read_sql, scalar
from cslm_data.keys import key64
from cslm_data.mixing.sources import MixSource
from cslm_data.records import SPLITS

_BINS = 64
"""Parts of a mix in each of which a curriculum's weight counts as constant."""


def put_in_order(
    connection: Connection, sources: Sequence[MixSource], *, seed: int, shard_bytes: int
) -> int:
    """Fill `plan` from `chosen`; how many samples there are."""
    connection.execute(read_sql("mix_plan"))
    first = 0
    for split in range(len(SPLITS)):
        text = read_sql("mix_order").replace("{place}", _place(sources) if split == 0 else "drawn")
        values = {
            "mask": key64("order", str(seed)),
            "split": split,
            "first": first,
            "shard_bytes": shard_bytes,
        }
        connection.execute(text, values)
        first = scalar(connection, "select count(*) from plan")
    return first


def plan_digest(connection: Connection) -> str:
    """Hash of which samples there are, in which order and in which shards."""
    row = connection.execute(
        "select count(*), bit_xor(finalise64(epoch_hash)), "
        "bit_xor(finalise64(xor(epoch_hash, finalise64(ordinal)))), "
        "bit_xor(finalise64(xor(epoch_hash, finalise64(split::ubigint * 4294967296 + shard)))) "
        "from plan"
    ).fetchone()
    return ":".join(str(value) for value in row or ())


def cumulative(curriculum: Sequence[float]) -> list[float]:
    """Share of a source's samples before each of the bins of a mix, and 1 at its end.

    Weights at P points spread evenly, straight lines between them.
    """
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    points_P = np.linspace(0.0, 1.0, len(curriculum))
    middles = (edges[:-1] + edges[1:]) / 2
    masses = np.interp(middles, points_P, np.asarray(curriculum, np.float64))
    running = np.concatenate([[0.0], np.cumsum(masses)])
    return [float(value) for value in running / running[-1]]


def _place(sources: Sequence[MixSource]) -> str:
    """Where along the mix a sample comes, as an expression over `drawn` and `source`."""
    cases = []
    for source in sources:
        if source.curriculum is not None:
            steps = ", ".join(repr(value) for value in cumulative(source.curriculum))
            cases.append(f"when {source.index} then along([{steps}], drawn)")
    return f"case source {' '.join(cases)} else drawn end" if cases else "drawn"
