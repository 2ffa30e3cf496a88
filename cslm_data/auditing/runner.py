"""Audits + catalog → results. Each audit's findings are a temporary table, never fetched whole.

Step 1: a read-only connection gets the words of audit_words.sql and what the user asked for.
Step 2: it is confined to the workspace's files; what does not fit into memory spills to its disk.
Step 3: each query fills a table; its count, its first rows and the hours it names are read.
An audit that cannot be asked, or is broken, is a result too: it does not hide the others'.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import duckdb

from cslm_data.auditing import inputs
from cslm_data.auditing.files import Audit, choose, find_files, read_audit
from cslm_data.auditing.needs import missing
from cslm_data.auditing.results import AuditResult
from cslm_data.catalog import Connection, confine, open_catalog, scalar
from cslm_data.errors import UsageError
from cslm_data.progress import progress
from cslm_data.statements import reading_statements
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 20
_MEMORY_BYTES = 4 << 30
_LONGEST_LIST = 20
"""Elements of a list that an example shows."""

_UTTERANCES_OF: dict[str, str] = {
    "utt_id": "select utt_id from finding",
    "utt_ids": "select unnest(utt_ids) as utt_id from finding",
    "dialogue_id": "select utt_id from dialogue_turns semi join finding using (dialogue_id)",
    "key": (
        "with members as (select unnest(source_ids) as id from mix_samples "
        'semi join finding using (mix, "key")) '
        "select id as utt_id from members union all "
        "select utt_id from dialogue_turns semi join members on dialogue_id = id"
    ),
}
"""Utterances that findings name, by the column they name them in."""


def run_audits(
    workspace: Workspace,
    *,
    names: Iterable[str] = (),
    folder: Path | None = None,
    only: bool = False,
    use: str | None = None,
    against: str | None = None,
    languages: Iterable[str] = (),
    stage: str = "pretrain",
    recipe: Path | None = None,
    limit: int = DEFAULT_LIMIT,
) -> list[AuditResult]:
    """Ask the shipped audits and those of `folder` (`only`: those alone), or the named ones.

    `use`, `against`, `languages` are what the audits that need them are asked for; `limit` is how
    many examples each keeps. Raises MissingArtefactError when an audit, the folder or the catalog
    is not there, UsageError for an option that makes no sense.
    """
    if only and folder is None:
        raise UsageError("--only: there is no --audits DIR to take audits from")
    files = find_files(folder, shipped=not only)
    wanted = choose(files, tuple(names))
    results = []
    with (
        _connect(workspace) as connection,
        progress("audit", total=len(wanted), unit="audits") as bar,
    ):
        inputs.make_words(connection)
        if use is not None:
            inputs.fill_use(connection, use)
        if languages := tuple(languages):
            inputs.fill_wanted(connection, languages, stage=stage, recipe=recipe)
        if against is not None:
            inputs.fill_benchmark(connection, against)
        confine(connection, workspace)
        parameters = {"use": use, "langs": list(languages)}
        for name in wanted:
            started = time.monotonic()
            results.append(_run(connection, name, files[name], parameters, limit))
            log.debug("audit %s: %.2f s", name, time.monotonic() - started)
            bar.advance()
    return results


@contextlib.contextmanager
def _connect(workspace: Workspace) -> Iterator[Connection]:
    """A catalog to read whose large intermediate results go to a folder that vanishes."""
    with open_catalog(workspace, doing="cslm-data audit") as connection:
        place = workspace.root if os.access(workspace.root, os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=place, prefix=".audit-", suffix=".tmp") as spill:
            connection.execute("set temp_directory = ?", [spill])
            machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            memory = min(_MEMORY_BYTES, machine * 6 // 10)
            connection.execute("set memory_limit = ?", [f"{memory >> 20}MiB"])
            try:
                yield connection
            finally:
                connection.close()


def _run(
    connection: Connection,
    name: str,
    file: Path | Traversable,
    parameters: dict[str, Any],
    limit: int,
) -> AuditResult:
    try:
        audit = read_audit(name, file)
    except UsageError as error:
        return AuditResult(
            name=name,
            severity="error",
            title=f"The audit {name} cannot be read",
            why=str(error),
            fix="mend the file",
            columns=(),
            examples=[],
            count=0,
            hours=None,
            skipped=str(error),
            failed=True,
        )
    skipped = missing(connection, audit.needs)
    if skipped is not None:
        return _result(audit, skipped=skipped)
    try:
        _find(connection, audit, parameters)
        return _read(connection, audit, limit)
    except (duckdb.Error, UsageError) as error:
        if isinstance(error, duckdb.InterruptException):
            raise
        return _result(audit, skipped=f"{file}: {str(error).strip()}", failed=True)
    finally:
        connection.execute("drop table if exists finding")


def _find(connection: Connection, audit: Audit, parameters: dict[str, Any]) -> None:
    """Fill the temporary table `finding`. Raises UsageError, duckdb.Error."""
    statements = duckdb.extract_statements(audit.sql)
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise UsageError(f"an audit is one query that reads, and this file holds: {kinds}")
    reading_statements(audit.sql)  # a SELECT may hold a COPY
    named = statements[0].named_parameters
    unknown = sorted(set(named) - parameters.keys())
    if unknown:
        raise UsageError(
            f"unknown parameter ${unknown[0]}; there are ${', $'.join(sorted(parameters))}"
        )
    query = audit.sql.rstrip().rstrip(";")
    bound = {key: value for key, value in parameters.items() if key in named}
    connection.execute(f"create temp table finding as {query}", bound)


def _read(connection: Connection, audit: Audit, limit: int) -> AuditResult:
    described = connection.execute("describe finding").fetchall()
    columns = {str(name): str(kind) for name, kind, *_ in described}
    shown = ", ".join(
        f'list_slice("{_quoted(name)}", 1, {_LONGEST_LIST})'
        if kind.endswith("[]")
        else f'"{_quoted(name)}"'
        for name, kind in columns.items()
    )
    rows = connection.execute(
        f"select {shown} from finding order by rowid limit {limit}"
    ).fetchall()
    return _result(
        audit,
        columns=tuple(columns),
        examples=[tuple(_finite(value) for value in row) for row in rows],
        count=int(scalar(connection, "select count(*) from finding")),
        hours=_hours(connection, columns),
    )


def _finite(value: Any) -> Any:
    """Infinities and NaN as None: JSON has no word for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _quoted(name: str) -> str:
    return name.replace('"', '""')


def _hours(connection: Connection, columns: dict[str, str]) -> float | None:
    """Speech of the distinct utterances that the findings name, or their column `hours`."""
    named = [query for column, query in _UTTERANCES_OF.items() if column in columns]
    if "key" in columns and "mix" not in columns:
        named.remove(_UTTERANCES_OF["key"])
    if named:
        found = " union all ".join(f"select utt_id from ({query})" for query in named)
        query = (
            "select coalesce(sum(duration_s), 0) / 3600 from utterances "
            f"semi join ({found}) as found using (utt_id)"
        )
    elif "hours" in columns:
        query = "select coalesce(sum(hours), 0)::double from finding"
    else:
        return None
    return float(scalar(connection, query))


def _result(
    audit: Audit,
    *,
    columns: tuple[str, ...] = (),
    examples: list[tuple[Any, ...]] | None = None,
    count: int = 0,
    hours: float | None = None,
    skipped: str | None = None,
    failed: bool = False,
) -> AuditResult:
    return AuditResult(
        name=audit.name,
        severity=audit.severity,
        title=audit.title,
        why=audit.why,
        fix=audit.fix,
        columns=columns,
        examples=examples or [],
        count=count,
        hours=hours,
        skipped=skipped,
        failed=failed,
    )
