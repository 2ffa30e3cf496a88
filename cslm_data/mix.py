"""catalog + units + alignments → a mix. Reads all three, writes mixes/<name>/.

Step 1: compile every candidate once, count its tokens, set its row aside; close the catalog.
Step 2: choose samples to the weights of the recipe and put them in order; write mix.parquet.
Step 3: write the shards in order; those that a killed run finished stay.
Step 4: write mix.json and give the folder its name.

Everything is built in mixes/.<name>.building under the identity of the plan: the same command after
a kill goes on there, a changed plan begins anew, and an old mix stays until the new one is whole.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cslm_data.catalog import Connection, open_catalog, read_sql, scalar
from cslm_data.errors import (
    AlreadyExistsError,
    MissingArtefactError,
    NoDataError,
    UsageError,
)
from cslm_data.framing import TEMPLATE_VERSION
from cslm_data.keys import content_id
from cslm_data.languages import check_language
from cslm_data.mixing.candidates import (
    Candidates,
    Gathering,
    expand_recipe,
    gather,
)
from cslm_data.mixing.files import REFUSED, load_plan_id, publish, write_mix
from cslm_data.mixing.plan import plan_mix
from cslm_data.mixing.recipes import Recipe, load_recipe, recipe_json
from cslm_data.mixing.rows import MixSource
from cslm_data.mixing.splits import split_sentences
from cslm_data.progress import progress
from cslm_data.reject_files import RejectFile, open_rejects
from cslm_data.samples import CompileOptions
from cslm_data.shards import MixInfo
from cslm_data.templates import all_literals, prompts_id
from cslm_data.text_tokenizer import TextTokenizer, get_text_tokenizer
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_SHARD_BYTES = 256 * 2**20
_SPEECH_TASKS = frozenset({"asr", "tts", "s2s", "t2s"})


@dataclass(frozen=True, kw_only=True)
class MixSummary:
    """What build_mix did. `info.realised` is the table of requested against realised tokens."""

    info: MixInfo
    already_built: bool
    """Nothing was written: this very mix was there."""
    reject_reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class _SpeechTokenizer:
    tokenizer_id: str
    num_units: int
    frame_rate_hz: float


def build_mix(
    workspace: Workspace,
    *,
    languages: Sequence[str],
    stage: str = "pretrain",
    recipe: Path | None = None,
    name: str | None = None,
    tokenizer: str | None = None,
    text_tokenizer: str | Path | None = None,
    seed: int | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = False,
) -> MixSummary:
    """Build the mix `mixes/<name>` (default: the stage) of a recipe for some languages.

    `tokenizer` names a speech tokenizer of the workspace, `text_tokenizer` a text tokenizer of the
    workspace or a folder. Raises UsageError, NoDataError, MissingArtefactError,
    AlreadyExistsError, LockedError.
    """
    rules = load_recipe(recipe, stage=stage)
    name = _check_name(name or rules.stage)
    _check_languages(languages)
    seed = rules.seed if seed is None else seed
    folder, building = workspace.mixes / name, workspace.mixes / f".{name}.building"
    sources = expand_recipe(rules, languages)
    with workspace.lock(f"mix-{name}", f"build-mix {name}"):
        rows = building / "rows"
        shutil.rmtree(rows, ignore_errors=True)
        rows.mkdir(parents=True)
        with open_catalog(workspace, doing=f"build-mix {name}") as connection:
            _check_catalog(connection, languages)
            speech = _choose_tokenizer(connection, sources, tokenizer)
            text = get_text_tokenizer(
                workspace, text_tokenizer, connection, prompts=all_literals(list(languages))
            )
            with open_rejects(building / REFUSED) as refused:
                gathering, candidates = _gather(
                    connection, sources, rules, speech, text, rows, refused
                )
            num_untranscribed = _count_untranscribed(connection, sources)
        _check_data(sources, candidates)
        num_rejected = refused.reasons.total()
        num_candidates = sum(pool.population for pool in candidates)
        plan = plan_mix(sources, candidates, rules, seed=seed, shard_bytes=shard_bytes)
        if len(plan) == 0:
            raise NoDataError(
                f"mix {name}: nothing is left of {num_rejected} candidates; see why: "
                'cslm-data sql "select reason, count(*) from rejects group by reason"'
            )
        identity = {
            "languages": list(languages),
            "seed": seed,
            "recipe": recipe_json(rules),
            "tokenizer_id": speech.tokenizer_id,
            "text_tokenizer_id": text.text_tokenizer_id,
            "template_version": TEMPLATE_VERSION,
            "prompts_id": prompts_id(),
            "shard_bytes": shard_bytes,
            "candidates": gathering.digest.hexdigest(),
            "plan": plan.digest(),
        }
        mix_id = content_id(identity)
        reasons = dict(sorted(refused.reasons.items()))
        if folder.exists():
            if load_plan_id(folder) == mix_id:
                shutil.rmtree(building)
                info = MixInfo.load(folder)
                return MixSummary(info=info, already_built=True, reject_reasons=reasons)
            if not overwrite:
                shutil.rmtree(building)
                raise AlreadyExistsError(
                    f"{folder}: another mix of this name is there; replace it with --overwrite, or "
                    "give this one a name with --name"
                )
        document = {
            "mix_id": mix_id,
            "name": name,
            "stage": rules.stage,
            "languages": list(languages),
            "seed": seed,
            "recipe": recipe_json(rules),
            "tokenizer_id": speech.tokenizer_id,
            "num_units": speech.num_units,
            "frame_rate_hz": speech.frame_rate_hz,
            "text_tokenizer_id": text.text_tokenizer_id,
            "text_tokenizer": _where(workspace, text),
            "template_version": TEMPLATE_VERSION,
            "realised": plan.realised,
            "counts": {
                "candidates": num_candidates,
                "selected": plan.num_selected,
                "not_selected": num_candidates - num_rejected - plan.num_selected,
                "rejected": num_rejected,
                "samples": len(plan),
                "no_text": num_untranscribed,
            },
        }
        write_mix(
            building,
            plan,
            sources,
            document,
            options=gathering.options,
        )
        publish(building, folder)
    info = MixInfo.load(folder)
    return MixSummary(info=info, already_built=False, reject_reasons=reasons)


def _gather(
    connection: Connection,
    sources: Sequence[MixSource],
    rules: Recipe,
    speech: _SpeechTokenizer,
    text: TextTokenizer,
    rows: Path,
    refused: RejectFile,
) -> tuple[Gathering, list[Candidates]]:
    splits = None
    if rules.splits.by == "content":
        links = connection.execute(read_sql("mix_sentences")).fetchnumpy()
        splits = split_sentences(
            np.stack([np.asarray(links[end], np.uint64) for end in ("a", "b")], 1),
            valid=rules.splits.valid,
            test=rules.splits.test,
            seed=rules.splits.seed,
        )
    gathering = Gathering(
        rows=rows,
        rejects=refused,
        tokenizer=text,
        tokenizer_id=speech.tokenizer_id,
        options=CompileOptions(
            prompts_seed=rules.prompts_seed,
            frame_rate_hz=speech.frame_rate_hz,
            chunk_words=rules.chunk_words,
        ),
        recipe=rules,
        sentence_splits=splits,
    )
    with progress("read candidates", total=None, unit="rows") as bar:
        candidates = [gather(connection, source, gathering, bar.advance) for source in sources]
    return gathering, candidates


# --- what is asked for -----------------------------------------------------------------------


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UsageError(f"--name {name!r}: only A-Z a-z 0-9 _ and -")
    return name


def _check_languages(languages: Sequence[str]) -> None:
    if not languages:
        raise UsageError("--langs: name at least one language, such as en,zh")
    for language in languages:
        check_language(language, where="--langs")
        if list(languages).count(language) > 1:
            raise UsageError(f"--langs: {language} is named twice")


def _check_catalog(connection: Connection, languages: Sequence[str]) -> None:
    held = [row[0] for row in connection.execute(read_sql("mix_languages")).fetchall()]
    missing = [language for language in languages if language not in held]
    if not held:
        raise NoDataError("the catalog is empty; begin with: cslm-data ingest FOLDER")
    if missing:
        raise NoDataError(
            f"--langs: nothing in the catalog is in {', '.join(missing)}; it holds "
            f"{', '.join(held)}; ingest data of that language, or leave it out"
        )


def _choose_tokenizer(
    connection: Connection, sources: Sequence[MixSource], name: str | None
) -> _SpeechTokenizer:
    rows = connection.execute(
        "select name, tokenizer_id, num_units, frame_rate_hz from tokenizers order by name"
    ).fetchall()
    found = [row for row in rows if name is None or name in row[:2]]
    names = ", ".join(row[0] for row in rows)
    if not found:
        if name is None and not any(source.task in _SPEECH_TASKS for source in sources):
            return _SpeechTokenizer(tokenizer_id="none", num_units=0, frame_rate_hz=0.0)
        if name is None:
            raise MissingArtefactError(
                "no speech tokenizer in the workspace; run: cslm-data quantize"
            )
        raise UsageError(f"--tokenizer {name}: no such speech tokenizer; there are: {names}")
    if len({row[1] for row in found}) > 1:
        raise UsageError(f"name the speech tokenizer with --tokenizer; there are: {names}")
    return _SpeechTokenizer(
        tokenizer_id=found[0][1], num_units=found[0][2], frame_rate_hz=found[0][3]
    )


def _where(workspace: Workspace, text: TextTokenizer) -> str:
    folder = text.folder.absolute()
    if folder.is_relative_to(workspace.root):
        return folder.relative_to(workspace.root).as_posix()
    return str(folder)


def _count_untranscribed(connection: Connection, sources: Sequence[MixSource]) -> int:
    languages = sorted({s.language for s in sources if s.task in ("asr", "tts")})
    query = "select count(*) from utterances where text is null and language in (select unnest(?))"
    return int(scalar(connection, query, [languages]) or 0)


# --- what is missing -------------------------------------------------------------------------

_INGEST = {
    "asr": "no transcribed speech; ingest speech with transcripts",
    "tts": "no transcribed speech; ingest speech with transcripts",
    "mt": "no translations; ingest translations",
    "instruct": "no text instructions; ingest instructions",
    "s2s": "no spoken question with a spoken answer; ingest spoken dialogues",
    "t2s": "no question with a spoken answer; ingest spoken dialogues",
}


def _check_data(sources: Sequence[MixSource], candidates: Sequence[Candidates]) -> None:
    """Raise NoDataError that says what is missing for which language, all of it at once.

    A task between languages is satisfied for a language by any one pair with it.
    """
    served: set[tuple[int, str]] = set()
    for source, pool in zip(sources, candidates, strict=True):
        if len(pool.keys_N):
            served |= {(source.rule, source.language), (source.rule, source.answer_language)}
    missing: dict[str, None] = {}
    for source, pool in zip(sources, candidates, strict=True):
        if len(pool.keys_N):
            continue
        why = _why_none(source, pool)
        ends = (source.language, source.answer_language)
        if source.optional or all((source.rule, end) in served for end in ends):
            log.info("no %s in %s: %s", source.task, source.languages, why)
            continue
        missing[f"{source.task} in {source.languages}, but there is {why}"] = None
    if missing:
        raise NoDataError(
            "the mix asks for " + "; and for ".join(missing) + "; or take it out of the recipe"
        )


def _why_none(source: MixSource, pool: Candidates) -> str:
    if pool.num_rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in pool.reasons.most_common())
        steps = {"no_units": "run cslm-data quantize", "no_alignment": "ingest word alignments"}
        step = "; ".join(text for reason, text in steps.items() if reason in pool.reasons)
        return f"nothing usable among {pool.num_rows} ({reasons}); {step or 'see their reasons'}"
    languages = source.languages.replace("-", "–")
    fitting = f", or widen where: {source.where}" if source.where else ""
    return f"{_INGEST[source.task]} in {languages}{fitting}"
