"""Rows of the catalog out of the way, with a reason, and back. Writes `exclusions`.

Nothing is deleted: `all_utterances`, `all_bitext` and `all_dialogues` keep every row; the views
that all later steps read leave out what was moved; reading a source again moves nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from cslm_data.catalog import Connection, confine, open_catalog, read_sql, scalar
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.statements import Predicate, parse_predicate
from cslm_data.workspace import Workspace

TableName = Literal["utterances", "bitext", "dialogues"]


@dataclass(frozen=True, kw_only=True)
class CuratedTable:
    """How the rows of a table are named and counted: names and SQL over its view."""

    id: str
    language: str
    seconds: str


TABLES: dict[TableName, CuratedTable] = {
    "utterances": CuratedTable(id="utt_id", language="language", seconds="duration_s"),
    "bitext": CuratedTable(id="pair_id", language="src_lang || '-' || tgt_lang", seconds="0.0"),
    "dialogues": CuratedTable(id="dialogue_id", language="language", seconds="0.0"),
}

_OF_UNITS = frozenset({"num_units", "units_per_s"})
_OF_MEASURES = frozenset(
    {
        *("num_samples", "decoded_s", "rms_db", "peak", "clipped_share", "dc_offset"),
        *("leading_silence_s", "trailing_silence_s", "silence_share", "snr_db"),
        *("bandwidth_hz", "samples_hash"),
    }
)
_OF_LANGUAGES = frozenset(
    {"detected_language", "detected_confidence", "src_detected", "tgt_detected"}
)


@dataclass(frozen=True, kw_only=True)
class MovedRows:
    """What was moved out of one corpus and language."""

    corpus: str
    language: str
    num_rows: int
    num_before: int
    """Rows that it had."""
    hours: float


@dataclass(frozen=True, kw_only=True)
class CurationSummary:
    """What a filter or dedup moved out, or would."""

    curation_id: int | None
    """None: nothing was moved, for want of rows or because only asked."""
    kind: str
    table: str
    predicate: str
    reason: str
    num_rows: int
    hours: float
    moved: tuple[MovedRows, ...]


@dataclass(frozen=True, kw_only=True)
class Curation:
    """One row of `curations`."""

    curation_id: int
    kind: str
    table_name: str
    predicate: str
    reason: str
    num_rows: int
    undone: bool


def filter_rows(
    workspace: Workspace,
    predicate: str,
    *,
    reason: str,
    table: TableName = "utterances",
    tokenizer: str | None = None,
    dry_run: bool = False,
) -> CurationSummary:
    """Move out the rows for which a predicate holds; docs/curation.md lists its columns.

    `tokenizer` says whose `num_units` and `units_per_s` are meant. Raises UsageError for what is no
    predicate, MissingArtefactError where it asks for what was not computed yet, LockedError.
    """
    if not reason.strip():
        raise UsageError("--reason: say why, in a few words; it is kept with the rows")
    wanted = parse_predicate(predicate, where="filter")
    query = read_sql(f"curate_{table}").replace("({where})", f"({wanted.text}\n)")
    with open_for(workspace, dry_run=dry_run, doing="cslm-data filter") as connection:
        _require_computed(connection, wanted)
        parameters = {}
        if table == "utterances":
            parameters["tokenizer_id"] = _tokenizer_of(connection, wanted, tokenizer)
        try:
            choose(connection, query, parameters)
        except (MemoryError, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            why = str(error).split("\n\nLINE")[0].strip()  # of our SQL, not of the predicate
            raise UsageError(f"filter {predicate!r}: {why}") from None
        return move(
            connection, "filter", table, predicate=predicate, reason=reason, dry_run=dry_run
        )


@contextmanager
def open_for(workspace: Workspace, *, dry_run: bool, doing: str) -> Iterator[Connection]:
    """The catalog, for writing unless only asked; SQL of a person sees the workspace alone."""
    if not workspace.catalog.exists():
        raise MissingArtefactError(
            f"{workspace.root}: no catalog here; begin with: cslm-data ingest FOLDER "
            "(or name another place with --workspace)"
        )
    with open_catalog(workspace, write=not dry_run, doing=doing) as connection:
        confine(connection, workspace)
        yield connection


def _tokenizer_of(connection: Connection, predicate: Predicate, name: str | None) -> str | None:
    """The tokenizer whose units a predicate asks for; None where it asks for none."""
    if name is None and not predicate.columns & _OF_UNITS:
        return None
    there = connection.execute("select name, tokenizer_id from tokenizers order by name").fetchall()
    found = {row[1] for row in there if name is None or name in row}
    if not there:
        raise MissingArtefactError(
            "filter: num_units and units_per_s need units; run: cslm-data quantize"
        )
    if len(found) != 1:
        names = ", ".join(row[0] for row in there)
        said = "whose units are meant?" if name is None else f"no such tokenizer: {name};"
        raise UsageError(f"filter: {said} Name it with --tokenizer; there are: {names}")
    return str(found.pop())


def _require_computed(connection: Connection, predicate: Predicate) -> None:
    """Raise MissingArtefactError for a column that would be null in every row."""
    for columns, view, command in (
        (_OF_MEASURES, "measures", "cslm-data measure"),
        (_OF_LANGUAGES, "text_languages", "cslm-data measure"),
    ):
        asked = sorted(predicate.columns & columns)
        if asked and scalar(connection, f"select 1 from {view} limit 1") is None:
            raise MissingArtefactError(
                f"filter: {', '.join(asked)} was not computed for any row yet; run: {command}"
            )


def choose(connection: Connection, query: str, parameters: dict[str, Any]) -> None:
    """Make the table `chosen` (id, duplicate_of) of what a query gives."""
    connection.execute(f"create or replace temp table chosen as {query}", parameters)


def move(
    connection: Connection,
    kind: str,
    table: TableName,
    *,
    predicate: str,
    reason: str,
    dry_run: bool,
) -> CurationSummary:
    """Note what the table `chosen` holds as moved out, in one transaction."""
    how = TABLES[table]
    text = read_sql("curate_counts")
    for name, value in (
        ("{table}", table),
        ("{id}", how.id),
        ("{language}", how.language),
        ("{seconds}", how.seconds),
    ):
        text = text.replace(name, value)
    moved = tuple(
        MovedRows(corpus=corpus, language=language, num_rows=rows, num_before=before, hours=hours)
        for corpus, language, rows, before, hours in connection.execute(text).fetchall()
    )
    num_rows = sum(row.num_rows for row in moved)
    curation_id = None
    if num_rows and not dry_run:
        curation_id = 1 + (scalar(connection, "select max(curation_id) from curations") or 0)
        with _transaction(connection):
            connection.execute(
                "insert into curations values (?, ?, ?, ?, ?, ?, false)",
                [curation_id, kind, table, predicate, reason, num_rows],
            )
            connection.execute(
                "insert into exclusions select ?, ?, id, duplicate_of from chosen order by id",
                [curation_id, table],
            )
    return CurationSummary(
        curation_id=curation_id,
        kind=kind,
        table=table,
        predicate=predicate,
        reason=reason,
        num_rows=num_rows,
        hours=sum(row.hours for row in moved),
        moved=moved,
    )


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("begin transaction")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


# ------------------------------------------------------------------------- what was done, undone
def list_curations(workspace: Workspace) -> list[Curation]:
    """Every filter and dedup, the newest first."""
    with open_catalog(workspace, doing="list curations") as connection:
        return _history(connection)


def undo(workspace: Workspace, which: str) -> Curation:
    """Bring back what a curation moved out; `which` is its number, or `last`.

    What another one moved out as well stays out. Raises UsageError, NoDataError, LockedError.
    """
    with open_for(workspace, dry_run=False, doing="undo a curation") as connection:
        history = _history(connection)
        standing = [each for each in history if not each.undone]
        if which == "last":
            if not standing:
                raise NoDataError("--undo last: nothing is moved out")
            chosen = standing[0]
        else:
            found = [each for each in history if str(each.curation_id) == which]
            if not found:
                numbers = ", ".join(str(each.curation_id) for each in standing) or "none"
                raise UsageError(
                    f"--undo {which}: no such filter or dedup; there are: {numbers} "
                    "(see: cslm-data filter --list)"
                )
            chosen = found[0]
            if chosen.undone:
                raise UsageError(f"--undo {which}: was undone already")
        connection.execute(
            "update curations set undone = true where curation_id = ?", [chosen.curation_id]
        )
    return chosen


def _history(connection: Connection) -> list[Curation]:
    rows = connection.execute(read_sql("curate_history")).fetchall()
    return [Curation(**dict(zip(Curation.__annotations__, row, strict=True))) for row in rows]
