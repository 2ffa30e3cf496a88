"""Rows that say or sound the same → one of them. Reads the catalog's views, writes `exclusions`."""

from __future__ import annotations

import typing
from typing import Literal

from cslm_data.catalog import Connection, read_sql, scalar
from cslm_data.curating.curation import CurationSummary, TableName, choose, move, open_for
from cslm_data.errors import MissingArtefactError, UsageError
from cslm_data.workspace import Workspace

By = Literal["text", "audio"]
Within = Literal["speaker", "corpus", "language", "all"]
Keep = Literal["first", "longest", "best-snr"]

_REASONS = {"text": "duplicate_text", "audio": "duplicate_audio"}


def dedup(
    workspace: Workspace,
    *,
    table: TableName = "utterances",
    by: By = "text",
    within: Within | None = None,
    keep: Keep = "first",
    keep_max: int = 1,
    dry_run: bool = False,
) -> CurationSummary:
    """Keep `keep_max` of the rows that are the same, and move the others out as duplicates.

    `by` text compares normalised sentences (of a pair both, of a dialogue every turn), audio the
    decoded samples where they were measured, else fingerprint and stretch of the recording.
    `within` says which rows are compared at all: those of one speaker of a corpus (utterances by
    text), one language (pairs and dialogues), or all (audio), unless it is said. Which one is kept
    never depends on the order of reading. Raises UsageError, MissingArtefactError, LockedError.
    """
    within = within or _default_within(table, by)
    _check(table, by, within, keep, keep_max)
    text = read_sql("dedup_choose").replace("{rows}", read_sql(f"dedup_{table}_{by}"))
    how = f"by {by} within {within}, keep {keep_max} {keep}"
    with open_for(workspace, dry_run=dry_run, doing="cslm-data dedup") as connection:
        if keep == "best-snr":
            _require_measures(connection)
        choose(connection, text, {"keep": keep, "within": within, "keep_max": keep_max})
        return move(connection, "dedup", table, predicate=how, reason=_REASONS[by], dry_run=dry_run)


def _default_within(table: TableName, by: By) -> Within:
    if by == "audio":
        return "all"
    return "speaker" if table == "utterances" else "language"


def _check(table: TableName, by: By, within: Within, keep: Keep, keep_max: int) -> None:
    for option, value, known in (
        ("--by", by, typing.get_args(By)),
        ("--within", within, typing.get_args(Within)),
        ("--keep", keep, typing.get_args(Keep)),
    ):
        if value not in known:
            raise UsageError(f"{option} {value}: there are {', '.join(known)}")
    if keep_max < 1:
        raise UsageError(f"--keep-max {keep_max}: must be 1 or more; to move all out, use filter")
    if table == "utterances":
        return
    if by == "audio":
        raise UsageError(f"--by audio: {table} have no audio of their own; use --table utterances")
    if within == "speaker":
        raise UsageError(f"--within speaker: {table} have no speaker; use corpus, language or all")
    if keep != "first":
        raise UsageError(f"--keep {keep}: {table} have neither length nor SNR; use first")


def _require_measures(connection: Connection) -> None:
    if scalar(connection, "select 1 from measures limit 1") is None:
        raise MissingArtefactError(
            "--keep best-snr: no audio has been measured yet; run: cslm-data measure"
        )
