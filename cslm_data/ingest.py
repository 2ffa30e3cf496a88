"""Manifests → catalog. Reads what users have, writes the catalog's tables and imported alignments.

Each source (a file) is one transaction: after a kill it is in the catalog whole or not at all, and
reading it again changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from cslm_data.audio_store import AudioStore
from cslm_data.catalog import Connection, open_catalog
from cslm_data.corpora import READERS, Defaults, find_reader, guess_format
from cslm_data.corpora.source import Source, find_source
from cslm_data.corpora.tables import SUFFIXES
from cslm_data.errors import NoDataError
from cslm_data.exporting.folders import DESCRIPTION
from cslm_data.ingesting.merging import merge_source
from cslm_data.ingesting.normal_forms import choose_rules, register_normal_forms
from cslm_data.ingesting.orphans import warn_of_orphans
from cslm_data.ingesting.staging import stage_source
from cslm_data.ingesting.statements import quoted, run_sql
from cslm_data.languages import check_language
from cslm_data.progress import progress
from cslm_data.text import TextRules
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_MAX_DURATION_S = 60.0
_MEMORY = "2GB"
"""What DuckDB may hold; the rest of large sources waits on disk, beside the catalog."""


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
    trust_manifest: bool = False,
    text_rules: TextRules | None = None,
) -> IngestSummary:
    """Read files, folders, or every recognised manifest of folders, into the catalog.

    With `trust_manifest`, recordings whose length and sampling rate a row states are not opened:
    for millions of files, or files that are not here yet. `text_rules` say how texts are compared;
    None: as the workspace does.

    Raises NoDataError when there is nothing to read, UsageError for a path that is not there or an
    unknown format or language, LockedError when another process is writing.
    """
    if defaults.language is not None:
        check_language(defaults.language, where="--lang")
    sources, unrecognised = _find_sources(list(paths), format)
    with open_catalog(workspace, write=True, doing="cslm-data ingest") as connection:
        _prepare(connection, workspace, text_rules)
        summaries = [
            _ingest_source(
                connection,
                workspace,
                source,
                name,
                defaults,
                trust_manifest=trust_manifest,
                max_duration_s=max_duration_s,
            )
            for source, name in sources
        ]
    warn_of_orphans(workspace)
    return IngestSummary(sources=tuple(summaries), unrecognised=tuple(unrecognised))


def _prepare(connection: Connection, workspace: Workspace, rules: TextRules | None) -> None:
    """Bound the memory, and define what the queries of ingest call."""
    connection.execute("set memory_limit = ?", [_MEMORY])
    connection.execute("set temp_directory = ?", [str(workspace.root / ".spill.tmp")])
    register_normal_forms(connection, choose_rules(connection, rules))
    run_sql(connection, "ingest_macros", names={"home": quoted(str(Path.home()))})


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
            elif file.suffix in (*SUFFIXES, ".parquet") and file.name != DESCRIPTION:
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
    *,
    trust_manifest: bool,
    max_duration_s: float,
) -> SourceSummary:
    connection.execute("begin transaction")
    try:
        # Audio that comes inside of the source is there under its address before its rows are.
        with AudioStore(workspace, source.uri) as store:
            with progress(f"ingest {source.name}", total=None, unit="rows") as bar:
                stage_source(
                    connection,
                    source,
                    find_reader(format),
                    replace(defaults, keep_audio=store.keep),
                    trust_manifest=trust_manifest,
                    bar=bar,
                )
            counts = merge_source(
                connection,
                workspace,
                source.uri,
                name=source.name,
                format=format,
                trust_manifest=trust_manifest,
                max_duration_s=max_duration_s,
            )
            _record_source(connection, source, format, counts["rows"], counts["rejected"])
        connection.execute("commit")
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # what ended it may have ended the transaction
            connection.execute("rollback")
        raise
    names = ("added", "changed", "unchanged", "removed", "linked", "rejected")
    return SourceSummary(
        source=source.uri,
        format=format,
        num_rows=counts["rows"],
        **{name: counts[name] for name in names},
    )


def _record_source(
    connection: Connection, source: Source, format: str, num_rows: int, num_rejected: int
) -> None:
    connection.execute("delete from sources where source_uri = ?", [source.uri])
    connection.execute(
        "insert into sources values (?, ?, ?, ?, ?)",
        [source.uri, format, _hash_content(source), num_rows, num_rejected],
    )


def _hash_content(source: Source) -> str:
    """BLAKE2b of a file as it is read; of a folder, of the names of its files."""
    digest = hashlib.blake2b(digest_size=16)
    if source.is_folder:
        for name in source.names("**/*"):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()
    with source.open() as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
