"""catalog + recipe → candidates: what a mix could hold, with its exact tokens. Writes candidates/.

A candidate is known by the hash of its source's ids; its tokens are counted without the wording of
the prompt. Those of a source lie in one Parquet file under the state of the catalog, so that the
next plan over the same data, with other weights, begins there. Tasks whose sample is one row are
counted in SQL; the others are compiled, and their rows are set aside with them.
"""

# N candidates

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cslm_data.catalog import Connection, quoted, read_sql
from cslm_data.errors import UsageError
from cslm_data.keys import content_id, md5_key
from cslm_data.mixing.costs import (
    PromptCosts,
    dialogue_costs,
    fixed_costs,
    prompt_costs,
    wording_choice,
)
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.rows import read_turns
from cslm_data.mixing.sources import COMPILED, COUNTED_IN_SQL, MixSource
from cslm_data.mixing.splits import manifest_split
from cslm_data.records import SPLITS, Sample
from cslm_data.samples import CompileError, CompileOptions, compile_sample, count_tokens
from cslm_data.shards import encode_sample
from cslm_data.statements import parse_predicate
from cslm_data.templates import prompts_id
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.ustar import NPY_HEADER_BYTES, member_bytes
from cslm_data.workspace import Workspace, atomic_path, remove_leftovers

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_VERSION = 1
_BATCH_ROWS = 1024
_COUNTS = pa.schema(
    [
        ("id_hash", pa.uint64()),
        ("num_tokens", pa.uint32()),
        ("num_units", pa.uint32()),
        ("num_bytes", pa.uint64()),
        ("sentence", pa.uint64()),
        ("split_name", pa.uint8()),
        ("quality", pa.float64()),
        ("reject_reason", pa.string()),
        ("reject_detail", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The candidates of one source."""

    source: MixSource
    path: Path
    costs: PromptCosts


@dataclass(frozen=True, kw_only=True)
class Gathering:
    """What it takes to find candidates, besides the source."""

    workspace: Workspace
    connection: Connection
    recipe: Recipe
    options: CompileOptions
    tokenizer: TextTokenizer
    """Of the text."""
    tokenizer_id: str
    """Of the speech."""
    state: str
    """Of the catalog and its files: candidates of another are not these."""


def gather(source: MixSource, to: Gathering, advance: Callable[[float], None]) -> Pool:
    """The candidates of a source, counted unless they are there already.

    Where they are not, the connection has `token_counts`, `sentence_splits` and the macros. Raises
    UsageError for a `where` or `order_by` that is none.
    """
    costs = prompt_costs(source, to.tokenizer, to.recipe, to.options.prompts)
    path = candidates_path(source, to)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with atomic_path(path) as temporary:
            if source.task in COMPILED:
                _compile(source, to, costs, temporary, advance)
            else:
                _count(source, to, costs, temporary)
    return Pool(source=source, path=path, costs=costs)


def candidates_path(source: MixSource, to: Gathering) -> Path:
    """Where the candidates of a source lie, counted or yet to be."""
    return to.workspace.candidates / to.state / f"{_identity(source, to)}.parquet"


def forget_other_states(workspace: Workspace, state: str) -> None:
    """Remove candidates of a catalog that has changed since."""
    for folder in workspace.candidates.glob("*"):
        if folder.name != state:
            shutil.rmtree(folder, ignore_errors=True)


def catalog_state(workspace: Workspace, units: list[str]) -> str:
    """Changes whenever the catalog, its alignments or the parts of its units do."""
    files = [workspace.catalog, *sorted(workspace.alignments.glob("*/part-*.parquet"))]
    stats = [path.stat() for path in files]
    local = [
        (str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True)
    ]
    return content_id([local, units])


def _identity(source: MixSource, to: Gathering) -> str:
    rules = to.recipe.splits
    return content_id(
        {
            "version": _VERSION,
            "task": source.task,
            "languages": source.languages,
            "where": source.where,
            "order_by": source.order_by,
            "splits": [rules.by, rules.valid, rules.test, rules.seed],
            "held_out": [list(rules.held_out.valid), list(rules.held_out.test)],
            "tokenizer_id": to.tokenizer_id,
            "text_tokenizer_id": to.tokenizer.text_tokenizer_id,
            "template_version": to.tokenizer.framing.template_version,
            "options": repr(replace(to.options, prompts=None)),
            "prompts_id": prompts_id(to.options.prompts),
        }
    )


# --- counted in SQL --------------------------------------------------------------------------


def _count(source: MixSource, to: Gathering, costs: PromptCosts, path: Path) -> None:
    kind = COUNTED_IN_SQL[source.task]
    values: dict[str, Any] = {"language": source.language}
    if kind == "dialogues":
        found = dialogue_costs(source, to.tokenizer)
        values |= {
            "user_tokens": found.user_tokens,
            "assistant_tokens": found.assistant_tokens,
            "system_tokens": found.system_tokens,
            "begin_without_system": found.begin_without_system,
            "begin_with_system": found.begin_with_system,
            "segment_bytes": found.segment_bytes,
            "fixed_bytes": found.num_bytes,
        }
    else:
        fixed = fixed_costs(source, costs, to.tokenizer, to.options)
        values |= {"fixed_tokens": fixed.tokens, "fixed_bytes": fixed.num_bytes}
    if kind == "utterances":
        values["tokenizer_id"] = to.tokenizer_id
    if kind == "bitext":
        values["answer_language"] = source.answer_language
    _write(read_sql(f"mix_count_{kind}"), source, to, values, path)


def _write(
    counted: str, source: MixSource, to: Gathering, values: dict[str, Any], path: Path
) -> None:
    text = read_sql("mix_candidates").replace("{counted}", counted)
    values["by_manifest"] = to.recipe.splits.by == "manifest"
    _ask(to.connection, source, text, values).write_parquet(str(path), compression="zstd")


# --- compiled --------------------------------------------------------------------------------


def _compile(
    source: MixSource,
    to: Gathering,
    costs: PromptCosts,
    path: Path,
    advance: Callable[[float], None],
) -> None:
    """Compile every candidate of a source, count it, set its row aside."""
    name = COMPILED[source.task]
    values: dict[str, Any] = {"language": source.language, "tokenizer_id": to.tokenizer_id}
    if name != "mix_utterances":
        values["answer_language"] = source.answer_language
    if name == "mix_speech_translations":
        values["spoken"] = source.task == "s2st"
    if name == "mix_chat":
        values["spoken_questions"] = source.task in ("s2s", "s2t")
        values["spoken_answers"] = source.task in ("s2s", "t2s")
    counts: list[pa.RecordBatch] = []
    with _ask(to.connection, source, read_sql(name), values).to_arrow_reader(_BATCH_ROWS) as rows:
        kept = pa.schema([rows.schema.field(n) for n in ("source_ids", "corpus", "turns")])
        aside = path.with_name(f"{path.name}.rows")
        with pq.ParquetWriter(aside, kept) as writer:
            for batch in rows:
                counts.append(_compile_batch(batch, source, to, costs))
                writer.write_batch(batch.select(kept.names))
                advance(len(batch))
    try:
        table = pa.Table.from_batches(counts, _COUNTS)
        _join_splits(table, aside, to, path)
    finally:
        aside.unlink()


def _join_splits(table: pa.Table, aside: Path, to: Gathering, path: Path) -> None:
    """Give every candidate its split, and put its row beside it."""
    to.connection.register("compiled", table)
    text = read_sql("mix_compiled").replace("{aside}", quoted(aside))
    by_manifest = to.recipe.splits.by == "manifest"
    found = to.connection.sql(text, params={"by_manifest": by_manifest})
    found.write_parquet(str(path), compression="zstd", row_group_size=4096)
    to.connection.unregister("compiled")


def _compile_batch(
    batch: pa.RecordBatch, source: MixSource, to: Gathering, costs: PromptCosts
) -> pa.RecordBatch:
    all_ids = batch["source_ids"].to_pylist()
    samples: list[Sample] = []
    refused: dict[int, CompileError] = {}
    for place, turns in enumerate(read_turns(batch["turns"])):
        try:
            sample = compile_sample(
                source.task, source.languages, turns, all_ids[place], epoch=0, options=to.options
            )
            samples.append(sample)
        except CompileError as error:
            refused[place] = error
    totals = iter(count_tokens(samples, to.tokenizer.encode_batch, to.tokenizer.framing))
    compiled = iter(samples)
    columns: dict[str, list[Any]] = {name: [] for name in _COUNTS.names}
    for place, ids in enumerate(all_ids):
        problem = refused.get(place)
        tokens, num_units, num_bytes = 0, 0, 0
        if problem is None:
            choice = wording_choice(source, ids, to.options)
            tokens = next(totals) - costs.wordings[choice]
            document, units = encode_sample(next(compiled))
            num_units = 0 if units is None else len(units)
            num_bytes = member_bytes(len(document)) + member_bytes(NPY_HEADER_BYTES + 2 * num_units)
        columns["id_hash"].append(md5_key("\0".join(ids)))
        columns["num_tokens"].append(tokens)
        columns["num_units"].append(num_units)
        columns["num_bytes"].append(num_bytes)
        columns["reject_reason"].append(None if problem is None else problem.reason)
        columns["reject_detail"].append(None if problem is None else problem.detail)
    columns["sentence"] = batch["sentence"].to_pylist()
    columns["split_name"] = [
        SPLITS.index(manifest_split(names)) for names in batch["splits"].to_pylist()
    ]
    columns["quality"] = batch["quality"].to_pylist()
    return pa.record_batch(columns, schema=_COUNTS)


# --- what a recipe says in SQL ---------------------------------------------------------------


def _ask(
    connection: Connection, source: MixSource, text: str, values: dict[str, Any]
) -> DuckDBPyRelation:
    """A query over the rows of a source; mistakes in `where` and `order_by` are the recipe's."""
    import duckdb

    at = f"recipe: sources[{source.rule}]"
    where, quality = "true", "null::double"
    if source.where is not None:
        where = parse_predicate(source.where, where=f"{at}.where").text
    if source.order_by is not None:
        quality = f"({parse_predicate(source.order_by, where=f'{at}.order_by').text})::double"
    text = text.replace("({where})", f"({where})").replace("{order_by} as", f"{quality} as")
    try:
        return connection.sql(text, params=values)
    except (
        *(duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException),
        duckdb.PermissionException,
    ) as error:
        if source.where is None and source.order_by is None:
            raise
        said = " / ".join(
            f"{at}.{name} {value!r}"
            for name, value in (("where", source.where), ("order_by", source.order_by))
            if value is not None
        )
        raise UsageError(f"{said}: {error}") from None
