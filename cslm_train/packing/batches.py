"""Pack plan + seed + stretches → runs/<run>/batches-*.parquet: what each step of a run reads.

Written anew at every start, from what `run.json` says of the earlier ones: the rows of steps that
were taken stay as they were, those of the steps to come follow from the number of processes now.
"""

# P packs, T packs read by a run

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.workspace import atomic_path
from cslm_train.packing.assign import Integers, epoch_order, place_in_step
from cslm_train.packing.plan import PackPlan
from cslm_train.packing.stretches import Stretch


def write_batches(
    run_dir: Path,
    plan: PackPlan,
    *,
    seed: int,
    shuffle_packs: int | None,
    num_steps: int,
    stretches: Sequence[Stretch],
) -> None:
    """Write which step, rank and micro-batch reads which sample: one file for each epoch."""
    total = stretches[-1].packs_before(num_steps)
    num_epochs = -(-total // plan.num_packs)
    for epoch in range(num_epochs):
        first = epoch * plan.num_packs
        reads_T = np.arange(first, min(first + plan.num_packs, total))
        order_P = epoch_order(plan.num_packs, seed=seed, epoch=epoch, shuffle_packs=shuffle_packs)
        packs_T = order_P[: len(reads_T)]
        places = _places(reads_T, stretches)
        sizes_T = np.diff(plan.starts_P)[packs_T]
        step, rank, micro_batch, pack_id = (
            np.repeat(column, sizes_T) for column in (*places, packs_T)
        )
        table = pa.table(
            {
                "step": pa.array(step, pa.uint64()),
                "rank": pa.array(rank, pa.uint32()),
                "micro_batch": pa.array(micro_batch, pa.uint32()),
                "pack_id": pa.array(pack_id, pa.uint32()),
                "key": plan.keys.take(plan.rows_of(packs_T)),
            }
        )
        with atomic_path(run_dir / f"batches-{epoch:06d}.parquet") as temporary:
            pq.write_table(table, temporary)
    for path in run_dir.glob("batches-*.parquet"):
        if int(path.stem.removeprefix("batches-")) >= num_epochs:
            path.unlink()


def _places(reads_T: Integers, stretches: Sequence[Stretch]) -> tuple[Integers, ...]:
    """Step, rank and micro-batch of each read, each by the stretch that it lies in."""
    ends = [following.first_pack for following in stretches[1:]]
    columns: list[tuple[Integers, ...]] = []
    for stretch, end in zip(stretches, [*ends, None], strict=True):
        inside = reads_T >= stretch.first_pack
        if end is not None:
            inside &= reads_T < end
        step, rank, micro_batch = place_in_step(
            reads_T[inside] - stretch.first_pack,
            num_ranks=stretch.num_processes,
            accumulation=stretch.accumulation,
        )
        columns.append((step + stretch.first_step, rank, micro_batch))
    return tuple(np.concatenate(column) for column in zip(*columns, strict=True))
