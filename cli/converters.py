"""`cslm-data export-units`, `import-units`: units to and from other toolkits."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption


class UnitFormatName(StrEnum):
    """Whose files."""

    FAIRSEQ = "fairseq"
    SLAMKIT = "slamkit"
    TEXTLESS = "textless"


class NameByChoice(StrEnum):
    """What names an utterance in a file."""

    PATH = "path"
    ID = "id"


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("export-units")(export_units)
    app.command("import-units")(import_units)


FormatOption = Annotated[UnitFormatName, typer.Option("--format", help="Whose files.")]
TokenizerOption = Annotated[str | None, typer.Option(help="Speech tokenizer, by name or id.")]


def export_units(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    format: FormatOption,
    workspace: WorkspaceOption = None,
    tokenizer: TokenizerOption = None,
    dedup: Annotated[
        bool | None,
        typer.Option(
            "--dedup/--no-dedup",
            help="Runs, or a unit for each frame. Default: runs, but frames for fairseq.",
            show_default=False,
        ),
    ] = None,
    name_by: Annotated[
        NameByChoice | None,
        typer.Option(
            help="Name utterances by path or id. Default: path, but id for textless.",
            show_default=False,
        ),
    ] = None,
    cut: Annotated[
        bool,
        typer.Option(
            "--cut",
            help="Write utterances that a path cannot name (parts of recordings, for fairseq also "
            "other sample rates and remote ones) as recordings of their own.",
        ),
    ] = False,
    split: Annotated[str | None, typer.Option(help="This split of the corpora alone.")] = None,
    langs: Annotated[
        str | None, typer.Option("--langs", help="Languages, e.g. en,zh. Default: all.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="SQL over `utterances`, e.g. \"corpus = 'aishell'\".")
    ] = None,
    shards: Annotated[
        int, typer.Option(min=1, help="Files that fairseq's labels are cut into.")
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export.")] = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Write units as fairseq's HuBERT, SlamKit or textlesslib keep them."""
    from cslm_data.units.exporting import export_units as run_export

    summary = run_export(
        shell.workspace_of(workspace),
        out,
        format=format.value,
        tokenizer=tokenizer,
        dedup=dedup,
        name_by=name_by.value if name_by else None,
        cut=cut,
        split=split,
        languages=shell.languages_of(langs or ""),
        where=where,
        num_shards=shards,
        overwrite=overwrite,
    )
    if json:
        tables.print_json(summary)
    else:
        tables.print_table(
            ["split", "utterances"],
            list(summary.splits.items()),
            title=f"{summary.folder}: {summary.tokenizer_id} for {summary.format}, "
            + ("runs" if summary.dedup else "a unit for each frame"),
        )
        typer.echo(
            f"{summary.num_in} utterances = {summary.num_out} written + {summary.num_rejected} "
            f"rejected {summary.reject_reasons or ''}; {summary.num_units:,} units"
            + (f"; {summary.num_cut} cut out" if summary.num_cut else "")
        )
    shell.check_reject_rate(
        summary.num_rejected, summary.num_in, max_reject_rate, f"export-units {summary.folder}"
    )


def import_units(
    path: Annotated[Path, typer.Argument(help="File, or folder of files.")],
    format: FormatOption,
    workspace: WorkspaceOption = None,
    tokenizer: TokenizerOption = None,
    dedup: Annotated[
        bool | None,
        typer.Option(
            "--dedup/--no-dedup",
            help="Whether a file without durations holds runs. Default: as the toolkit does it.",
            show_default=False,
        ),
    ] = None,
    even_durations: Annotated[
        bool,
        typer.Option(
            "--even-durations", help="Spread frames evenly over runs whose durations are not known."
        ),
    ] = False,
    corpus: Annotated[str | None, typer.Option(help="Utterances of this corpus alone.")] = None,
    by_stem: Annotated[
        bool,
        typer.Option("--by-stem", help="Find recordings by their name in any folder, too."),
    ] = False,
    check: Annotated[
        int, typer.Option(min=0, help="Utterances to compare with the tokenizer's own units.")
    ] = 5,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Take units that fairseq's HuBERT, SlamKit or textlesslib made, for a tokenizer of here."""
    from cslm_data.units.importing import import_units as run_import

    summary = run_import(
        shell.workspace_of(workspace),
        path,
        format=format.value,
        tokenizer=tokenizer,
        dedup=dedup,
        even_durations=even_durations,
        corpus=corpus,
        by_stem=by_stem,
        num_checked=check,
    )
    if json:
        tables.print_json(summary)
    else:
        compared = (
            f"; {summary.equal_share:.2%} equal to the tokenizer's own in {summary.num_compared} "
            "utterances"
            if summary.equal_share is not None
            else ""
        )
        typer.echo(
            f"{', '.join(summary.sources)}: {summary.num_in} lines = {summary.num_out} taken for "
            f"{summary.tokenizer_id} + {summary.num_already} already there + "
            f"{summary.num_rejected} rejected {summary.reject_reasons or ''}{compared}"
        )
    shell.check_reject_rate(
        summary.num_rejected, summary.num_in, max_reject_rate, f"import-units {path}"
    )
