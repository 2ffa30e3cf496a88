"""`cslm-train average`: the mean of a run's checkpoints as a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, StageName, WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(average)


def average(
    workspace: WorkspaceOption = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Run, by name or folder. Default: the last trained.", show_default=False
        ),
    ] = None,
    stage: Annotated[StageName | None, typer.Option(help="Stage.", show_default=False)] = None,
    last: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="So many of the last checkpoints. Default: all it keeps.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option(help="Checkpoints by step, e.g. 800,900,1000.", show_default=False)
    ] = "",
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the mean. Default: the run's with -average to its name."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that folder.")] = False,
    json: JsonOption = False,
) -> None:
    """Average the weights of a run's checkpoints into a run that answers, evaluates, exports.

    Let the run keep enough of them with --set checkpoint.keep_last=N.
    """
    from cslm_data.errors import UsageError
    from cslm_train.run_choice import choose_run

    where = shell.workspace_of(workspace)
    run_dir = choose_run(where, run=run, stage=stage.value if stage else None)
    try:
        named = [int(step) for step in steps.split(",") if step.strip()]
    except ValueError:
        raise UsageError(f"--steps {steps}: expected numbers, e.g. 800,900,1000") from None
    from cslm_train.training.averaging import average_run

    target = output_dir or run_dir.with_name(f"{run_dir.name}-average")
    info = average_run(run_dir, target.absolute(), last=last, steps=named, overwrite=overwrite)
    if json:
        tables.print_json(
            {"run": info.run, "run_id": info.run_id, "averaged": info.averaged, "run_dir": target}
        )
    else:
        typer.echo(f"{target}: the mean of steps {', '.join(map(str, info.averaged))}")
