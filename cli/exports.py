"""`cslm-data export`: the catalog in the formats of other toolkits, and our own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption


class ExportFormat(StrEnum):
    """Whose files."""

    MANIFEST = "manifest"
    NEMO = "nemo"
    LHOTSE = "lhotse"
    KALDI = "kaldi"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(export)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    format: Annotated[
        ExportFormat, typer.Option("--format", help="Whose files; manifest: our own.")
    ] = ExportFormat.MANIFEST,
    workspace: WorkspaceOption = None,
    langs: Annotated[
        str | None, typer.Option("--langs", help="Languages, e.g. en,zh. Default: all.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="This split of the corpora alone.")] = None,
    corpus: Annotated[str | None, typer.Option(help="This corpus alone.")] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help='SQL over `utterances`, e.g. "duration_s < 20"; no dialogues, no bitext then.'
        ),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative/--absolute", help="Paths relative to the folder, or absolute."),
    ] = False,
    cut: Annotated[
        bool,
        typer.Option(
            "--cut",
            help="Write utterances whose audio the format cannot name (inside of other files, on "
            "other machines, of several channels) as recordings of their own.",
        ),
    ] = False,
    pipes: Annotated[
        bool,
        typer.Option("--pipes", help="Kaldi: commands in wav.scp that decode what is no wav."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export.")] = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Write the catalog as manifests: our own, NeMo's, Lhotse's cuts, Kaldi's data directories."""
    from cslm_data.exporting.catalog_export import export_catalog

    summary = export_catalog(
        shell.workspace_of(workspace),
        out,
        format=format.value,
        languages=shell.languages_of(langs or ""),
        split=split,
        corpus=corpus,
        where=where,
        relative=relative,
        cut=cut,
        pipes=pipes,
        overwrite=overwrite,
    )
    if json:
        tables.print_json(summary)
    else:
        tables.print_table(
            ["file", "rows"],
            list(summary.files.items()),
            title=f"{summary.folder}: {summary.format}",
        )
        for name, counts in summary.tables.items():
            if counts.num_in:
                typer.echo(
                    f"{counts.num_in} {name} = {counts.num_out} written + {counts.num_rejected} "
                    "rejected"
                )
        if summary.reject_reasons:
            typer.echo(f"rejected: {summary.reject_reasons}")
        if summary.num_cut:
            typer.echo(f"{summary.num_cut} cut out")
        for name, number in summary.left_out.items():
            typer.echo(f"left out: {number} {name}, for which {summary.format} has no place")
    shell.check_reject_rate(
        summary.num_rejected, summary.num_in, max_reject_rate, f"export {summary.folder}"
    )
