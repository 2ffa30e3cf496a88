"""Pack plan + seed → runs/<run>/batches-*.parquet: what each step of a run reads."""

# P packs, T packs read by a run

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.workspace import atomic_path
from cslm_train.packing.assign import epoch_order, place_in_step
from cslm_train.packing.plan import PackPlan


def write_batches(
    run_dir: Path,
    plan: PackPlan,
    *,
    seed: int,
    num_steps: int,
    num_ranks: int,
    accumulation: int,
) -> None:
    """Write which step, rank and micro-batch reads which sample: one file for each epoch."""
    total = num_steps * num_ranks * accumulation
    for epoch in range(-(-total // plan.num_packs)):
        first = epoch * plan.num_packs
        reads_T = np.arange(first, min(first + plan.num_packs, total))
        packs_T = epoch_order(plan.num_packs, seed=seed, epoch=epoch)[: len(reads_T)]
        places = place_in_step(reads_T, num_ranks=num_ranks, accumulation=accumulation)
        sizes_T = np.diff(plan.starts_P)[packs_T]
        rows = [row for p in packs_T for row in range(plan.starts_P[p], plan.starts_P[p + 1])]
        step, rank, micro_batch, pack_id = (
            np.repeat(column, sizes_T) for column in (*places, packs_T)
        )
        table = pa.table(
            {
                "step": pa.array(step, pa.uint64()),
                "rank": pa.array(rank, pa.uint32()),
                "micro_batch": pa.array(micro_batch, pa.uint32()),
                "pack_id": pa.array(pack_id, pa.uint32()),
                "key": pa.array([plan.keys[row] for row in rows], pa.string()),
            }
        )
        with atomic_path(run_dir / f"batches-{epoch:06d}.parquet") as temporary:
            pq.write_table(table, temporary)
