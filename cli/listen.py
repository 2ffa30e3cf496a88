"""`cslm-data listen`: what the units of an utterance sound like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, WorkspaceOption

from cslm_data.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(listen)


def listen(
    utterances: Annotated[
        list[str] | None, typer.Argument(help="Ids of utterances. Default: examples.")
    ] = None,
    workspace: WorkspaceOption = None,
    tokenizer: Annotated[str | None, typer.Option(help="Speech tokenizer, by name or id.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of the examples.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many examples.")] = 3,
    seed: Annotated[int, typer.Option(help="Which examples.")] = 0,
    units: Annotated[
        str | None,
        typer.Option(help="Units instead of utterances, e.g. '17 4 230'; - reads them from stdin."),
    ] = None,
    durations: Annotated[
        str | None,
        typer.Option(help="Frames of each of --units. Default: what is usual for the unit."),
    ] = None,
    regression: Annotated[
        bool,
        typer.Option(
            "--regression", help="Fit a regression from units to sound for mfcc tokenizers, too."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to. Default: listen/TOKENIZER in the workspace."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn units back into sound: wav of both, a picture of both, and a page to play them on."""
    from cslm_data import listen as listening

    where = shell.workspace_of(workspace)
    if units is None:
        if durations is not None:
            raise UsageError("--durations: goes with --units only")
        summary = listening.listen(
            where,
            utterances or (),
            language=lang,
            limit=limit,
            tokenizer=tokenizer,
            out=out,
            by_regression=regression,
            seed=seed,
        )
    else:
        if utterances:
            raise UsageError("--units: give either units or ids of utterances")
        line = sys.stdin.read() if units == "-" else units
        summary = listening.listen_to_units(
            where,
            _numbers("--units", line),
            durations=None if durations is None else _numbers("--durations", durations),
            tokenizer=tokenizer,
            out=out,
            by_regression=regression,
        )
    if json:
        tables.print_json(summary)
        return
    if summary.fitted:
        typer.echo(f"learnt how the units of {summary.name} sound; kept for the next time")
    tables.print_table(
        ["utterance", "lang", "s", "units", "MCD dB", "of mean spectrum", "mel dB", "heard in"],
        [
            (each.utt_id, each.language, each.duration_s, each.num_units)
            + (each.distance.mcd_db if each.distance else None,)
            + (each.mean_distance.mcd_db if each.mean_distance else None,)
            + (each.distance.mel_db if each.distance else None,)
            + (str(each.resynthesis.relative_to(summary.page.parent)),)
            for each in summary.heard
        ],
        title=f"{summary.tokenizer_id}, {summary.about}",
    )
    typer.echo(f"open {summary.page} to listen and look")


def _numbers(option: str, line: str) -> list[int]:
    """Whole numbers parted by blanks or commas."""
    words = line.replace(",", " ").split()
    wrong = next((word for word in words if not (word.isascii() and word.isdecimal())), None)
    if wrong is not None:
        raise UsageError(f"{option}: {wrong!r} is no whole number; give e.g. '17 4 230'")
    return [int(word) for word in words]
