"""Catalog → plans: what no plan of a folder holds yet. Reads the catalog, writes plan-*.parquet.

Apart from parts.py, so that workers start without the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cslm_data.catalog import Connection, open_catalog, read_sql, run_over_files, scalar
from cslm_data.errors import NoDataError, UsageError
from cslm_data.storage import Folder
from cslm_data.units.parts import list_plans, next_plan, write_plan
from cslm_data.units.stretches import Stretch, cut_by_seconds
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

_FETCH = 10_000
_PART_S = (60.0, 3600.0)
_PARTS_WANTED, _PARTS_AT_MOST = 64, 4096


def check_work(part_seconds: float | None, num_workers: int | None) -> None:
    """Raise UsageError for parts or workers that there cannot be."""
    if part_seconds is not None and part_seconds <= 0:
        raise UsageError(f"--part-seconds {part_seconds}: must be more than 0")
    if num_workers is not None and num_workers < 1:
        raise UsageError(f"--num-workers {num_workers}: must be 1 or more")


def require_speech(workspace: Workspace, doing: str) -> None:
    """Raise NoDataError for a catalog without speech."""
    with open_catalog(workspace, doing=doing) as connection:
        if not connection.execute(read_sql("quantize_speech")).fetchall():
            raise NoDataError(
                f"{workspace.root}: the catalog has no speech to {doing}; ingest some first: "
                "cslm-data ingest FOLDER"
            )


def plan_new(
    workspace: Workspace, folder: Folder, part_seconds: float | None, *, doing: str
) -> None:
    """Write a plan of the speech that no plan of a folder holds yet, if there is any."""

    def size(total_s: float) -> float:
        return part_seconds or default_part_s(total_s)

    with open_catalog(workspace, doing=doing) as connection:
        show_planned(connection, folder)
        connection.execute(read_sql("quantize_todo"))
        plan_rest(connection, folder, read_sql("quantize_order"), part_seconds=size)


def default_part_s(total_s: float) -> float:
    """A minute to an hour of audio: parts enough for many workers, not too many for a folder."""
    least, most = _PART_S
    return float(max(min(max(total_s / _PARTS_WANTED, least), most), total_s / _PARTS_AT_MOST))


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
    with_text: bool = False,
) -> None:
    """Write a plan of the stretches that a query gives, in its order; none if it gives none.

    `part_seconds` says how long a part is, from the seconds of them all. `with_text`: the query
    gives the transcripts, too, as its last column.
    """
    total_s = scalar(connection, f"select sum(duration_s) from ({query})")
    if total_s is None:
        return
    rows = connection.execute(query)
    batches = iter(lambda: rows.fetchmany(_FETCH), [])
    stretches = (Stretch(*row) for batch in batches for row in batch)
    plan = next_plan(folder)
    parts = enumerate(cut_by_seconds(stretches, part_seconds(total_s)))
    write_plan(folder, plan, parts, with_text=with_text)
    log.info("planned %.2f hours of speech: %s/%s", total_s / 3600, folder.address, plan)
