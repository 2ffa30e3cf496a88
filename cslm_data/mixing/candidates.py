"""catalog + recipe → candidates: every sample that a mix could hold, with its exact tokens.

Each candidate is compiled once to count its tokens; its source row is set aside as Parquet, so that
the catalog is closed before the first shard is written and a mix is made of one state of it.
"""

# N candidates

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cslm_data.catalog import Connection
from cslm_data.keys import U64
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.rows import MixSource, choose_sample, open_rows, read_turns
from cslm_data.mixing.splits import SentenceSplits, SplitIndex, manifest_split
from cslm_data.records import SPLITS, Reject, Sample
from cslm_data.reject_files import RejectFile
from cslm_data.samples import (
    CompileError,
    CompileOptions,
    compile_sample,
    count_tokens,
    source_hash,
)
from cslm_data.shards import encode_sample
from cslm_data.templates import choose_wording, literals, wordings
from cslm_data.text_tokenizer import TextTokenizer

if TYPE_CHECKING:
    import pyarrow

U32 = NDArray[np.uint32]

_COLUMNS: dict[str, Any] = {
    "keys": np.uint64,
    "tokens": np.uint32,
    "units": np.uint32,
    "bytes": np.uint32,
    "splits": np.uint8,
    "sentences": np.uint64,
}
"""What is kept of each candidate, in arrays: there may be very many."""


@dataclass(kw_only=True)
class Candidates:
    """The candidates of one source, those that compile."""

    first: int
    """Number of its first candidate; the others follow."""
    keys_N: U64
    """Hash in the name of the sample."""
    tokens_N: U32
    """Without the wording of the prompt."""
    units_N: U32
    bytes_N: U32
    splits_N: SplitIndex
    wording_tokens: tuple[int, ...]
    """Tokens that each wording adds."""
    num_rows: int
    """Rows that the catalog gave, rejected ones included."""
    population: int
    """Rows that the catalog has, of which `num_rows` are all, or a sample (`max_candidates`)."""
    reasons: Counter[str]


@dataclass(kw_only=True)
class Gathering:
    """What gathering needs and collects over all sources."""

    rows: Path
    """Folder where source rows are set aside."""
    tokenizer: TextTokenizer
    tokenizer_id: str
    options: CompileOptions
    recipe: Recipe
    sentence_splits: SentenceSplits | None
    """None: the corpus's own splits."""
    rejects: RejectFile
    """Takes what makes no sample, so that it need not be kept."""
    seen: set[int] = field(default_factory=set)
    num_candidates: int = 0
    digest: Any = field(default_factory=hashlib.blake2b)
    """Of every candidate's content."""


def expand_recipe(recipe: Recipe, languages: Sequence[str]) -> list[MixSource]:
    """The sources of a recipe for some languages, shares split evenly over languages or pairs."""
    pairs = {
        "each": [(language, language) for language in languages],
        "pairs": list(itertools.permutations(languages, 2)),
    }
    rules = [(i, r) for i, r in enumerate(recipe.sources) if pairs[r.languages]]
    total = sum(rule.weight for _, rule in rules)
    sources: list[MixSource] = []
    for number, rule in rules:
        for language, answer_language in pairs[rule.languages]:
            source = MixSource(
                index=len(sources),
                rule=number,
                task=rule.task,
                language=language,
                answer_language=answer_language,
                share=rule.weight / total / len(pairs[rule.languages]),
                max_epochs=rule.max_epochs,
                where=rule.where,
                optional=rule.optional,
            )
            sources.append(source)
    return sources


