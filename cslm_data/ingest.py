"""Manifests → catalog. Reads what users have, writes the catalog's tables and imported alignments.

Each source (a file) is one transaction: after a kill it is in the catalog whole or not at all, and
reading it again changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cslm_data import ingest_tables
from cslm_data.audio import audio_version, probe
from cslm_data.audio_store import AudioStore
from cslm_data.catalog import Connection, open_catalog, read_sql
from cslm_data.corpora import READERS, Defaults, Record, find_reader, guess_format
from cslm_data.corpora.source import Source, find_source
from cslm_data.corpora.tables import SUFFIXES
from cslm_data.errors import AudioError, NoDataError, UsageError
from cslm_data.languages import check_language
from cslm_data.orphans import warn_of_orphans
from cslm_data.progress import progress
from cslm_data.records import Alignment, BitextPair, Dialogue, Reject, Utterance
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_MAX_DURATION_S = 60.0
MIN_DURATION_S = 0.05
_CHUNK = 2048
_PROBE_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class SourceSummary:
    """What became of one source: rows in = added + changed + unchanged + linked + rejected."""

    source: str
    format: str
    num_rows: int
    added: int
    changed: int
    unchanged: int
    removed: int
    linked: int
    """Spoken turns whose audio another manifest describes already."""
    rejected: int


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What `ingest` did, source by source, and the files it did not recognise."""

    sources: tuple[SourceSummary, ...]
    unrecognised: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """Rows read over all sources."""
        return sum(source.num_rows for source in self.sources)

    @property
    def num_rejected(self) -> int:
        """Rows rejected over all sources."""
        return sum(source.rejected for source in self.sources)


def ingest(
    workspace: Workspace,
    paths: Iterable[str | Path],
    *,
    format: str | None = None,
    defaults: Defaults = Defaults(),  # noqa: B008 - frozen
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
) -> IngestSummary:
    """Read files, folders, or every recognised manifest of folders, into the catalog.

    Raises NoDataError when there is nothing to read, UsageError for a path that is not there or an
    unknown format or language, LockedError when another process is writing.
    """
    if defaults.language is not None:
        check_language(defaults.language, where="--lang")
    sources, unrecognised = _find_sources(list(paths), format)
    with open_catalog(workspace, write=True, doing="cslm-data ingest") as connection:
        summaries = [
            _ingest_source(connection, workspace, source, name, defaults, max_duration_s)
            for source, name in sources
        ]
    warn_of_orphans(workspace)
    return IngestSummary(sources=tuple(summaries), unrecognised=tuple(unrecognised))


def _find_sources(
    addresses: list[str | Path], format: str | None
) -> tuple[list[tuple[Source, str]], list[str]]:
    """The sources to read with their formats, in reading order; and files not recognised."""
    reads_folders = find_reader(format).reads_folders if format is not None else None
    found: dict[Source, str] = {}
    unrecognised = []
    for address in addresses:
        given = find_source(address)
        as_a_whole = guess_format(given) if format is None and given.is_folder else None
        if as_a_whole is not None or (given.is_folder and reads_folders):
            found[given] = as_a_whole or str(format)
            continue
        files = [given.child(name) for name in given.names("*")] if given.is_folder else [given]
        for file in files:
            name = format or guess_format(file)
            if name is not None:
                found[file] = name
            elif not given.is_folder:
                raise NoDataError(
                    f"{file.uri}: no row that we recognise (empty, or fields of another format); "
                    "see docs/formats.md, or say what it is with --format"
                )
            elif file.suffix in (*SUFFIXES, ".parquet"):
                unrecognised.append(file.uri)
    if not found:
        places = ", ".join(str(address) for address in addresses)
        raise NoDataError(
            f"{places}: no manifest that we recognise; expected .jsonl, .json, .csv or .tsv files "
            "as in docs/formats.md (sub-folders are not searched: name them)"
        )
    order = {name: place for place, name in enumerate(READERS)}
    return sorted(
        found.items(), key=lambda item: (order.get(item[1], 0), item[0].uri)
    ), unrecognised


def _ingest_source(
    connection: Connection,
    workspace: Workspace,
    source: Source,
    format: str,
    defaults: Defaults,
    max_duration_s: float,
) -> SourceSummary:
    accepted: dict[type, dict[str, Record]] = {kind: {} for kind in ingest_tables.TABLES}
    rejects: list[Reject] = []
    num_rows = 0
    with (
        AudioStore(workspace, source.uri) as store,
        progress(f"ingest {source.name}", total=None, unit="rows") as bar,
    ):
        defaults = replace(defaults, keep_audio=store.keep)
        for record in _checked(find_reader(format).read(source, defaults), max_duration_s):
            num_rows += 1
            bar.advance()
            if isinstance(record, Reject):
                rejects.append(record)
                continue
            rows = accepted[type(record)]
            key = ingest_tables.id_of(record)
            if key in rows:
                detail = f"{source.name}: an earlier row has this id; ids are unique"
                rejects.append(_reject(record, "duplicate_id", detail))
            else:
                rows[key] = record
    counts = dict.fromkeys(("added", "changed", "unchanged", "removed", "linked"), 0)
    connection.execute("begin transaction")
    try:
        for table in ingest_tables.TABLES.values():
            rows = accepted[table.record]
            _merge(connection, workspace, table, source, format, rows, rejects, counts)
        _record_source(connection, source, format, num_rows, rejects)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return SourceSummary(
        source=source.uri, format=format, num_rows=num_rows, rejected=len(rejects), **counts
    )


