"""`cslm-data verify`: whether a mix is whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, WorkspaceOption

_PRINTED = 100


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(verify)


def verify(
    mix: Annotated[str, typer.Argument(help="Name of the mix.")],
    workspace: WorkspaceOption = None,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Look at sizes, indexes and sums alone, not at every byte."),
    ] = False,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one per core.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Look for damage in a mix: tars, indexes, checksums, keys, units, texts, sums.

    Exits with 1 when anything is wrong.
    """
    from cslm_data.verify import verify_mix

    report = verify_mix(shell.workspace_of(workspace), mix, fast=fast, num_workers=num_workers)
    rows: list[dict[str, Any]] = [{**vars(f), "fix": f.fix} for f in report.findings]
    if json:
        tables.print_json({**vars(report), "findings": rows})
    else:
        if rows:
            tables.print_table(
                list(rows[0]),
                [list(row.values()) for row in rows[:_PRINTED]],
                title=f"mix {mix}: {len(rows)} findings",
            )
        if len(rows) > _PRINTED:
            typer.echo(f"… and {len(rows) - _PRINTED:,} more; see --json")
        how = "sizes, indexes and sums" if fast else "every byte"
        texts = ""
        if not fast:
            texts = (
                "; texts come back from their ids"
                if report.text_checked and not any(row["check"] == "lossy_text" for row in rows)
                else ""
            )
            if not report.text_checked:
                texts = "; texts not checked: the text tokenizer of the mix is not there"
        typer.echo(
            f"{report.num_samples} samples with {report.num_units} units in {report.num_shards} "
            f"shards: {how} looked at{texts}; {f'{len(rows)} findings' if rows else 'ok'}"
        )
    if rows:
        raise typer.Exit(shell.EXIT_FINDING)
