"""`cslm-data unit-report`: how good the units are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("unit-report")(unit_report)


def unit_report(
    tokenizers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Speech tokenizers, by name or id. Default: the only one.", show_default=False
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="Two tokenizers side by side, on what both have units of.",
            metavar="A B",
            show_default=False,
        ),
    ] = None,
    langs: Annotated[
        str | None, typer.Option("--langs", help="Languages, e.g. en,zh. Default: all.")
    ] = None,
    max_utterances: Annotated[
        int, typer.Option(min=1, help="Utterances with phones, per language.")
    ] = 2000,
    robustness_utterances: Annotated[
        int, typer.Option(min=0, help="Utterances to change and encode anew, per language.")
    ] = 20,
    abx_cells: Annotated[
        int, typer.Option(min=0, help="Contrasts to score for each ABX figure; 0: no ABX.")
    ] = 2000,
    exact_phones: Annotated[
        bool, typer.Option("--exact-phones", help="Keep stress and tone in the phones.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the samples and the noise.")] = 0,
    device: Annotated[str, typer.Option(help="Where self-supervised models run.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Their arithmetic.")] = "float32",
    html: Annotated[
        Path | None, typer.Option(help="Write a page with tables and plots here.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure units: PNMI, purity, ABX, use, bitrate, robustness, per language.

    PNMI, purities and ABX need phone times: ingest `phones` of an alignment.
    """
    from cslm_data.quality.figure_tables import figure_tables
    from cslm_data.quality.figures import as_json
    from cslm_data.quality.page import write_page
    from cslm_data.quality.report import unit_report as run_unit_report
    from cslm_data.workspace import write_json

    report = run_unit_report(
        shell.workspace_of(workspace),
        [*(tokenizers or []), *(compare or [])],
        languages=None if langs is None else [lang.strip() for lang in langs.split(",")],
        max_utterances=max_utterances,
        robustness_utterances=robustness_utterances,
        abx_cells=abx_cells,
        exact_phones=exact_phones,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    if html is not None:
        write_page(report, html)
    if out is not None:
        write_json(out, as_json(report))
    if json:
        tables.print_json(as_json(report))
        return
    for table in figure_tables(report):
        tables.print_table(table.columns, table.rows, title=table.title)
    for note in report.notes:
        typer.echo(f"note: {note}")
    for path in (html, out):
        if path is not None:
            typer.echo(f"written: {path}")
