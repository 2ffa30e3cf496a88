"""Measures from the decode that quantize does anyway. Reads plans of units, writes measures/.

For a plan of units `plan-0000` of a tokenizer there is, where anything in it is to be measured, a
plan of measures `plan-<tokenizer_id>-0000` with the same indices, and its parts are named after it.
So a part of units and its measures find each other by name, whichever of the two a kill prevented:
measures whose units are done are taken by themselves.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import logging
from collections.abc import Iterator

import pyarrow as pa

from cslm_data.catalog import Connection, open_catalog, read_sql
from cslm_data.errors import LockedError
from cslm_data.storage import Folder, LocalFolder
from cslm_data.units.encoding import Job
from cslm_data.units.parts import (
    PARTS,
    PLANS,
    Part,
    forget_rejected,
    list_plans,
    missing_parts,
    unfinished_parts,
    write_plan,
)
from cslm_data.units.stretches import Stretch
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)


@contextlib.contextmanager
def measures_folder(workspace: Workspace, *, wanted: bool) -> Iterator[LocalFolder | None]:
    """The folder of measures, locked; None where they are not wanted or others write there."""
    with contextlib.ExitStack() as stack:
        if wanted:
            try:
                stack.enter_context(workspace.lock("measures", "quantize"))
            except LockedError as error:
                log.warning(
                    "nothing is measured on the way (%s); measure it later: cslm-data measure",
                    error,
                )
                wanted = False
        if not wanted:
            yield None
            return
        folder = LocalFolder(workspace.measures)
        folder.prepare()
        yield folder
        folder.remove_leftovers()


def prepare_alongside(
    workspace: Workspace, units: Folder, measures: Folder, tokenizer_id: str, *, retry: bool
) -> None:
    """Plan the measures of what waits to be encoded and was not measured yet.

    With `retry`, what was refused beside units of this tokenizer is to be measured again.
    """
    if retry:
        forget_rejected(measures, _beside(PARTS, glob.escape(tokenizer_id)))
    there = set(list_plans(measures))
    waiting = {
        plan: indices
        for plan, indices in missing_parts(units).items()
        if _beside(plan, tokenizer_id) not in there
    }
    if not waiting:
        return
    with open_catalog(workspace, doing="quantize") as connection:
        for plan, indices in waiting.items():
            rows = _unmeasured(connection, f"{units.sql_address}/{plan}", list(indices))
            first = next(rows, None)
            if first is not None:
                parts = itertools.groupby(itertools.chain([first], rows), key=lambda row: row[0])
                write_plan(
                    measures,
                    _beside(plan, tokenizer_id),
                    ((index, [stretch for _, stretch in group]) for index, group in parts),
                )


def jobs(units: Folder, measures: Folder | None, tokenizer_id: str) -> Iterator[Job]:
    """Everything that is planned and not done: units, with their measures, and measures alone."""
    beside: Iterator[Part] = iter(())
    if measures is not None:
        beside = unfinished_parts(measures, _beside(PLANS, glob.escape(tokenizer_id)))
    following = next(beside, None)
    for part in unfinished_parts(units):
        place = (_beside(part.plan, tokenizer_id), part.index)
        # Both come by plan and index, so what is passed by has no units to wait for.
        while following is not None and (following.plan, following.index) < place:
            yield Job(units=None, measures=following)
            following = next(beside, None)
        with_it: Part | None = None
        if following is not None and (following.plan, following.index) == place:
            with_it, following = following, next(beside, None)
        yield Job(units=part, measures=with_it)
    while following is not None:
        yield Job(units=None, measures=following)
        following = next(beside, None)


def _unmeasured(
    connection: Connection, plan: str, indices: list[int]
) -> Iterator[tuple[int, Stretch]]:
    """Stretches of some parts of a plan that have no measures, each with the index of its part."""
    connection.register("waiting", pa.table({"part": pa.array(indices, pa.uint32())}))
    query = read_sql("measure_alongside").replace("{plan}", plan.replace("'", "''"))
    rows = connection.execute(query)
    for part, *columns in iter(rows.fetchone, None):
        yield part, Stretch(*columns)


def _beside(name: str, tokenizer_id: str) -> str:
    """`plan-0002.parquet` of a tokenizer's units → the plan of measures that goes with it."""
    kind, rest = name.split("-", 1)
    return f"{kind}-{tokenizer_id}-{rest}"
