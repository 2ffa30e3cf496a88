"""`cslm-data`: from raw speech and text to audited mixes and shards."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import converters, listen, measuring, quality, shell, tables, tokenizers, units
from cslm_cli.shell import JsonOption, RejectRateOption, StageName, WorkspaceOption

if TYPE_CHECKING:
    from cslm_data.shards import MixInfo

app = shell.make_app("From raw speech, text and translations to units, audited mixes and shards.")


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it.")] = False,
) -> None:
    """Lay out the demo corpus: English and Mandarin speech, translations, dialogues."""
    from cslm_data.demo import lay_out

    summary = lay_out(folder, overwrite=overwrite)
    tables.print_fields(
        f"demo corpus in {folder}",
        {
            "utterances": summary.num_utterances,
            "minutes": summary.duration_s / 60,
            "bitext pairs": summary.num_bitext,
            "instructions": summary.num_instructions,
            "dialogues": summary.num_dialogues,
        },
    )


@app.command()
def ingest(
    sources: Annotated[list[Path], typer.Argument(help="Manifests, or folders of manifests.")],
    workspace: WorkspaceOption = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Read as this format instead of guessing.")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus of rows that name none.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of rows that name none.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of rows that name none.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of rows that name none.")] = None,
    max_duration: Annotated[
        float, typer.Option(min=0.1, help="Longest utterance, in seconds.")
    ] = 60.0,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Read manifests into the catalog; what is wrong becomes a row in `rejects`."""
    from cslm_data.corpora import Defaults
    from cslm_data.ingest import ingest as run_ingest

    summary = run_ingest(
        shell.workspace_of(workspace),
        sources,
        format=format,
        defaults=Defaults(corpus=corpus, language=lang, license=license, split=split),
        max_duration_s=max_duration,
    )
    if json:
        tables.print_json(summary)
    else:
        columns = [
            "format",
            "rows",
            "added",
            "changed",
            "unchanged",
            "removed",
            "linked",
            "rejected",
        ]
        tables.print_table(
            ["source", *columns],
            [
                (Path(s.source).name, s.format, s.num_rows, s.added, s.changed)
                + (s.unchanged, s.removed, s.linked, s.rejected)
                for s in summary.sources
            ],
        )
        for path in summary.unrecognised:
            typer.echo(f"not recognised, left alone: {path}")
    shell.check_reject_rate(summary.num_rejected, summary.num_rows, max_reject_rate, "ingest")


tokenizers.register(app)
units.register(app)
measuring.register(app)
quality.register(app)
listen.register(app)
converters.register(app)


@app.command("build-mix")
def build_mix(
    langs: Annotated[str, typer.Option("--langs", help="Languages, e.g. en,zh.")],
    workspace: WorkspaceOption = None,
    stage: Annotated[StageName, typer.Option(help="Alignment stage.")] = StageName.PRETRAIN,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe YAML. Default: the stage's own.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the mix. Default: the stage.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Speech tokenizer, by name or id.")] = None,
    text_tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Text tokenizer (a Hugging Face directory). Default: the workspace's own."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order.")] = None,
    shard_mb: Annotated[
        float, typer.Option(min=0.01, help="Size of a shard, in megabytes.")
    ] = 256.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace this mix.")] = False,
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
    )
    if json:
        tables.print_json(summary)
    else:
        _print_mix(summary.info, summary.reject_reasons, already_built=summary.already_built)
    counts = summary.info.counts
    shell.check_reject_rate(
        counts["rejected"], counts["candidates"], max_reject_rate, f"build-mix {summary.info.name}"
    )


