"""a plan → the files of a mix, resumable. Writes mixes/.<name>.building, then mixes/<name>.

The rows of the plan are set aside in its order, then the catalog is closed; each shard is made of a
range of them, by any process, and is the same whoever makes it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import Connection, quoted, read_sql
from cslm_data.engines import Worker, load_engine
from cslm_data.errors import CslmError
from cslm_data.exporting.energon import write_energon_meta
from cslm_data.keys import file_sha256
from cslm_data.mixing.candidates import Pool
from cslm_data.mixing.costs import with_system
from cslm_data.mixing.rows import read_turns
from cslm_data.mixing.sources import COUNTED_IN_SQL, MixSource
from cslm_data.progress import progress
from cslm_data.records import SPLITS, Sample, Split
from cslm_data.samples import CompileOptions, compile_sample
from cslm_data.shards import ShardEntry, index_path, read_index, write_shard
from cslm_data.workspace import atomic_path, remove_leftovers, write_json

log = logging.getLogger(__name__)

STAGED = "staged"
"""Folder inside of the building folder for what is set aside; the views do not look there."""
REFUSED = "rejects.parquet"
"""Candidates that make no sample."""
ROWS = "rows.parquet"
"""The source rows of all samples, in the order of the mix."""

_BATCH_ROWS = 512
"""Also the rows of a group of ROWS, so that a range of samples is a range of groups."""
_BYTES_PER_WORKER = 32 * 2**20
"""A mix of less is written sooner by this process than by several that have yet to start."""
_MIX = "mix"
"""Folder inside of the building folder that becomes the mix: so far down no view looks."""


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    """A shard to write: which samples of the mix go into it."""

    name: str
    split: Split
    first: int
    """Ordinal of its first sample."""
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class ShardWriting:
    """What it takes to write any shard of a mix."""

    rows: Path
    shards: Path
    system_share: float
    """Of the samples, that get a system prompt."""
    options: CompileOptions
    tokenizer_id: str
    num_units: int
    text_tokenizer_id: str
    template_version: str


def load_plan_id(folder: Path) -> str | None:
    """The mix_id of a finished mix or of a building folder; None when it cannot be read."""
    for name in ("mix.json", "plan.json"):
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            return str(document["mix_id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


# --- rows ------------------------------------------------------------------------------------


def set_rows_aside(
    connection: Connection,
    pools: Sequence[Pool],
    staged: Path,
    *,
    tokenizer_id: str,
    num_samples: int,
) -> str:
    """Write ROWS and mix.parquet of the table `plan`; the hash of all their rows.

    Raises CslmError where the catalog or the units are not what was counted.
    """
    _describe_sources(connection, [pool.source for pool in pools])
    text = read_sql("mix_rows").replace("{compiled}", _compiled(pools))
    digest = hashlib.blake2b()
    seen = 0
    with (
        atomic_path(staged / ROWS) as rows_path,
        atomic_path(staged / "mix.parquet") as mix_path,
        connection.sql(text, params={"tokenizer_id": tokenizer_id}).to_arrow_reader(
            _BATCH_ROWS
        ) as found,
        pq.ParquetWriter(
            rows_path, pa.schema([found.schema.field(name) for name in _ROW_COLUMNS])
        ) as rows,
        pq.ParquetWriter(mix_path, _MIX_COLUMNS) as mix,
        progress("set rows aside", total=num_samples, unit="samples") as bar,
    ):
        for batch in _whole_batches(found):
            _require_order(batch, seen)
            seen += len(batch)
            rows.write_table(batch.select(_ROW_COLUMNS))
            splits = pa.array([SPLITS[split] for split in batch["split"].to_pylist()])
            shards = pa.array(
                [
                    shard_name(SPLITS[split], shard)
                    for split, shard in zip(
                        batch["split"].to_pylist(), batch["shard"].to_pylist(), strict=True
                    )
                ]
            )
            told = batch.set_column(batch.schema.get_field_index("split"), "split", splits)
            told = told.set_column(told.schema.get_field_index("shard"), "shard", shards)
            mix.write_table(told.select(_MIX_COLUMNS.names).cast(_MIX_COLUMNS))
            for name in ("source_ids", "turns"):
                _digest(digest, batch[name])
            bar.advance(len(batch))
    if seen != num_samples:
        raise CslmError(
            f"{seen} rows for {num_samples} samples of the plan: the catalog or the units changed "
            "while they were read; run the same command again"
        )
    return digest.hexdigest()


_ROW_COLUMNS = ["ordinal", "source", "task", "languages", "epoch", "source_ids", "turns"]
_MIX_COLUMNS = pa.schema(
    [
        ("split", pa.string()),
        ("position", pa.uint64()),
        ("key", pa.string()),
        ("task", pa.string()),
        ("languages", pa.string()),
        ("source_ids", pa.list_(pa.string())),
        ("epoch", pa.uint32()),
        ("order_hash", pa.uint64()),
        ("num_tokens", pa.uint32()),
        ("num_units", pa.uint32()),
        ("shard", pa.string()),
    ]
)


def write_plan(
    connection: Connection, sources: Sequence[MixSource], path: Path, *, spill: Path
) -> None:
    """Write the samples of the table `plan`, in order, as Parquet; anywhere.

    DuckDB sees the workspace alone, so it writes to its folder `spill` first.
    """
    _describe_sources(connection, sources)
    waiting = spill / f"plan-{os.getpid()}.parquet"
    try:
        connection.sql(read_sql("mix_planned")).write_parquet(str(waiting), compression="zstd")
        with atomic_path(path) as temporary:
            shutil.copyfile(waiting, temporary)
    finally:
        waiting.unlink(missing_ok=True)


def list_changes(connection: Connection, sources: Sequence[MixSource]) -> list[dict[str, Any]]:
    """Samples that only one of the tables `before` and `chosen` has."""
    _describe_sources(connection, sources)
    found = connection.execute(read_sql("mix_changes"))
    names = [column[0] for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [{**row, "split": SPLITS[row["split"]]} for row in rows]


def shard_name(split: str, number: int) -> str:
    """File of a shard."""
    return f"{split}-{number:06d}.tar"


def _describe_sources(connection: Connection, sources: Sequence[MixSource]) -> None:
    table = pa.table(
        {
            "source": pa.array([s.index for s in sources], pa.uint16()),
            "task": [s.task for s in sources],
            "kind": [COUNTED_IN_SQL.get(s.task, "compiled") for s in sources],
            "language": [s.language for s in sources],
            "answer_language": [s.answer_language for s in sources],
            "languages": [s.languages for s in sources],
            "task_hash": pa.array([s.task_hash for s in sources], pa.uint64()),
        }
    )
    connection.register("mix_sources", table)


def _compiled(pools: Sequence[Pool]) -> str:
    """The rows that were set aside when their samples were compiled."""
    scans = []
    for pool in pools:
        if pool.source.task not in COUNTED_IN_SQL:
            scans.append(
                f"select {pool.source.index}::usmallint as source, id_hash, source_ids, turns "
                f"from read_parquet({quoted(pool.path)})"
            )
    nothing = (
        "select 0::usmallint as source, 0::ubigint as id_hash, []::varchar[] as source_ids, "
        'null::struct("role" varchar, "language" varchar, "text" varchar, units usmallint[], '
        "durations usmallint[], words struct(word varchar, start_s double, end_s double, "
        "score double)[], excluded varchar)[] as turns where false"
    )
    return " union all ".join(scans or [nothing])


def _whole_batches(found: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches of _BATCH_ROWS rows, the last one of fewer, each sample once."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in found:
        waiting.append(batch)
        rows += len(batch)
        if rows >= _BATCH_ROWS:
            table = pa.Table.from_batches(waiting)
            whole = rows - rows % _BATCH_ROWS
            for start in range(0, whole, _BATCH_ROWS):
                yield table.slice(start, _BATCH_ROWS).combine_chunks()
            rest = table.slice(whole)
            waiting, rows = rest.to_batches(), len(rest)
    if rows:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _require_order(batch: pa.Table, first: int) -> None:
    ordinals = batch["ordinal"].to_pylist()
    if ordinals != list(range(first, first + len(ordinals))):
        raise CslmError(
            f"the rows of sample {first} or one after it are there twice, or not at all: an "
            "utterance has its units in two parts, or the catalog changed while it was read; see "
            "cslm-data audit, then run the same command again"
        )


def _digest(digest: Any, column: pa.ChunkedArray) -> None:
    sink = pa.BufferOutputStream()
    table = pa.table([column], names=["c"])
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    digest.update(sink.getvalue())


# --- shards ----------------------------------------------------------------------------------


def shard_parts(connection: Connection) -> list[ShardPart]:
    """The shards of the table `plan`, in order."""
    rows = connection.execute(read_sql("mix_shards")).fetchall()
    return [
        ShardPart(
            name=shard_name(SPLITS[split], shard),
            split=SPLITS[split],
            first=first,
            num_samples=number,
        )
        for split, shard, first, number in rows
    ]


def write_mix(
    building: Path,
    parts: Sequence[ShardPart],
    document: dict[str, Any],
    *,
    writing: Callable[[Path], ShardWriting],
    num_bytes: int,
    num_workers: int | None = None,
    engine: str = "local",
) -> None:
    """Write all files of a mix into its building folder; shards that are finished stay.

    What was refused waits there as REFUSED. `document` is mix.json but for its shards.
    """
    mix = building / _MIX
    if load_plan_id(building) != document["mix_id"]:
        shutil.rmtree(mix, ignore_errors=True)
        write_json(building / "plan.json", {"mix_id": document["mix_id"]})
    shards = mix / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    for folder in (building, mix, shards):
        remove_leftovers(folder)
    for name in ("mix.parquet", REFUSED):
        with atomic_path(mix / name) as temporary:
            shutil.copyfile(building / STAGED / name, temporary)
    workers = num_workers
    if workers is None and engine == "local" and num_bytes < 2 * _BYTES_PER_WORKER:
        workers = 1
    entries = _write_shards(parts, writing(shards), workers, engine)
    write_json(mix / "mix.json", {**document, "shards": [asdict(entry) for entry in entries]})
    write_energon_meta(mix)


def publish(building: Path, folder: Path) -> None:
    """Give a finished mix its name; the old one goes only now."""
    if folder.exists():
        old = building / "old"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    (building / _MIX).rename(folder)
    shutil.rmtree(building)


def _write_shards(
    parts: Sequence[ShardPart], writing: ShardWriting, num_workers: int | None, engine: str
) -> list[ShardEntry]:
    """The shards of a plan, in order. Only the rows of unfinished shards are read."""
    paths = {part.name: writing.shards / part.name for part in parts}
    finished = [
        part
        for part in parts
        if paths[part.name].exists() and index_path(paths[part.name]).exists()
    ]
    if finished:
        log.info("%s of %s shards are already written", len(finished), len(parts))
    entries = {part.name: _finished_entry(writing.shards / part.name) for part in finished}
    todo = [part for part in parts if part.name not in entries]
    total = sum(part.num_samples for part in todo)
    make_writer = functools.partial(_make_writer, writing)
    with progress("write shards", total=total, unit="samples") as bar:
        for part, entry in load_engine(engine)(todo, make_writer, num_workers):
            entries[part.name] = entry
            bar.advance(part.num_samples)
    return [entries[part.name] for part in parts]


def _make_writer(writing: ShardWriting) -> Worker:
    rows = pq.ParquetFile(writing.rows)

    def write(part: ShardPart) -> ShardEntry:
        return write_shard(
            writing.shards / part.name,
            _samples(rows, part, writing),
            split=part.split,
            tokenizer_id=writing.tokenizer_id,
            num_units=writing.num_units,
            text_tokenizer_id=writing.text_tokenizer_id,
            template_version=writing.template_version,
        )

    return write


def _samples(rows: pq.ParquetFile, part: ShardPart, writing: ShardWriting) -> Iterator[Sample]:
    """The samples of a shard, from the groups of rows that hold them."""
    last = part.first + part.num_samples - 1
    for group in range(part.first // _BATCH_ROWS, last // _BATCH_ROWS + 1):
        table = rows.read_row_group(group)
        start = max(part.first - group * _BATCH_ROWS, 0)
        stop = min(last + 1 - group * _BATCH_ROWS, len(table))
        [batch] = table.slice(start, stop - start).combine_chunks().to_batches()
        columns = [batch[n].to_pylist() for n in ("task", "languages", "epoch", "source_ids")]
        for task, languages, epoch, ids, turns in zip(
            *columns, read_turns(batch["turns"]), strict=True
        ):
            sample = compile_sample(
                task, languages, turns, ids, epoch=epoch, options=writing.options
            )
            yield with_system(
                sample, ids, epoch, share=writing.system_share, options=writing.options
            )


def _finished_entry(shard: Path) -> ShardEntry:
    index = read_index(shard)
    return ShardEntry(
        shard=shard.name,
        split=index.split,
        num_samples=len(index),
        num_bytes=shard.stat().st_size,
        sha256=file_sha256(str(shard)),
    )
