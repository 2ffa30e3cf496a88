"""Raw rows of a source → checked → the catalog's tables; what is refused → `ingest_rejects`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from cslm_data.catalog import Connection, read_sql, scalar
from cslm_data.errors import UsageError
from cslm_data.ingesting.headers import probe_recordings
from cslm_data.ingesting.kinds import KINDS, Kind
from cslm_data.ingesting.statements import fill, quoted, run_sql
from cslm_data.keys import key64
from cslm_data.languages import check_language
from cslm_data.workspace import Workspace, atomic_path

IMPORTED = "imported"
"""`aligner_id` of word and phone times that came with a corpus."""

MIN_DURATION_S = 0.05

Counts = Counter[str]
"""added, changed, unchanged, removed, linked, rejected, rows."""


def merge_source(
    connection: Connection,
    workspace: Workspace,
    uri: str,
    *,
    name: str,
    format: str,
    trust_manifest: bool,
    max_duration_s: float,
) -> Counts:
    """Check the raw rows of all kinds and merge them. Within a transaction of the caller."""
    counts: Counts = Counter()
    connection.execute("delete from ingest_rejects where source_uri = ?", [uri])
    connection.execute(read_sql("ingest_reader_rejects"), {"source": uri})
    rejected_at_once = scalar(connection, "select count(*) from raw_rejects")
    counts.update(rows=rejected_at_once, rejected=rejected_at_once)
    for kind in KINDS.values():
        _merge_kind(connection, workspace, kind, uri, name, format, trust_manifest, max_duration_s)
        row = run_sql(connection, "ingest_tally", names=kind.names).fetchone()
        if row is not None:
            counts.update(dict(zip(("rows", "rejected", "linked"), row, strict=True)))
        merged = connection.execute("from merged").fetchone()
        if merged is not None:
            outcome = ("added", "changed", "unchanged", "removed")
            counts.update(dict(zip(outcome, merged, strict=True)))
    return counts


def _merge_kind(
    connection: Connection,
    workspace: Workspace,
    kind: Kind,
    uri: str,
    name: str,
    format: str,
    trust_manifest: bool,
    max_duration_s: float,
) -> None:
    """One kind of row; leaves the tables `verdicts` and `merged`."""
    is_alignments, is_utterances = kind.name == "alignments", kind.name == "utterances"
    names = {**kind.names, "source": quoted(uri)}
    values = {"source": uri, "name": name}
    part = workspace.alignments / IMPORTED / f"part-{key64(uri):016x}.parquet"
    if is_alignments:
        _show_imported(connection, workspace)
    run_sql(connection, "ingest_verdicts", names=names)
    if not is_alignments:
        _refuse_unknown_languages(connection, names)
    if is_utterances:
        probe_recordings(connection, trust_manifest=trust_manifest)
        run_sql(connection, "ingest_complete")
        limits = {"min_s": MIN_DURATION_S, "max_s": max_duration_s}
        connection.execute(read_sql("ingest_bad_audio"), limits)
    run_sql(connection, "ingest_repeated", names=names, values=values)
    run_sql(connection, "ingest_taken", names=names, values=values)
    if is_utterances:
        which = "ingest_linked" if format == "dialogues" else "ingest_superseded"
        run_sql(connection, which, values=values)
    run_sql(connection, f"ingest_incoming_{kind.name}", names=names)
    known = scalar(connection, f"select count(*) from {kind.target} where source_uri = ?", [uri])
    if is_alignments or known:
        connection.execute("create or replace temp table arrived as from incoming")
        run_sql(connection, "ingest_compare_into", names=names, values=values)
        if is_alignments:
            _write_part(connection, part)
        else:
            run_sql(connection, "ingest_merge", names=names, values=values)
    else:
        # All is new: one pass, nothing kept.
        row = connection.execute(
            f"insert into {kind.target} by name select * from incoming"
        ).fetchone()
        added = row[0] if row else 0
        connection.execute(
            "create or replace temp table merged as select ? as added, 0 as changed, "
            "0 as unchanged, 0 as removed",
            [added],
        )
    run_sql(connection, "ingest_refused", names=names, values=values)


def _refuse_unknown_languages(connection: Connection, names: dict[str, str]) -> None:
    unknown = []
    for (language,) in run_sql(connection, "ingest_languages", names=names).fetchall():
        try:
            check_language(language or "", where="")
        except UsageError as error:
            unknown.append((language, str(error).removeprefix(": ")))
    if not unknown:
        return
    columns = [pa.array(column, pa.string()) for column in zip(*unknown, strict=True)]
    connection.register("unknown_languages", pa.table(columns, names=["language", "detail"]))
    run_sql(connection, "ingest_unknown_languages", names=names)
    connection.unregister("unknown_languages")


def _show_imported(connection: Connection, workspace: Workspace) -> None:
    """The view `imported_alignments`: all that was imported so far."""
    folder = workspace.alignments / IMPORTED
    parts = sorted(str(path) for path in folder.glob("part-*.parquet"))
    if parts:
        listed = ", ".join(f"'{quoted(part)}'" for part in parts)
        scan = f"select utt_id, source_uri, row_hash from read_parquet([{listed}])"
    else:
        scan = (
            "select null::varchar as utt_id, null::varchar as source_uri, null::ubigint as row_hash"
        )
        scan += " where false"
    connection.execute(f"create or replace temp view imported_alignments as {scan}")


def _write_part(connection: Connection, path: Path) -> None:
    """One part per source, replaced whole; a source without alignments has no part."""
    if not scalar(connection, "select count(*) from arrived"):
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        connection.execute(fill("ingest_write_part", {"file": quoted(str(temporary))}))
