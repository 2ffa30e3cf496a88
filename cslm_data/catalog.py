"""The DuckDB catalog: small tables in one file, views over every artefact of the workspace.

Whoever writes holds the workspace's catalog lock; long work (quantize, shards, training) does not:
it reads its plan, closes the catalog, and leaves its results in files that the views find.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from cslm_data.errors import CorruptArtefactError, LockedError, MissingArtefactError
from cslm_data.storage import Folder, RemoteFolder, require_units_folder, units_folder
from cslm_data.text.scripts import fill_scripts
from cslm_data.workspace import Workspace, remove_leftovers

Connection = duckdb.DuckDBPyConnection

_UNITS = (
    "*/part-*.parquet",
    "utt_id varchar, units usmallint[], durations usmallint[], num_frames uinteger, "
    "audio_version varchar, reject_reason varchar, reject_detail varchar",
)
"""Parquet behind `unit_parts` of views.sql: pattern in the folder of the units, columns."""

_PARTS: dict[str, tuple[str, str]] = {
    "alignment_parts": (
        "alignments/*/part-*.parquet",
        "utt_id varchar, words struct(word varchar, start_s double, end_s double, score double)[], "
        "phones struct(phone varchar, start_s double, end_s double)[], audio_version varchar, "
        "language varchar, text_hash ubigint, reject_reason varchar, reject_detail varchar",
    ),
    "measure_parts": (
        "measures/part-*.parquet",
        "utt_id varchar, audio_version varchar, sample_rate_hz integer, num_channels integer, "
        "num_samples ubigint, decoded_s double, rms_db double, peak double, clipped_share double, "
        "dc_offset double, leading_silence_s double, trailing_silence_s double, "
        "silence_share double, snr_db double, bandwidth_hz double, samples_hash varchar, "
        "reject_reason varchar, reject_detail varchar",
    ),
    "text_language_parts": (
        "text_languages/part-*.parquet",
        "text_hash ubigint, language varchar, detected varchar, confidence double",
    ),
    "mix_parts": (
        "mixes/*/mix.parquet",
        "split varchar, position ubigint, key varchar, task varchar, languages varchar, "
        "source_ids varchar[], epoch uinteger, num_tokens uinteger, num_units uinteger, "
        "shard varchar",
    ),
    "place_parts": (
        "mixes/*/shards/*.idx.parquet",
        "key varchar, json_offset ubigint, json_bytes uinteger, units_offset ubigint, "
        "units_bytes uinteger, num_units uinteger",
    ),
    "reject_parts": (
        "{mixes/*/rejects,runs/*/rejects-*,rejects/*}.parquet",
        "stage varchar, corpus varchar, key varchar, reason varchar, detail varchar",
    ),
    "batch_parts": (
        "runs/*/batches-*.parquet",
        "step ubigint, rank uinteger, micro_batch uinteger, pack_id uinteger, key varchar",
    ),
}
"""Parquet behind the others: pattern in the workspace (or {two}), columns."""

_MANY = frozenset({"place_parts"})
"""Files that all have the columns of the first one: there are too many to look into each."""

_DOCUMENTS: dict[str, tuple[str, str]] = {
    "tokenizer_files": (
        "tokenizers/*/tokenizer.json",
        "tokenizer_id varchar, extractor varchar, num_units uinteger, frame_rate_hz double",
    ),
    "mix_files": (
        "mixes/*/mix.json",
        "mix_id varchar, stage varchar, languages varchar[], seed bigint, tokenizer_id varchar, "
        "text_tokenizer_id varchar, template_version varchar, "
        'recipe struct(splits struct("by" varchar))',
    ),
    "shard_files": (
        "mixes/*/mix.json",
        "shards struct(shard varchar, split varchar, num_samples ubigint, num_bytes ubigint, "
        "sha256 varchar)[]",
    ),
}
"""JSON behind each placeholder of views.sql: pattern in the workspace, columns."""


_LINES: dict[str, str] = {
    "metric_lines": "runs/*/metrics/{*,*/*}.jsonl",
    "skipped_lines": "runs/*/skipped.jsonl",
}
"""Files of one JSON object a line behind each placeholder of views.sql; a line that a running
training has half written is none."""


def read_sql(name: str) -> str:
    """Text of `cslm_data/sql/<name>.sql`."""
    return resources.files("cslm_data.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")


@contextlib.contextmanager
def open_catalog(workspace: Workspace, *, write: bool = False, doing: str) -> Iterator[Connection]:
    """The catalog of a workspace, with every view; writing makes it and its folder if need be.

    Raises LockedError when another process writes, MissingArtefactError when there is nothing to
    read yet.
    """
    if write:
        with workspace.lock("catalog", doing):
            if not workspace.catalog.exists():
                _create(workspace)
            connection = _connect(workspace, read_only=False)
            try:
                _check_version(connection, workspace)
                connection.execute(read_sql("schema"))
                _make_views(connection, workspace)
                yield connection
            finally:
                connection.close()
        return
    if not workspace.catalog.exists():
        raise MissingArtefactError(
            f"{workspace.root}: no catalog here; begin with: cslm-data ingest FOLDER "
            "(or name another place with --workspace)"
        )
    connection = _connect(workspace, read_only=True)
    try:
        _check_version(connection, workspace)
        _make_views(connection, workspace)
        yield connection
    finally:
        connection.close()


def look_again(connection: Connection, workspace: Workspace) -> None:
    """Let an open connection see what was written to a folder of units elsewhere since."""
    units = units_folder(workspace)
    if isinstance(units, RemoteFolder):
        _register(connection, units)


def _register(connection: Connection, units: RemoteFolder) -> None:
    from cslm_data.sql_files import register_files

    register_files(connection, units)


def confine(connection: Connection, workspace: Workspace) -> None:
    """From here on the connection sees the workspace's files alone, and no setting changes.

    A link counts as part of the workspace where it is one of its own folders (`units`, `mixes`, …),
    put on another disk; any other link that leads outside is refused.
    """
    folders = [f"{workspace.root}/", f"{units_folder(workspace).sql_address}/"]
    folders += [f"{path.resolve()}/" for path in workspace.folders() if path.is_symlink()]
    connection.execute("set allowed_directories = ?", [folders])
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _create(workspace: Workspace) -> None:
    """An empty catalog under a temporary name, then its own: never a half-made file."""
    remove_leftovers(workspace.root)
    with tempfile.TemporaryDirectory(dir=workspace.root, prefix=".", suffix=".tmp") as folder:
        path = Path(folder) / workspace.catalog.name
        with duckdb.connect(str(path)) as connection:
            connection.execute(read_sql("schema"))
            connection.execute("checkpoint")
        path.replace(workspace.catalog)


def _connect(workspace: Workspace, *, read_only: bool) -> Connection:
    try:
        connection = duckdb.connect(str(workspace.catalog), read_only=read_only)
    except duckdb.IOException as error:
        if "not a valid" in str(error):
            raise CorruptArtefactError(
                f"{workspace.catalog}: not a DuckDB file; move it away and ingest again"
            ) from None
        if "lock" not in str(error).lower():
            raise
        raise LockedError(
            f"{workspace.catalog}: another process is writing to the catalog "
            f"({_holder(workspace)}); run this command again when it has ended"
        ) from None
    connection.execute("set preserve_insertion_order = true")
    connection.execute("set enable_progress_bar = false")
    # A name in SQL is never a variable of the Python program.
    connection.execute("set python_enable_replacements = false")
    return connection


def _check_version(connection: Connection, workspace: Workspace) -> None:
    """Raise CorruptArtefactError for a catalog whose tables are those of an earlier version."""
    query = "select count(*) from duckdb_tables() where table_name = 'utterances'"
    if scalar(connection, query):
        raise CorruptArtefactError(
            f"{workspace.catalog}: made by an earlier version of cslm-data; move it away and "
            "ingest the same sources again (units, mixes and runs stay as they are)"
        )


def _holder(workspace: Workspace) -> str:
    path = workspace.root / "locks" / "catalog.lock"
    return path.read_text(encoding="utf-8").strip() if path.exists() else "unknown process"


def _make_views(connection: Connection, workspace: Workspace) -> None:
    scans = {
        "unit_parts": _scan_units(connection, require_units_folder(workspace)),
        **{
            name: _scan(workspace.root, *part, "read_parquet", alike=name in _MANY)
            for name, part in _PARTS.items()
        },
        **{name: _scan(workspace.root, *file, "read_json") for name, file in _DOCUMENTS.items()},
        **{name: _scan_lines(workspace.root, pattern) for name, pattern in _LINES.items()},
    }
    text = read_sql("views")
    for name, scan in scans.items():
        text = text.replace("{" + name + "}", scan)
    connection.execute(text)
    connection.execute(fill_scripts(read_sql("text_scripts")))


def _scan_units(connection: Connection, units: Folder) -> str:
    """A table expression over the parts of all speech tokenizers, wherever they lie.

    All have the columns of the first one: to look into each of them would take long from afar.
    """
    pattern, columns = _UNITS
    files = f"{units.sql_address}/{pattern}"
    if isinstance(units, RemoteFolder):
        _register(connection, units)
        found = bool(scalar(connection, "select count(*) from glob(?)", [files]))
    else:
        found = next(units.path.glob(pattern), None) is not None
    if not found:
        return f"({_nothing(columns)})"
    return f"(select * from read_parquet({quoted(files)}, filename = true))"


def _scan(root: Path, pattern: str, columns: str, reader: str, *, alike: bool = False) -> str:
    """A table expression over the files, or an empty one with the same columns."""
    found = [each for each in _alternatives(pattern) if next(root.glob(each), None) is not None]
    if not found:
        return f"({_nothing(columns)})"
    files = "[" + ", ".join(quoted(root / each) for each in found) + "]"
    if alike:
        return f"(select * from {reader}({files}, filename = true))"
    if reader == "read_parquet":
        # No rows of all columns: files of an earlier version do not have them all.
        rows = f"select * from read_parquet({files}, union_by_name = true, filename = true)"
        return f"({rows} union all by name {_nothing(columns)})"
    kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in _split_columns(columns))
    return (
        f"(select * from read_json({files}, format = 'unstructured', columns = {{{kinds}}}, "
        "filename = true, maximum_object_size = 33554432))"
    )


def _scan_lines(root: Path, pattern: str) -> str:
    """A table expression over the lines of files as `json`, or an empty one."""
    found = [each for each in _alternatives(pattern) if next(root.glob(each), None) is not None]
    if not found:
        return f"({_nothing('json json')})"
    files = "[" + ", ".join(quoted(root / each) for each in found) + "]"
    return (
        f"(select * from read_json_objects({files}, format = 'newline_delimited', "
        "ignore_errors = true, filename = true))"
    )


def _nothing(columns: str) -> str:
    """No rows of some columns and a filename."""
    nulls = ", ".join(f"null::{kind} as {name}" for name, kind in _split_columns(columns))
    return f"select {nulls}, null::varchar as filename where false"


def _alternatives(pattern: str) -> list[str]:
    """`x{a,b}.y` as `xa.y` and `xb.y`; a pattern without braces alone."""
    if "{" not in pattern:
        return [pattern]
    prefix, rest = pattern.split("{")
    inside, suffix = rest.split("}")
    return [prefix + part + suffix for part in inside.split(",")]


def _split_columns(columns: str) -> list[tuple[str, str]]:
    """Cut `a varchar, b struct(x double, y double)[]` at its outer commas."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(columns + ","):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            name, kind = columns[start:index].strip().split(" ", 1)
            parts.append((name, kind))
            start = index + 1
    return parts


def quoted(value: object) -> str:
    """A value as text of SQL, for where none can be bound, as in what makes a view."""
    return "'" + str(value).replace("'", "''") + "'"


def run_over_files(connection: Connection, name: str, files: str) -> None:
    """Run `<name>.sql` over `{files}`."""
    connection.execute(read_sql(name).replace("{files}", quoted(files)))


def scalar(connection: Connection, query: str, parameters: list[Any] | None = None) -> Any:
    """The single value of a query, None without a row."""
    rows = connection.execute(query, parameters or []).fetchall()
    return rows[0][0] if rows else None
