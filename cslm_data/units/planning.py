"""Catalog → plans: what no plan of a folder holds yet. Reads the catalog, writes plan-*.parquet.

Apart from parts.py, so that workers start without the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cslm_data.catalog import Connection, read_sql, run_over_files, scalar
from cslm_data.storage import Folder
from cslm_data.units.parts import list_plans, write_plan
from cslm_data.units.stretches import Stretch

log = logging.getLogger(__name__)

_FETCH = 10_000


def show_planned(connection: Connection, folder: Folder) -> None:
    """Make the view `planned`: what the plans of a folder hold."""
    if list_plans(folder):
        run_over_files(connection, "quantize_planned", f"{folder.sql_address}/plan-*.parquet")
    else:
        connection.execute(read_sql("quantize_planned_none"))


def plan_rest(
    connection: Connection,
    folder: Folder,
    query: str,
    *,
    part_seconds: Callable[[float], float],
) -> None:
    """Write a plan of the stretches that a query gives, in its order; none if it gives none.

    `part_seconds` says how long a part is, from the seconds of them all.
    """
    total_s = scalar(connection, f"select sum(duration_s) from ({query})")
    if total_s is None:
        return
    rows = connection.execute(query)
    batches = iter(lambda: rows.fetchmany(_FETCH), [])
    stretches = (Stretch(*row) for batch in batches for row in batch)
    plan = write_plan(folder, stretches, part_seconds(total_s))
    log.info("planned %.2f hours of speech: %s/%s", total_s / 3600, folder.address, plan)
