"""Utterances → what their recordings are like. Reads the catalog and its audio, writes measures/.

Step 1  plan the utterances that no plan holds: cut into parts by seconds of audio, written first
Step 2  decode the parts that are missing, of this plan and of earlier ones, quantize's too: each a
        Parquet file under a temporary name, renamed when whole
Step 3  count: in = out + rejected + already

Workers decode and count; what they found comes back and is written here, so that the measures lie
in the workspace wherever the workers are.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import pyarrow as pa

from cslm_data.catalog import open_catalog, read_sql, run_over_files, scalar
from cslm_data.engines import RunParts, load_engine
from cslm_data.measuring.hearing import MEASURE_COLUMNS, make_measurer
from cslm_data.progress import progress
from cslm_data.storage import LocalFolder
from cslm_data.units.parts import (
    PARTS,
    count_unfinished,
    forget_rejected,
    list_parts,
    unfinished_parts,
    write_part,
)
from cslm_data.units.planning import check_work, plan_new, require_speech
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

CLIPPED_SHARE = 0.001
"""A recording counts as clipped from this share of its samples on."""
NARROW_HZ = 7000.0
"""It counts as narrow under this bandwidth: extractors hear up to 8000 Hz."""


@dataclass(frozen=True, kw_only=True)
class MeasuredGroup:
    """The measured speech of a corpus in one language."""

    corpus: str
    language: str
    num_utterances: int
    hours: float
    median_rms_db: float
    median_snr_db: float | None
    median_bandwidth_hz: float | None
    median_silence_share: float
    num_clipped: int
    num_narrow: int
    num_silent: int
    """Silent from end to end."""


@dataclass(frozen=True, kw_only=True)
class MeasureSummary:
    """What the workspace now knows of its recordings. in = out + rejected + already."""

    num_in: int
    """Utterances of the catalog."""
    num_out: int
    """Measured by this run."""
    num_rejected: int
    """Refused with their audio as it is, by this run or an earlier one."""
    num_already: int
    """Measured by an earlier run, or while they were quantized."""
    reject_reasons: dict[str, int]
    groups: tuple[MeasuredGroup, ...]
    elapsed_s: float


def measure(
    workspace: Workspace,
    *,
    num_workers: int | None = None,
    part_seconds: float | None = None,
    engine: str = "local",
    retry_rejected: bool = False,
) -> MeasureSummary:
    """Measure every utterance of the catalog that was not measured with its audio as it is.

    What was refused is tried again only with `retry_rejected`. Raises MissingArtefactError,
    NoDataError, UsageError, LockedError.
    """
    start = time.monotonic()
    check_work(part_seconds, num_workers)
    require_speech(workspace, "measure")
    run_parts = load_engine(engine)
    with workspace.lock("measures", "measure"):
        folder = LocalFolder(workspace.measures)
        folder.prepare()
        if retry_rejected:
            log.info("%d parts with refused utterances are done again", forget_rejected(folder))
        earlier = list_parts(folder)
        plan_new(workspace, folder, part_seconds, doing="measure")
        _measure_planned(folder, run_parts, num_workers)
        folder.remove_leftovers()
        return _summarise(workspace, folder, earlier, start)


def has_speech(workspace: Workspace) -> bool:
    """Whether there is anything to measure. Raises MissingArtefactError without a catalog."""
    with open_catalog(workspace, doing="measure") as connection:
        return bool(scalar(connection, "select count(*) from utterances"))


def _measure_planned(folder: LocalFolder, run_parts: RunParts, num_workers: int | None) -> None:
    """Write every planned part that has no file yet, whoever planned it."""
    with progress("measure", total=count_unfinished(folder), unit="utt") as bar:
        for part, rows in run_parts(unfinished_parts(folder), make_measurer, num_workers):
            write_part(folder, part.name, rows, MEASURE_COLUMNS)
            bar.advance(len(rows))


def _summarise(
    workspace: Workspace, folder: LocalFolder, earlier: list[str], start: float
) -> MeasureSummary:
    with open_catalog(workspace, doing="measure") as connection:
        run_over_files(connection, "measure_parts", f"{folder.sql_address}/{PARTS}")
        connection.register("earlier", pa.table({"part": pa.array(earlier, pa.string())}))
        counts = connection.execute(read_sql("measure_counts")).fetchall()
        limits = {"clipped_share": CLIPPED_SHARE, "narrow_hz": NARROW_HZ}
        groups = connection.execute(read_sql("measure_groups"), limits).fetchall()
    reasons: dict[str, int] = {}
    num_out = num_already = 0
    for reason, is_earlier, number in counts:
        if reason:
            reasons[reason] = reasons.get(reason, 0) + number
        elif is_earlier:
            num_already += number
        else:
            num_out += number
    num_rejected = sum(reasons.values())
    names = MeasuredGroup.__dataclass_fields__
    return MeasureSummary(
        num_in=num_out + num_rejected + num_already,
        num_out=num_out,
        num_rejected=num_rejected,
        num_already=num_already,
        reject_reasons=dict(sorted(reasons.items())),
        groups=tuple(MeasuredGroup(**dict(zip(names, row, strict=True))) for row in groups),
        elapsed_s=time.monotonic() - start,
    )