def _checked(
    records: Iterator[Record | Reject], max_duration_s: float
) -> Iterator[Record | Reject]:
    """The records in order, utterances with their header read, what is wrong turned to rejects."""

    def check(record: Record | Reject) -> Record | Reject:
        if isinstance(record, Reject):
            return record
        for language in _languages_of(record):
            try:
                check_language(language, where=ingest_tables.id_of(record))
            except UsageError as error:
                return _reject(record, "unknown_language", str(error))
        return _probe(record, max_duration_s) if isinstance(record, Utterance) else record

    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        while chunk := list(islice(records, _CHUNK)):
            yield from pool.map(check, chunk)


def _languages_of(record: Record) -> list[str]:
    match record:
        case Utterance():
            return [record.language]
        case BitextPair():
            return [record.src_lang, record.tgt_lang]
        case Dialogue():
            return [turn.language for turn in record.turns]
        case Alignment():
            return []


def _probe(utterance: Utterance, max_duration_s: float) -> Utterance | Reject:
    """The utterance with what the header of its audio says, or why it is refused."""
    try:
        header = probe(utterance.audio)
        version = audio_version(utterance.audio)
    except AudioError as error:
        return _reject(utterance, error.reason, error.detail)
    rest_s = header.duration_s - utterance.offset_s
    duration_s = rest_s if utterance.duration_s is None else utterance.duration_s
    if duration_s > rest_s + 0.1:
        detail = f"ends at {utterance.offset_s + duration_s:.2f} s of {header.duration_s:.2f} s"
        return _reject(utterance, "beyond_end", f"{utterance.audio}: {detail}")
    if duration_s < MIN_DURATION_S:
        detail = f"{utterance.audio}: {max(0.0, duration_s):.3f} s < {MIN_DURATION_S} s"
        return _reject(utterance, "too_short" if duration_s > 0 else "empty", detail)
    if duration_s > max_duration_s:
        detail = f"{utterance.audio}: {duration_s:.1f} s > {max_duration_s} s; see --max-duration"
        return _reject(utterance, "too_long", detail)
    return replace(
        utterance,
        duration_s=duration_s,
        sample_rate_hz=header.sample_rate_hz,
        num_channels=header.num_channels,
        audio_version=version,
    )


def _merge(
    connection: Connection,
    workspace: Workspace,
    table: ingest_tables.Table,
    source: Source,
    format: str,
    rows: dict[str, Record],
    rejects: list[Reject],
    counts: dict[str, int],
) -> None:
    """One source's rows of one table; adds to `rejects` and `counts`."""
    uri = source.uri
    names = {"table": table.name, "id": table.id, "source": uri.replace("'", "''")}
    is_alignment = table.record is Alignment
    if is_alignment:
        ingest_tables.stage_imported_alignments(connection, workspace)
    incoming = table.arrow(rows.values(), uri)
    _stage(connection, incoming)
    refused: dict[str, None] = {}
    for key, other in connection.execute(_fill("ingest_taken", names)).fetchall():
        detail = f"{source.name}: {other} has a row of this id; ids are unique over all sources"
        rejects.append(_reject(rows[key], "duplicate_id", detail))
        refused[key] = None
    if table.record is Utterance and format == "dialogues":
        for (key,) in connection.execute(read_sql("ingest_linked")).fetchall():
            if key not in refused:
                counts["linked"] += 1
                refused[key] = None
    elif table.record is Utterance:
        connection.execute(read_sql("ingest_superseded"))
    if refused:
        gone = pc.is_in(incoming[table.id], value_set=pa.array(list(refused), pa.string()))
        incoming = incoming.filter(pc.invert(gone))
        _stage(connection, incoming)
    row = connection.execute(_fill("ingest_compare", names)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    for name, value in zip(("added", "changed", "unchanged", "removed"), row, strict=True):
        counts[name] += value
    if is_alignment:
        ingest_tables.write_imported_alignments(workspace, uri, incoming)
    else:
        connection.execute(_fill("ingest_merge", names))


def _stage(connection: Connection, incoming: pa.Table) -> None:
    connection.register("incoming_rows", incoming)
    connection.execute("create or replace temp table incoming as from incoming_rows")
    connection.unregister("incoming_rows")


def _fill(name: str, names: dict[str, str]) -> str:
    text = read_sql(name)
    for placeholder, value in names.items():
        text = text.replace("{" + placeholder + "}", value)
    return text


def _record_source(
    connection: Connection, source: Source, format: str, num_rows: int, rejects: list[Reject]
) -> None:
    content_hash = _hash_content(source)
    connection.execute("delete from sources where source_uri = ?", [source.uri])
    connection.execute(
        "insert into sources values (?, ?, ?, ?, ?)",
        [source.uri, format, content_hash, num_rows, len(rejects)],
    )
    connection.execute("delete from ingest_rejects where source_uri = ?", [source.uri])
    if rejects:
        columns: dict[str, list[Any]] = {
            name: [getattr(reject, name) for reject in rejects]
            for name in ("stage", "corpus", "key", "reason", "detail")
        }
        refused = pa.table({**columns, "source_uri": [source.uri] * len(rejects)})
        connection.register("refused_rows", refused)
        connection.execute("insert into ingest_rejects by name from refused_rows")
        connection.unregister("refused_rows")


def _hash_content(source: Source) -> str:
    """BLAKE2b of the files that a source consists of; of a folder, of their names and sizes."""
    digest = hashlib.blake2b(digest_size=16)
    if source.is_folder:
        for name in source.names("**/*"):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()
    with source.open() as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reject(record: Record, reason: str, detail: str) -> Reject:
    corpus = "" if isinstance(record, Alignment) else record.corpus
    key = ingest_tables.id_of(record)
    return Reject(stage="ingest", corpus=corpus, key=key, reason=reason, detail=detail)
