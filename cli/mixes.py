"""`cslm-data mix-plan` and `build-mix`: what a recipe makes of the catalog, told or written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, StageName, WorkspaceOption
from cslm_cli.tokenizers import EngineOption

from cslm_data.plain_text import visible

if TYPE_CHECKING:
    from cslm_data.shards import MixInfo


LangsOption = Annotated[str, typer.Option("--langs", help="Languages, e.g. en,zh.")]
StageOption = Annotated[StageName, typer.Option(help="Alignment stage.")]
RecipeOption = Annotated[
    Path | None, typer.Option(help="Recipe YAML. Default: the stage's own.", show_default=False)
]
TokenizerOption = Annotated[str | None, typer.Option(help="Speech tokenizer, by name or id.")]
TextTokenizerOption = Annotated[
    Path | None,
    typer.Option(help="Text tokenizer (a Hugging Face directory). Default: the workspace's own."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of wordings that replace the shipped ones.", show_default=False),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the order.")]
MissingOption = Annotated[
    bool,
    typer.Option("--allow-missing", help="Go on where a language has no data for a task."),
]
MemoryOption = Annotated[
    float, typer.Option("--memory-gb", min=0.1, help="Memory of the plan; beyond, it spills.")
]

_CHANGES_SHOWN = 40


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("mix-plan")(mix_plan)
    app.command("build-mix")(build_mix)


def mix_plan(
    langs: LangsOption,
    workspace: WorkspaceOption = None,
    stage: StageOption = StageName.PRETRAIN,
    recipe: RecipeOption = None,
    tokenizer: TokenizerOption = None,
    text_tokenizer: TextTokenizerOption = None,
    prompts: PromptsOption = None,
    seed: SeedOption = None,
    without: Annotated[
        str | None,
        typer.Option(help="Ids of source rows, with commas: what changes without them."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the samples as Parquet, in order.")
    ] = None,
    allow_missing: MissingOption = False,
    memory_gb: MemoryOption = 0.5,
    json: JsonOption = False,
) -> None:
    """Say what build-mix would build, requested against realised tokens, without building it."""
    from cslm_data.mix import plan_only
    from cslm_data.mixing.planning import MixOptions

    plan = plan_only(
        shell.workspace_of(workspace),
        MixOptions(
            languages=shell.languages_of(langs),
            tokenizer=tokenizer,
            text_tokenizer=text_tokenizer,
            prompts=prompts,
            allow_missing=allow_missing,
            without=[name.strip() for name in (without or "").split(",") if name.strip()],
            memory_gb=memory_gb,
        ),
        stage=stage.value,
        recipe=recipe,
        output=output,
        seed=seed,
    )
    if json:
        tables.print_json(plan)
        return
    _print_realised(plan.realised, title=f"plan of {stage.value} for {langs}")
    _print_missing(plan.missing)
    _print_counts(plan.counts, plan.reject_reasons)
    if without is not None:
        gone = sum(row["change"] == "gone" for row in plan.changes)
        typer.echo(f"without these rows {gone} samples go and {len(plan.changes) - gone} come")
        tables.print_table(
            ["change", "split", "task", "langs", "key", "tokens"],
            [list(row.values()) for row in plan.changes[:_CHANGES_SHOWN]],
        )


def build_mix(
    langs: LangsOption,
    workspace: WorkspaceOption = None,
    stage: StageOption = StageName.PRETRAIN,
    recipe: RecipeOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the mix. Default: the stage.")] = None,
    tokenizer: TokenizerOption = None,
    text_tokenizer: TextTokenizerOption = None,
    prompts: PromptsOption = None,
    seed: SeedOption = None,
    shard_mb: Annotated[
        float, typer.Option(min=0.01, help="Size of a shard, in megabytes.")
    ] = 256.0,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that write. Default: one for every core.")
    ] = None,
    engine: EngineOption = "local",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace this mix.")] = False,
    allow_missing: MissingOption = False,
    memory_gb: MemoryOption = 0.5,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Select samples to the recipe's token shares and write them as WebDataset shards."""
    from cslm_data.mix import build_mix as run_build_mix

    summary = run_build_mix(
        shell.workspace_of(workspace),
        languages=shell.languages_of(langs),
        stage=stage.value,
        recipe=recipe,
        name=name,
        tokenizer=tokenizer,
        text_tokenizer=text_tokenizer,
        seed=seed,
        shard_bytes=int(shard_mb * 1e6),
        overwrite=overwrite,
        prompts=prompts,
        allow_missing=allow_missing,
        num_workers=num_workers,
        engine=engine,
        memory_gb=memory_gb,
    )
    info = summary.info
    if json:
        tables.print_json(summary)
    else:
        already = ": already built" if summary.already_built else ""
        _print_realised(info.realised, title=f"mix {info.name} ({info.mix_id}){already}")
        _print_missing(info.missing)
        _print_counts(info.counts, summary.reject_reasons, info)
    # What a person moved out is no surprise.
    surprising = info.counts["rejected"] - summary.reject_reasons.get("excluded", 0)
    shell.check_reject_rate(
        surprising, info.counts["candidates"], max_reject_rate, f"build-mix {info.name}"
    )


def _print_realised(rows: Iterable[dict[str, Any]], *, title: str) -> None:
    columns = "split task languages requested_share realised_share requested_tokens "
    columns += "realised_tokens num_samples available_tokens epochs note"
    tables.print_table(
        ["split", "task", "langs", "asked", "got", "tokens asked", "tokens got"]
        + ["samples", "available", "epochs", "note"],
        [[row[name] for name in columns.split()] for row in rows],
        title=title,
    )


def _print_missing(missing: Iterable[str]) -> None:
    for said in missing:
        typer.echo(visible(said), err=True)


def _print_counts(
    counts: dict[str, int], reasons: dict[str, int], info: MixInfo | None = None
) -> None:
    where = f" in {len(info.entries)} shards" if info is not None else ""
    typer.echo(
        f"{counts['candidates']} candidates = {counts['selected']} selected + "
        f"{counts['not_selected']} not selected + {counts['rejected']} rejected {reasons or ''}; "
        f"{counts['samples']} samples{where}"
    )
