"""`cslm-data`: from raw speech and text to audited mixes and shards."""

from __future__ import annotations

import itertools
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from cslm_cli import (
    aligning,
    auditing,
    converters,
    curation,
    exports,
    listen,
    measuring,
    mixes,
    quality,
    shell,
    synthesis,
    tables,
    tokenizers,
    units,
    verify,
)
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption

from cslm_data.errors import UsageError
from cslm_data.plain_text import visible

app = shell.make_app("From raw speech, text and translations to units, audited mixes and shards.")


_TABLE_ROWS = 1000


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Chinese(StrEnum):
    """Characters that Chinese texts are compared in."""

    KEEP = "keep"
    SIMPLIFIED = "simplified"
    TRADITIONAL = "traditional"


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
    sources: Annotated[
        list[str], typer.Argument(help="Manifests, corpora, folders of manifests; paths or URLs.")
    ],
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
    trust_manifest: Annotated[
        bool,
        typer.Option(
            "--trust-manifest",
            help="Do not open recordings whose rows state duration and sampling rate.",
        ),
    ] = False,
    numbers: Annotated[
        bool | None,
        typer.Option(
            "--numbers/--no-numbers",
            help="Compare texts with numbers spelled out. Default: yes; set by the first ingest.",
            show_default=False,
        ),
    ] = None,
    chinese: Annotated[
        Chinese | None,
        typer.Option(
            help="Compare Chinese texts in these characters. Default: keep; set by the first.",
            show_default=False,
        ),
    ] = None,
    allow_pipes: Annotated[
        bool,
        typer.Option(
            "--allow-pipes", help="Run the commands that a wav.scp holds, once; else refused."
        ),
    ] = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Read manifests and corpora into the catalog; what is wrong becomes a row in `rejects`."""
    from cslm_data.corpora import Defaults
    from cslm_data.ingest import ingest as run_ingest
    from cslm_data.text import TextRules

    rules = None
    if numbers is not None or chinese is not None:
        rules = TextRules(
            numbers=numbers is not False, chinese=chinese.value if chinese else "keep"
        )
    summary = run_ingest(
        shell.workspace_of(workspace),
        sources,
        format=format,
        defaults=Defaults(
            corpus=corpus, language=lang, license=license, split=split, allow_pipes=allow_pipes
        ),
        max_duration_s=max_duration,
        trust_manifest=trust_manifest,
        text_rules=rules,
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
                (PurePosixPath(s.source).name, s.format, s.num_rows, s.added, s.changed)
                + (s.unchanged, s.removed, s.linked, s.rejected)
                for s in summary.sources
            ],
        )
        if format is None:
            typer.echo("formats were guessed from names and first rows; --format says otherwise")
        for path in summary.unrecognised:
            typer.echo(f"not recognised, left alone: {visible(path)}")
    shell.check_reject_rate(summary.num_rejected, summary.num_rows, max_reject_rate, "ingest")


tokenizers.register(app)
units.register(app)
measuring.register(app)
aligning.register(app)
quality.register(app)
synthesis.register(app)
listen.register(app)
converters.register(app)
exports.register(app)
auditing.register(app)
verify.register(app)
curation.register(app)
mixes.register(app)


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="One or more reading statements.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print.")] = Output.TABLE,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Rows to print; 0: all. Default: 1000 as a table, else all.",
            show_default=False,
        ),
    ] = None,
    unrestricted: Annotated[
        bool,
        typer.Option(
            "--unrestricted",
            help="Any statement, any file and address; the catalog itself stays read-only.",
        ),
    ] = False,
    explain_row: Annotated[
        str | None,
        typer.Option(
            help="Tell the story of this id or sample key instead, from source line to shard.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The same as --output json.")] = False,
) -> None:
    """Ask the workspace in SQL (DuckDB): queries alone, and of the workspace's files alone.

    Tables: corpora utterances bitext dialogues dialogue_turns texts tokenizers units alignments
    best_alignments measures text_languages mixes mix_samples sample_places lineage shards rejects
    excluded curations batches run_metrics skipped_steps; and all_utterances all_bitext
    all_dialogues, with what filter and dedup moved out.
    """
    where = shell.workspace_of(workspace)
    output = Output.JSON if json else output
    if (query is None) == (explain_row is None):
        raise UsageError("give either a query or --explain-row")
    if explain_row is not None:
        curation.print_story(where, explain_row, json=output is Output.JSON)
        return
    from cslm_data.query import stream_query

    most = (_TABLE_ROWS if output is Output.TABLE else None) if limit is None else limit or None
    with stream_query(where, query or "", unrestricted=unrestricted) as answer:
        rows = itertools.islice(answer.rows, most)
        if output is Output.JSON:
            tables.print_json_rows(answer.columns, rows)
        elif output is Output.CSV:
            tables.print_csv(answer.columns, rows)
        else:
            tables.print_table(answer.columns, rows, exact=True)
        if most is not None and next(answer.rows, None) is not None:
            typer.echo(f"the first {most} rows; see --limit", err=True)


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
