"""`cslm-data export`: the catalog or a mix in the formats of other toolkits, and our own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption

from cslm_data.errors import UsageError


class ExportFormat(StrEnum):
    """Whose files."""

    MANIFEST = "manifest"
    NEMO = "nemo"
    LHOTSE = "lhotse"
    KALDI = "kaldi"
    CSLM = "cslm"
    SLAMKIT = "slamkit"
    HF_PARQUET = "hf-parquet"
    ENERGON = "energon"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(export)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    format: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="Whose files; manifest: our own; from cslm on: of a mix, see --mix."
        ),
    ] = ExportFormat.MANIFEST,
    mix: Annotated[
        str | None,
        typer.Option(help="Samples of this mix instead of the catalog.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
    langs: Annotated[
        str | None, typer.Option("--langs", help="Languages, e.g. en,zh. Default: all.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="This split (of the corpora, or of the mix) alone.")
    ] = None,
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
    """Write the catalog as manifests: our own, NeMo's, Lhotse's cuts, Kaldi's data directories.

    With --mix, the samples of a mix: cslm, slamkit, hf-parquet, energon.
    """
    if mix is None:
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
    else:
        from cslm_data.exporting.mix_export import export_mix

        _check_alone(
            langs=langs, corpus=corpus, where=where, relative=relative, cut=cut, pipes=pipes
        )
        summary = export_mix(
            shell.workspace_of(workspace),
            mix,
            out,
            format=format.value,
            split=split,
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


def _check_alone(**options: str | bool | None) -> None:
    """Raise UsageError for options that choose rows of the catalog."""
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise UsageError(f"{given[0]}: chooses of the catalog; leave it out with --mix")
