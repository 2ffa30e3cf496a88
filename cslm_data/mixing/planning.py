"""recipe + catalog → the plan of a mix: candidates counted, shares realised, samples chosen."""

# S sources

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.catalog import Connection, quoted, read_sql, scalar
from cslm_data.errors import MissingArtefactError, NoDataError, UsageError
from cslm_data.mixing.candidates import (
    Gathering,
    Pool,
    candidates_path,
    catalog_state,
    forget_other_states,
    gather,
)
from cslm_data.mixing.choosing import Stock, choose, see_pools, take_stock, view_of
from cslm_data.mixing.recipes import Recipe
from cslm_data.mixing.report import missing, realised_rows
from cslm_data.mixing.shares import share_out
from cslm_data.mixing.sources import COUNTED_IN_SQL, SPEECH_TASKS, MixSource, expand_recipe
from cslm_data.mixing.splits import make_sentence_splits, require_corpora
from cslm_data.mixing.token_counts import count_texts
from cslm_data.progress import progress
from cslm_data.records import SPLITS, Reject
from cslm_data.reject_files import open_rejects
from cslm_data.samples import CompileOptions
from cslm_data.storage import units_folder
from cslm_data.templates import all_literals, load_prompts
from cslm_data.text_tokenizer import TextTokenizer, get_text_tokenizer
from cslm_data.workspace import Workspace

DEFAULT_MEMORY_GB = 0.5


@dataclass(frozen=True, kw_only=True)
class MixOptions:
    """What a mix is asked for, besides its recipe."""

    languages: Sequence[str]
    tokenizer: str | None = None
    """Speech tokenizer of the workspace, by name or id."""
    text_tokenizer: str | Path | None = None
    """Text tokenizer of the workspace, or a folder."""
    prompts: Path | None = None
    """Folder of wordings that replace the shipped ones, file by file."""
    allow_missing: bool = False
    """Go on where a language has no data for a task that the recipe requires."""
    without: Sequence[str] = ()
    """Ids of source rows to plan without."""
    memory_gb: float = DEFAULT_MEMORY_GB
    """What DuckDB may take; it spills to disk beyond."""


@dataclass(frozen=True, kw_only=True)
class SpeechTokenizer:
    """What a mix says of its units."""

    tokenizer_id: str
    num_units: int
    frame_rate_hz: float


@dataclass(frozen=True, kw_only=True)
class MixPlan:
    """What a mix holds; its samples are in the connection's table `chosen`."""

    languages: tuple[str, ...]
    sources: list[MixSource]
    pools: list[Pool]
    speech: SpeechTokenizer
    text: TextTokenizer
    options: CompileOptions
    template_version: str
    realised: list[dict[str, Any]]
    missing: list[str]
    counts: dict[str, int]
    reject_reasons: dict[str, int]
    limit: int | None

    def splits(self, connection: Connection) -> dict[str, dict[str, int]]:
        """Samples and tokens of each split."""
        rows = connection.execute(
            "select split, count(*), sum(num_tokens) from chosen group by split"
        ).fetchall()
        found = {split: (number, int(tokens)) for split, number, tokens in rows}
        return {
            name: dict(zip(("num_samples", "num_tokens"), found.get(i, (0, 0)), strict=True))
            for i, name in enumerate(SPLITS)
        }


def plan_mix(
    workspace: Workspace, connection: Connection, rules: Recipe, options: MixOptions
) -> MixPlan:
    """Count, share out and choose; leaves `chosen` and the view `pool_<source>` of each source.

    Raises UsageError, NoDataError, MissingArtefactError, LockedError.
    """
    languages = tuple(options.languages)
    _check_catalog(connection, languages)
    sources = expand_recipe(rules, languages)
    if not sources:
        raise NoDataError("the recipe has no source for these languages; see its languages, only")
    speech = _choose_tokenizer(connection, sources, options.tokenizer)
    prompts = None if options.prompts is None else load_prompts(options.prompts)
    text = get_text_tokenizer(
        workspace,
        options.text_tokenizer,
        connection,
        prompts=all_literals(list(languages), prompts=prompts),
    )
    compile_options = CompileOptions(
        prompts_seed=rules.prompts_seed,
        prompts=prompts,
        frame_rate_hz=speech.frame_rate_hz,
        interleave=rules.interleave,
        chunk_words=rules.chunk_words,
        text_question=rules.text_question,
        **({} if rules.ratio is None else {"ratio": (rules.ratio[0], rules.ratio[1])}),
    )
    units = units_folder(workspace).child(speech.tokenizer_id)
    state = catalog_state(workspace, units.names("part-*.parquet"))
    forget_other_states(workspace, state)
    connection.execute(read_sql("mix_macros"))
    require_corpora(connection, rules.splits)
    gathering = Gathering(
        workspace=workspace,
        connection=connection,
        recipe=rules,
        options=compile_options,
        tokenizer=text,
        tokenizer_id=speech.tokenizer_id,
        state=state,
    )
    if not all(candidates_path(source, gathering).exists() for source in sources):
        with progress("count texts", total=None, unit="texts") as bar:
            count_texts(workspace, connection, text, languages, bar.advance)
        make_sentence_splits(connection, rules.splits)
    with progress("read candidates", total=None, unit="rows") as bar:
        pools = [gather(source, gathering, bar.advance) for source in sources]
    see_pools(pools, connection, rules, without=options.without)
    stocks = [take_stock(pool, connection) for pool in pools]
    required, optional = missing(sources, stocks, languages, rules)
    if required and not options.allow_missing:
        raise NoDataError(
            "; ".join(required) + "; or take the task out of the recipe, make it optional, leave "
            "the language out, or go on without: --allow-missing"
        )
    shares = share_out(sources, [stock.tokens.get(0, 0) for stock in stocks], rules)
    for pool, share in zip(pools, shares, strict=True):
        choose(pool, share, connection, rules)
    rows = connection.execute(read_sql("mix_realised")).fetchall()
    reasons = sum((stock.reasons for stock in stocks), Counter[str]())
    return MixPlan(
        languages=languages,
        sources=sources,
        pools=pools,
        speech=speech,
        text=text,
        options=compile_options,
        template_version=text.framing.template_version,
        realised=realised_rows(
            sources, stocks, shares, {(s, split): (n, int(t)) for s, split, n, t, _ in rows}
        ),
        missing=[*required, *optional],
        counts=_counts(connection, sources, stocks, reasons, rows),
        reject_reasons=dict(sorted(reasons.items())),
        limit=rules.max_sample_tokens,
    )