def gather(
    connection: Connection,
    source: MixSource,
    to: Gathering,
    advance: Callable[[float], None] = lambda amount: None,
) -> Candidates:
    """Compile every candidate of a source, count it, set its row aside, note the rejected ones."""
    import pyarrow.parquet

    wording_tokens = _count_wordings(source, to.tokenizer)
    first = to.num_candidates
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    num_rows = 0
    reasons_before = to.rejects.reasons.copy()
    population, threshold = choose_sample(connection, source, to.recipe)
    with open_rows(
        connection,
        source,
        tokenizer_id=to.tokenizer_id,
        recipe=to.recipe,
        threshold=threshold,
    ) as reader:
        schema = reader.schema.append(pyarrow.field("candidate", pyarrow.uint32()))
        path = to.rows / f"{source.index:04d}.parquet"
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for batch in reader:
                num_rows += len(batch)
                found: dict[str, list[int]] = {name: [] for name in _COLUMNS}
                kept = _compile_batch(batch, source, to, wording_tokens, found)
                if kept:
                    rows = batch.take(kept)
                    found["splits"] = [
                        SPLITS.index(manifest_split(names)) for names in rows["splits"].to_pylist()
                    ]
                    found["sentences"] = [key or 0 for key in rows["sentence"].to_pylist()]
                    for name, kind in _COLUMNS.items():
                        columns[name].append(np.array(found[name], kind))
                    numbers = np.arange(
                        to.num_candidates, to.num_candidates + len(kept), dtype=np.uint32
                    )
                    to.num_candidates += len(kept)
                    rows = rows.append_column("candidate", pyarrow.array(numbers))
                    writer.write_batch(rows.cast(schema))
                advance(len(batch))
    arrays = {
        name: np.concatenate([np.zeros(0, kind), *columns.pop(name)])
        for name, kind in _COLUMNS.items()
    }
    splits_N = arrays["splits"]
    if to.sentence_splits is not None:
        splits_N = to.sentence_splits.of(arrays["sentences"])
    to.digest.update(splits_N.tobytes())
    return Candidates(
        first=first,
        keys_N=arrays["keys"],
        tokens_N=arrays["tokens"],
        units_N=arrays["units"],
        bytes_N=arrays["bytes"],
        splits_N=splits_N,
        wording_tokens=wording_tokens,
        num_rows=num_rows,
        population=num_rows if population < 0 else population,
        reasons=to.rejects.reasons - reasons_before,
    )


def sample_choices(source: MixSource, hashes: Sequence[int], *, prompts_seed: int) -> list[int]:
    """Which wording each sample gets; 0 where its task has none."""
    kind = source.prompt_kind
    if kind is None:
        return [0] * len(hashes)
    return [
        choose_wording(kind, source.language, seed=prompts_seed, sample_hash=each)
        for each in hashes
    ]


def _compile_batch(
    batch: pyarrow.RecordBatch,
    source: MixSource,
    to: Gathering,
    wording_tokens: tuple[int, ...],
    columns: dict[str, list[Any]],
) -> list[int]:
    """Compile the rows of a batch; the positions of those that make a sample."""
    all_ids = batch["source_ids"].to_pylist()
    corpora = batch["corpus"].to_pylist()
    places: list[int] = []
    samples: list[Sample] = []

    def reject(place: int, reason: str, detail: str) -> None:
        row = Reject(
            stage="mix",
            corpus=corpora[place],
            key=all_ids[place][0],
            reason=reason,
            detail=f"{source.task} {source.languages}: {detail}",
        )
        to.rejects.add(row)

    for place, turns in enumerate(read_turns(batch["turns"])):
        ids = all_ids[place]
        try:
            sample = compile_sample(
                source.task, source.languages, turns, ids, epoch=0, options=to.options
            )
        except CompileError as error:
            reject(place, error.reason, error.detail)
            continue
        places.append(place)
        samples.append(sample)
    kept: list[int] = []
    totals = count_tokens(samples, to.tokenizer.encode_batch)
    hashes = [source_hash(source.task, source.languages, all_ids[place]) for place in places]
    choices = sample_choices(source, hashes, prompts_seed=to.options.prompts_seed)
    limit = to.recipe.max_sample_tokens
    for place, sample, total, choice, key in zip(
        places, samples, totals, choices, hashes, strict=True
    ):
        if limit is not None and total > limit:
            reject(place, "too_long", f"{total} tokens, over max_sample_tokens {limit}")
            continue
        if key in to.seen:
            reject(place, "duplicate", "an earlier row or source of the recipe has it already")
            continue
        to.seen.add(key)
        kept.append(place)
        document, units = encode_sample(sample)
        to.digest.update(document)
        if units is not None:
            to.digest.update(units.tobytes())
        num_units = 0 if units is None else len(units)
        npy_bytes = 0 if units is None else _tar_bytes(128 + 2 * num_units)
        columns["keys"].append(key)
        columns["tokens"].append(total - wording_tokens[choice])
        columns["units"].append(num_units)
        columns["bytes"].append(_tar_bytes(len(document)) + npy_bytes)
    return kept


def _tar_bytes(num_bytes: int) -> int:
    return 512 + num_bytes + -num_bytes % 512


def _count_wordings(source: MixSource, tokenizer: TextTokenizer) -> tuple[int, ...]:
    kind = source.prompt_kind
    if kind is None:
        return (0,)
    return tuple(
        sum(
            len(ids)
            for ids in tokenizer.encode_batch(
                literals(
                    kind, choice, language=source.language, answer_language=source.answer_language
                )
            )
        )
        for choice in range(len(wordings(kind, source.language)))
    )
