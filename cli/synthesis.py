"""`cslm-data synthesize`: speech for texts that have none."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption
from cslm_cli.tokenizers import (
    EngineOption,
    NumWorkersOption,
    RetryOption,
)

from cslm_data.errors import UsageError

if TYPE_CHECKING:
    from cslm_data.synthesize import SynthesizeSummary


class Texts(StrEnum):
    """What is spoken."""

    DIALOGUES = "dialogues"
    INSTRUCTIONS = "instructions"
    BITEXT = "bitext"
    UTTERANCES = "utterances"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(synthesize)


def synthesize(
    what: Annotated[
        Texts,
        typer.Argument(
            help="dialogues that are text alone; instructions: those of one question and answer; "
            "both sides of bitext; transcripts of utterances, spoken again."
        ),
    ],
    langs: Annotated[str, typer.Option("--langs", help="Languages, e.g. en,zh.")],
    workspace: WorkspaceOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="Who speaks: espeak (default), command, an entry point of cslm.tts, or a Python "
            "callable as package.module:function.",
            show_default=False,
        ),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            help="Program that speaks, e.g. 'piper --model {voice} --output_file {out}'; text on "
            "its stdin; also {text_file} {language} {seed}. No shell.",
            show_default=False,
        ),
    ] = None,
    voices: Annotated[
        str | None,
        typer.Option(
            help="How many of each language, or which: m1,f3 or en=amy,en=joe,zh=huayan. "
            "Default: all.",
            show_default=False,
        ),
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Texts of this corpus alone.")] = None,
    where: Annotated[
        str | None,
        typer.Option(help='SQL over the table, e.g. "num_characters < 300".', show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many rows at most, a keyed sample.")
    ] = None,
    exchanges: Annotated[
        int, typer.Option(min=1, help="Questions and answers of a dialogue, the first ones.")
    ] = 1,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Longest speech of one text; longer is rejected.")
    ] = 30.0,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a program may take over one text.")
    ] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of the sample, the voices, the backend.")] = 0,
    num_workers: NumWorkersOption = None,
    part_seconds: Annotated[
        float, typer.Option(min=0.1, help="About how much speech a part holds.")
    ] = 600.0,
    engine: EngineOption = "local",
    retry_rejected: RetryOption = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Speak texts that have no speech, and add the speech to the catalog, marked as synthetic.

    What was spoken with the same settings is not spoken again. Texts that nobody could say (code,
    addresses, tables, too long) are rejected, but count for --max-reject-rate no more than the
    others.
    """
    from cslm_data.synthesize import synthesize as run_synthesize

    if command is not None and backend not in (None, "command"):
        raise UsageError(f"--backend {backend} --command …: give one of them")
    summary = run_synthesize(
        shell.workspace_of(workspace),
        what=what.value,
        languages=shell.languages_of(langs),
        backend=backend or ("espeak" if command is None else "command"),
        command=command,
        voices=_voices(voices),
        corpus=corpus,
        where=where,
        limit=limit,
        exchanges=exchanges,
        max_seconds=max_seconds,
        time_limit_s=time_limit,
        seed=seed,
        num_workers=num_workers,
        part_seconds=part_seconds,
        engine=engine,
        retry_rejected=retry_rejected,
    )
    if json:
        tables.print_json(summary)
    else:
        _print(summary)
    failed = summary.num_failed + summary.not_ingested
    shell.check_reject_rate(failed, summary.num_in, max_reject_rate, "synthesize")


def _voices(option: str | None) -> int | list[str] | None:
    """`3` as a number, `m1,f3` as a list."""
    if option is None:
        return None
    if option.strip().isdecimal():
        return int(option)
    names = [name.strip() for name in option.split(",") if name.strip()]
    if not names:
        raise UsageError("--voices: give a number, or names with commas between them")
    return names


def _print(summary: SynthesizeSummary) -> None:
    tables.print_table(
        ["texts of", "language", "spoken", "minutes", "voices", "rejected"],
        [
            (group.corpus, group.language, group.num_texts, group.seconds / 60)
            + (group.num_voices, group.num_rejected)
            for group in summary.groups
        ],
        title=f"speech by {summary.made_by}: {summary.folder}",
    )
    typer.echo(
        f"{summary.num_in} rows = {summary.num_out} spoken + {summary.num_already} already + "
        f"{summary.num_rejected} rejected {summary.reject_reasons or ''}; "
        f"{summary.new_seconds / 60:.1f} minutes of speech in {summary.elapsed_s:.1f} s"
    )
    if summary.not_ingested:
        typer.echo(f"{summary.not_ingested} rows of the manifest were refused by the catalog")