def write_refused(plan: MixPlan, connection: Connection, path: Path) -> None:
    """Write a row for every candidate that makes no sample."""
    with open_rejects(path) as file:
        for pool in plan.pools if plan.reject_reasons else ():
            source = pool.source
            text = read_sql("mix_rejects").replace("{pool}", view_of(pool))
            found = connection.execute(text.replace("{ids}", _ids(pool)))
            while rows := found.fetchmany(1024):
                for corpus, key, reason, detail, total in rows:
                    said = _DETAILS.get(reason, detail or "").format(total=total, limit=plan.limit)
                    file.add(
                        Reject(
                            stage="mix",
                            corpus=corpus,
                            key=key,
                            reason=reason,
                            detail=f"{source.task} {source.languages}: {said}",
                        )
                    )


_DETAILS = {
    "too_long": "{total} tokens, over max_sample_tokens {limit}",
    "duplicate": "an earlier source of the recipe has it already",
    "left_out": "named by --without",
}

_IDS = {
    "utterances": "select key_hash as id_hash, utt_id as id, corpus from utterances",
    "bitext": "select key_hash as id_hash, pair_id as id, corpus from bitext",
    "dialogues": "select key_hash as id_hash, dialogue_id as id, corpus from dialogues",
}


def _ids(pool: Pool) -> str:
    kind = COUNTED_IN_SQL.get(pool.source.task)
    if kind is not None:
        return _IDS[kind]
    return f"select id_hash, source_ids[1] as id, corpus from read_parquet({quoted(pool.path)})"


def _counts(
    connection: Connection,
    sources: Sequence[MixSource],
    stocks: Sequence[Stock],
    reasons: Counter[str],
    rows: Sequence[tuple[Any, ...]],
) -> dict[str, int]:
    candidates = sum(stock.num_rows for stock in stocks)
    selected = sum(number for *_, number in rows)
    spoken = sorted({s.language for s in sources if s.task in ("asr", "tts")})
    untranscribed = (
        "select count(*) from utterances where text is null and list_contains(?, language)"
    )
    return {
        "candidates": candidates,
        "selected": selected,
        "not_selected": candidates - reasons.total() - selected,
        "rejected": reasons.total(),
        "samples": sum(number for _, _, number, _, _ in rows),
        "no_text": int(scalar(connection, untranscribed, [spoken]) or 0),
    }


def _check_catalog(connection: Connection, languages: Sequence[str]) -> None:
    held = [row[0] for row in connection.execute(read_sql("mix_languages")).fetchall()]
    lacking = [language for language in languages if language not in held]
    if not held:
        raise NoDataError("the catalog is empty; begin with: cslm-data ingest FOLDER")
    if lacking:
        raise NoDataError(
            f"--langs: nothing in the catalog is in {', '.join(lacking)}; it holds "
            f"{', '.join(held)}; ingest data of that language, or leave it out"
        )


def _choose_tokenizer(
    connection: Connection, sources: Sequence[MixSource], name: str | None
) -> SpeechTokenizer:
    rows = connection.execute(
        "select name, tokenizer_id, num_units, frame_rate_hz from tokenizers order by name"
    ).fetchall()
    found = [row for row in rows if name is None or name in row[:2]]
    names = ", ".join(row[0] for row in rows)
    if not found:
        if name is None and not any(source.task in SPEECH_TASKS for source in sources):
            return SpeechTokenizer(tokenizer_id="none", num_units=0, frame_rate_hz=0.0)
        if name is None:
            raise MissingArtefactError(
                "no speech tokenizer in the workspace; run: cslm-data quantize"
            )
        raise UsageError(f"--tokenizer {name}: no such speech tokenizer; there are: {names}")
    if len({row[1] for row in found}) > 1:
        raise UsageError(f"name the speech tokenizer with --tokenizer; there are: {names}")
    return SpeechTokenizer(
        tokenizer_id=found[0][1], num_units=found[0][2], frame_rate_hz=found[0][3]
    )