def _print_mix(info: MixInfo, reasons: dict[str, int], *, already_built: bool) -> None:
    columns = "split task languages requested_share realised_share requested_tokens "
    columns += "realised_tokens num_samples available_tokens epochs note"
    tables.print_table(
        ["split", "task", "langs", "asked", "got", "tokens asked", "tokens got"]
        + ["samples", "available", "epochs", "note"],
        [[row[name] for name in columns.split()] for row in info.realised],
        title=f"mix {info.name} ({info.mix_id}){': already built' if already_built else ''}",
    )
    counts = info.counts
    typer.echo(
        f"{counts['candidates']} candidates = {counts['selected']} selected + "
        f"{counts['not_selected']} not selected + {counts['rejected']} rejected {reasons or ''}; "
        f"{counts['samples']} samples in {len(info.entries)} shards"
    )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One or more reading statements.")],
    workspace: WorkspaceOption = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TABLE,
) -> None:
    """Ask the workspace in SQL (DuckDB), read-only.

    Tables: corpora utterances bitext dialogues dialogue_turns tokenizers units alignments mixes
    mix_samples shards rejects batches.
    """
    from cslm_data.query import run_query

    answer = run_query(shell.workspace_of(workspace), query)
    if output is Output.JSON:
        tables.print_json(answer.records())
    elif output is Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows(answer.rows)
    else:
        tables.print_table(answer.columns, answer.rows, exact=True)


@app.command()
def audit(
    names: Annotated[list[str] | None, typer.Argument(help="Audits. Default: all.")] = None,
    workspace: WorkspaceOption = None,
    audits: Annotated[
        Path | None, typer.Option(help="Folder of .sql files to run instead of the shipped ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print of each.")] = 20,
    json: JsonOption = False,
) -> None:
    """Run the audits. Exits with 1 when a `check_*` finds something."""
    from cslm_data.audit import run_audits

    results = run_audits(shell.workspace_of(workspace), folder=audits, names=names or [])
    if json:
        tables.print_json(
            [
                {"name": r.name, "severity": r.severity, "title": r.title, "failed": r.failed}
                | {"rows": r.answer.records()}
                for r in results
            ]
        )
    else:
        for result in results:
            rows = result.answer.rows
            if result.severity != "info" and not rows:
                continue
            tables.print_table(
                result.answer.columns, rows[:limit], title=f"{result.name}: {result.title}"
            )
            if len(rows) > limit:
                typer.echo(f"… and {len(rows) - limit} more; see --limit, --json")
            if result.severity != "info":
                typer.echo(result.advice)
        kinds = ("check", "warn")
        tables.print_table(
            ["audit", "rows", "result"],
            [
                (
                    r.name,
                    len(r.answer.rows),
                    "FAILED" if r.failed else "look" if r.answer.rows else "ok",
                )
                for r in results
                if r.severity in kinds
            ],
        )
    if any(result.failed for result in results):
        raise typer.Exit(shell.EXIT_FINDING)


@app.command()
def show(
    key: Annotated[
        str, typer.Argument(help="Key of a sample, or id of an utterance, pair, dialogue.")
    ],
    workspace: WorkspaceOption = None,
    mix: Annotated[str | None, typer.Option(help="Look in this mix alone.")] = None,
    json: JsonOption = False,
) -> None:
    """Print one sample with its segments, or one row of the catalog, readable."""
    from cslm_data.lookup import find_row, find_sample

    where = shell.workspace_of(workspace)
    found = find_sample(where, key, mix=mix)
    if found is None:
        row = find_row(where, key)
        tables.print_json(row) if json else tables.print_fields(key, row, exact=True)
        return
    if json:
        tables.print_json(found)
        return
    sample = found.sample
    typer.echo(f"{key}: {sample.task} {sample.languages}, {found.mix}/{found.split}, {found.shard}")
    tables.print_table(
        ["role", "part", "modality", "lang", "trained", "content"],
        [
            (s.role, s.part, s.modality, s.language, "yes" if s.trained else "")
            + (s.text if s.modality == "text" else f"{len(s.units)} units: {_preview(s.units)}",)
            for s in sample.segments
        ],
    )


def _preview(units: object) -> str:
    numbers = [str(unit) for unit in units]  # type: ignore[attr-defined]
    return " ".join(numbers[:24]) + (" …" if len(numbers) > 24 else "")


def main() -> None:
    """Entry point of `cslm-data`."""
    shell.run(app)


if __name__ == "__main__":
    main()
