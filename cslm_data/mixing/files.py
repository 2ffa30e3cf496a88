"""a plan → the files of a mix, resumable. Writes mixes/.<name>.building, then mixes/<name>."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cslm_data.catalog import read_sql
from cslm_data.errors import CslmError
from cslm_data.keys import file_sha256
from cslm_data.mixing.plan import MixPlan
from cslm_data.mixing.rows import MixSource, read_turns
from cslm_data.progress import progress
from cslm_data.records import SPLITS, Sample
from cslm_data.samples import CompileOptions, compile_sample
from cslm_data.shards import ShardEntry, read_index, write_shard
from cslm_data.workspace import atomic_path, remove_leftovers, write_json

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)

REFUSED = "rejects.parquet"
"""Candidates that make no sample."""

_BATCH_ROWS = 512
_MIX = "mix"
"""Folder inside of the building folder that becomes the mix. One level down, so that the views,
which look at mixes/*/mix.parquet, do not see what is not finished."""


def load_plan_id(folder: Path) -> str | None:
    """The mix_id of a finished mix or of a building folder; None when it cannot be read."""
    for name in ("mix.json", "plan.json"):
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            return str(document["mix_id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def write_mix(
    building: Path,
    plan: MixPlan,
    sources: Sequence[MixSource],
    document: dict[str, Any],
    *,
    options: CompileOptions,
) -> None:
    """Write all files of a mix into its building folder; shards that are finished stay.

    What was refused waits there as REFUSED. `document` is mix.json but for its shards and splits.
    """
    mix = building / _MIX
    if load_plan_id(building) != document["mix_id"]:
        shutil.rmtree(mix, ignore_errors=True)
        write_json(building / "plan.json", {"mix_id": document["mix_id"]})
    shards = mix / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    for folder in (building, mix, shards):
        remove_leftovers(folder)
    table = _plan_table(plan, sources)
    _write_parquet(mix / "mix.parquet", building, "mix_plan", table)
    with atomic_path(mix / REFUSED) as temporary:
        shutil.copyfile(building / REFUSED, temporary)
    entries = _write_shards(shards, building, plan, table, sources, document, options)
    splits = {
        split: {
            "num_samples": int((plan.splits_M == index).sum()),
            "num_tokens": int(plan.tokens_M[plan.splits_M == index].sum(dtype="int64")),
        }
        for index, split in enumerate(SPLITS)
    }
    rows = [dataclasses.asdict(entry) for entry in entries]
    write_json(mix / "mix.json", {**document, "splits": splits, "shards": rows})


def publish(building: Path, folder: Path) -> None:
    """Give a finished mix its name; the old one goes only now."""
    if folder.exists():
        old = building / "old"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    (building / _MIX).rename(folder)
    shutil.rmtree(building)


def _write_shards(
    shards: Path,
    building: Path,
    plan: MixPlan,
    table: pyarrow.Table,
    sources: Sequence[MixSource],
    document: dict[str, Any],
    options: CompileOptions,
) -> list[ShardEntry]:
    """The shards of a plan in order. Only the rows of unfinished shards are read."""
    import pyarrow.compute

    names = list(dict.fromkeys(plan.shards))
    finished = [name for name in names if (shards / name).exists()]
    if finished:
        log.info("%s of %s shards are already written", len(finished), len(names))
    unfinished = pyarrow.array([name for name in names if name not in set(finished)])
    todo = table.filter(pyarrow.compute.is_in(table["shard"], value_set=unfinished))
    entries = {name: _finished_entry(shards / name) for name in finished}
    with progress("write shards", total=len(todo), unit="samples") as bar:
        samples = _compiled(building, todo, sources, options, bar.advance)
        for name, group in itertools.groupby(samples, key=lambda pair: pair[0]):
            entries[name] = write_shard(
                shards / name,
                (sample for _, sample in group),
                split=next(split for split in SPLITS if name.startswith(split)),
                tokenizer_id=document["tokenizer_id"],
                num_units=document["num_units"],
                text_tokenizer_id=document["text_tokenizer_id"],
                template_version=document["template_version"],
            )
    return [entries[name] for name in names]


def _compiled(
    building: Path,
    todo: pyarrow.Table,
    sources: Sequence[MixSource],
    options: CompileOptions,
    advance: Callable[[float], None],
) -> Iterator[tuple[str, Sample]]:
    """Shard and sample, in the order of the plan."""
    if len(todo) == 0:
        return
    for batch in _rows(building, "mix_rows", todo):
        columns = [batch[n].to_pylist() for n in ("shard", "source", "epoch", "source_ids")]
        for shard, number, epoch, ids, turns in zip(
            *columns, read_turns(batch["turns"]), strict=True
        ):
            source = sources[number]
            yield (
                shard,
                compile_sample(
                    source.task, source.languages, turns, ids, epoch=epoch, options=options
                ),
            )
        advance(len(batch))


def _finished_entry(shard: Path) -> ShardEntry:
    index = read_index(shard)
    return ShardEntry(
        shard=shard.name,
        split=index.split,
        num_samples=len(index),
        num_bytes=shard.stat().st_size,
        sha256=file_sha256(str(shard)),
    )


def _plan_table(plan: MixPlan, sources: Sequence[MixSource]) -> pyarrow.Table:
    import pyarrow

    tasks = [source.task for source in sources]
    languages = [source.languages for source in sources]
    numbers = plan.sources_M.tolist()
    return pyarrow.table(
        {
            "ordinal": pyarrow.array(range(len(plan)), pyarrow.uint64()),
            "split": [SPLITS[split] for split in plan.splits_M.tolist()],
            "position": plan.positions_M,
            "key": plan.keys,
            "task": [tasks[number] for number in numbers],
            "languages": [languages[number] for number in numbers],
            "source": plan.sources_M,
            "candidate": plan.candidates_M,
            "epoch": plan.epochs_M,
            "num_tokens": plan.tokens_M,
            "num_units": plan.units_M,
            "shard": plan.shards,
        }
    )


def _rows(building: Path, query: str, plan: pyarrow.Table) -> Iterator[pyarrow.RecordBatch]:
    """Rows of a query over the plan and the candidate rows that were set aside."""
    import duckdb

    pattern = str(building / "rows" / "*.parquet").replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("set temp_directory = ?", [str(building / "spill")])
        connection.register("plan", plan)
        text = read_sql(query).replace("{rows}", f"'{pattern}'")
        result: Any = connection.sql(text)
        with result.to_arrow_reader(_BATCH_ROWS) as reader:
            yield from reader


def _write_parquet(path: Path, building: Path, query: str, plan: pyarrow.Table) -> None:
    import pyarrow.parquet

    num_rows = 0
    with atomic_path(path) as temporary:
        batches = _rows(building, query, plan)
        first = next(batches)
        with pyarrow.parquet.ParquetWriter(temporary, first.schema) as writer:
            for batch in itertools.chain([first], batches):
                writer.write_batch(batch, row_group_size=1 << 20)
                num_rows += len(batch)
    if num_rows != len(plan):
        raise CslmError(f"{path}: {num_rows} rows for {len(plan)} samples of the plan")
