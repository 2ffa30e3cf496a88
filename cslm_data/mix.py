"""catalog + units + alignments → a mix. Reads all three, writes mixes/<name>/.

Step 1: count every candidate in SQL, or compile it where SQL cannot; candidates/ keeps the counts.
Step 2: share the tokens out, choose by hash thresholds, put in order by a keyed hash.
Step 3: set the chosen rows aside in that order, with mix.parquet; close the catalog.
Step 4: write the shards, in several processes; those that a killed run finished stay.
Step 5: write mix.json and give the folder its name.

Everything is built in mixes/.<name>.building under the identity of the plan: the same command after
a kill goes on there, a changed plan begins anew, and an old mix stays until the new one is whole.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cslm_data.catalog import confine, open_catalog, scalar
from cslm_data.engines import load_engine
from cslm_data.errors import AlreadyExistsError, NoDataError, UsageError
from cslm_data.keys import content_id
from cslm_data.languages import check_language
from cslm_data.mixing.files import (
    REFUSED,
    ROWS,
    STAGED,
    ShardWriting,
    list_changes,
    load_plan_id,
    publish,
    set_rows_aside,
    shard_parts,
    write_mix,
    write_plan,
)
from cslm_data.mixing.ordering import plan_digest, put_in_order
from cslm_data.mixing.planning import (
    DEFAULT_MEMORY_GB,
    MixOptions,
    MixPlan,
    plan_mix,
    write_refused,
)
from cslm_data.mixing.recipes import Recipe, load_recipe, recipe_json
from cslm_data.shards import MixInfo
from cslm_data.templates import prompts_id
from cslm_data.text_tokenizer import TextTokenizer
from cslm_data.workspace import Workspace

log = logging.getLogger(__name__)

DEFAULT_SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class MixSummary:
    """What build_mix did. `info.realised` is the table of requested against realised tokens."""

    info: MixInfo
    already_built: bool
    """Nothing was written: this very mix was there."""
    reject_reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """What a mix would hold."""

    realised: list[dict[str, Any]]
    """Requested against realised tokens, a row per split, task and languages."""
    missing: list[str]
    """What languages lack; of the required tasks first."""
    changes: list[dict[str, Any]]
    """Samples that are gone, and new in their place, without the rows of `without`."""
    counts: dict[str, int]
    reject_reasons: dict[str, int]
    text_tokenizer_id: str
    tokenizer_id: str


def plan_only(
    workspace: Workspace,
    options: MixOptions,
    *,
    stage: str = "pretrain",
    recipe: Path | None = None,
    output: Path | None = None,
    seed: int | None = None,
) -> PlanSummary:
    """What `build_mix` would build, without building it; `output` takes its samples as Parquet.

    Counts are kept for the next plan. Raises what build_mix raises.
    """
    rules = load_recipe(recipe, stage=stage)
    _check_languages(options.languages)
    with open_catalog(workspace, doing="mix-plan") as connection:
        _limit_memory(connection, workspace, options.memory_gb)
        changes: list[dict[str, Any]] = []
        if options.without:
            plan_mix(workspace, connection, rules, dataclasses.replace(options, without=()))
            connection.execute("create or replace temp table before as from chosen")
        plan = plan_mix(workspace, connection, rules, options)
        if options.without:
            changes = list_changes(connection, plan.sources)
        if output is not None:
            seed = rules.seed if seed is None else seed
            put_in_order(connection, plan.sources, seed=seed, shard_bytes=DEFAULT_SHARD_BYTES)
            write_plan(connection, plan.sources, output, spill=_spill(workspace))
    return PlanSummary(
        realised=plan.realised,
        missing=plan.missing,
        changes=changes,
        counts=plan.counts,
        reject_reasons=plan.reject_reasons,
        text_tokenizer_id=plan.text.text_tokenizer_id,
        tokenizer_id=plan.speech.tokenizer_id,
    )


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
    prompts: Path | None = None,
    allow_missing: bool = False,
    num_workers: int | None = None,
    engine: str = "local",
    memory_gb: float = DEFAULT_MEMORY_GB,
) -> MixSummary:
    """Build the mix `mixes/<name>` (default: the stage) of a recipe for some languages.

    Raises UsageError, NoDataError, MissingArtefactError, AlreadyExistsError, LockedError.
    """
    load_engine(engine)  # one there is not is said before anything is counted
    rules = load_recipe(recipe, stage=stage)
    name = _check_name(name or rules.stage)
    _check_languages(languages)
    seed = rules.seed if seed is None else seed
    options = MixOptions(
        languages=languages,
        tokenizer=tokenizer,
        text_tokenizer=text_tokenizer,
        prompts=prompts,
        allow_missing=allow_missing,
        memory_gb=memory_gb,
    )
    folder, building = workspace.mixes / name, workspace.mixes / f".{name}.building"
    with workspace.lock(f"mix-{name}", f"build-mix {name}"):
        staged = building / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        with open_catalog(workspace, doing=f"build-mix {name}") as connection:
            _limit_memory(connection, workspace, memory_gb)
            plan = plan_mix(workspace, connection, rules, options)
            write_refused(plan, connection, staged / REFUSED)
            num_samples = put_in_order(connection, plan.sources, seed=seed, shard_bytes=shard_bytes)
            if num_samples == 0:
                raise NoDataError(
                    f"mix {name}: nothing is left of {plan.counts['candidates']} candidates; see "
                    'why: cslm-data sql "select reason, count(*) from rejects group by reason"'
                )
            content = set_rows_aside(
                connection,
                plan.pools,
                staged,
                tokenizer_id=plan.speech.tokenizer_id,
                num_samples=num_samples,
            )
            order = plan_digest(connection)
            parts = shard_parts(connection)
            splits = plan.splits(connection)
            num_bytes = int(scalar(connection, "select sum(num_bytes) from chosen") or 0)
        document = _document(workspace, name, rules, seed, plan)
        identity = {
            **{key: document[key] for key in _IDENTITY},
            "prompts_id": prompts_id(plan.options.prompts),
            "shard_bytes": shard_bytes,
            "content": content,
            "order": order,
        }
        document = {"mix_id": content_id(identity), **document, "splits": splits}
        if folder.exists():
            if load_plan_id(folder) == document["mix_id"]:
                shutil.rmtree(building)
                info = MixInfo.load(folder)
                return MixSummary(info=info, already_built=True, reject_reasons=plan.reject_reasons)
            if not overwrite:
                shutil.rmtree(building)
                raise AlreadyExistsError(
                    f"{folder}: another mix of this name is there; replace it with --overwrite, or "
                    "give this one a name with --name"
                )
        write_mix(
            building,
            parts,
            document,
            writing=functools.partial(_writing, building, rules, plan, document),
            num_bytes=num_bytes,
            num_workers=num_workers,
            engine=engine,
        )
        publish(building, folder)
    info = MixInfo.load(folder)
    return MixSummary(info=info, already_built=False, reject_reasons=plan.reject_reasons)


_IDENTITY = (
    *("languages", "seed", "recipe", "tokenizer_id", "text_tokenizer_id", "template_version"),
    *("realised", "counts"),
)
"""Of the document of a mix, what makes it another mix."""


def _document(
    workspace: Workspace, name: str, rules: Recipe, seed: int, plan: MixPlan
) -> dict[str, Any]:
    """mix.json, but for its identity, splits and shards."""
    return {
        "name": name,
        "stage": rules.stage,
        "languages": list(plan.languages),
        "seed": seed,
        "recipe": recipe_json(rules),
        "tokenizer_id": plan.speech.tokenizer_id,
        "num_units": plan.speech.num_units,
        "frame_rate_hz": plan.speech.frame_rate_hz,
        "text_tokenizer_id": plan.text.text_tokenizer_id,
        "text_tokenizer": _where(workspace, plan.text),
        "template_version": plan.template_version,
        "realised": plan.realised,
        "missing": plan.missing,
        "counts": plan.counts,
    }


def _writing(
    building: Path, rules: Recipe, plan: MixPlan, document: dict[str, Any], shards: Path
) -> ShardWriting:
    return ShardWriting(
        rows=building / STAGED / ROWS,
        shards=shards,
        system_share=rules.system_prompts,
        options=plan.options,
        tokenizer_id=document["tokenizer_id"],
        num_units=document["num_units"],
        text_tokenizer_id=document["text_tokenizer_id"],
        template_version=document["template_version"],
    )


def _limit_memory(connection: Any, workspace: Workspace, memory_gb: float) -> None:
    """Let DuckDB spill beyond so much memory, and see the workspace alone."""
    if not memory_gb >= 0.1:
        raise UsageError(f"--memory-gb {memory_gb}: at least 0.1")
    spill = _spill(workspace)
    spill.mkdir(parents=True, exist_ok=True)
    connection.execute("set temp_directory = ?", [str(spill)])
    connection.execute("set memory_limit = ?", [f"{round(memory_gb * 1000)}MB"])
    confine(connection, workspace)


def _spill(workspace: Workspace) -> Path:
    """Where DuckDB puts what it cannot hold. Hidden, and no state of candidates."""
    return workspace.root / ".spill"


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


def _where(workspace: Workspace, text: TextTokenizer) -> str:
    folder = text.folder.absolute()
    if folder.is_relative_to(workspace.root):
        return folder.relative_to(workspace.root).as_posix()
    return str(folder)
