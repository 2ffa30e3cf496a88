"""`cslm-data align`: when each word is said."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption
from cslm_cli.tokenizers import (
    DeviceOption,
    EngineOption,
    NumWorkersOption,
    PartSecondsOption,
    RetryOption,
)

if TYPE_CHECKING:
    from cslm_data.alignment import AlignSummary


class SpellingName(StrEnum):
    """How transcripts are written for a model."""

    CHARACTERS = "characters"
    ROMANISED = "romanised"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(align)


def align(
    workspace: WorkspaceOption = None,
    aligner: Annotated[
        str,
        typer.Option(
            help="ctc (trained on this speech, no download), mms_fa, mms_fa:<weights>, or a "
            "directory with a Hugging Face CTC model.",
        ),
    ] = "ctc",
    langs: Annotated[
        str | None,
        typer.Option("--langs", help="Of these languages only, e.g. en,zh.", show_default=False),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="Of this corpus only; may be repeated.", show_default=False),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Refuse utterances whose words score less on average, 0 to 1. Default: 0.1, or "
            "as this aligner's alignments so far.",
            show_default=False,
        ),
    ] = None,
    spelling: Annotated[
        SpellingName | None,
        typer.Option(
            help="What a Hugging Face model writes: characters of each language (default), or "
            "romanised, a-z alone.",
            show_default=False,
        ),
    ] = None,
    all: Annotated[
        bool,
        typer.Option("--all", help="Also what has word times of its corpus or another aligner."),
    ] = False,
    num_workers: NumWorkersOption = None,
    part_seconds: PartSecondsOption = None,
    engine: EngineOption = "local",
    device: DeviceOption = "auto",
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the embedded aligner anew.")
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of that training.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw this aligner's alignments away first.")
    ] = False,
    retry_rejected: RetryOption = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Find when each word of a transcript is said, by CTC forced alignment.

    The times become the table `alignments`; of several aligners the mixes take what came with the
    corpus, else the surest (`best_alignments`). What has times already is left alone.
    """
    from cslm_data.alignment import align as run_align

    train_options: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    summary = run_align(
        shell.workspace_of(workspace),
        aligner=aligner,
        languages=shell.languages_of(langs) if langs else None,
        corpora=corpus or None,
        min_score=min_score,
        spelling=spelling.value if spelling else None,
        align_all=all,
        num_workers=num_workers,
        part_seconds=part_seconds,
        engine=engine,
        device=device,
        overwrite=overwrite,
        retry_rejected=retry_rejected,
        retrain=retrain,
        train_options=train_options,
    )
    if json:
        tables.print_json(summary)
    else:
        _print(summary)
    surprising = summary.num_rejected - summary.num_without_text
    shell.check_reject_rate(
        surprising, summary.num_in - summary.num_without_text, max_reject_rate, "align"
    )


def _print(summary: AlignSummary) -> None:
    tables.print_table(
        ["language", "utterances", "words", "mean score", "rejected", "others' times"],
        [
            (row.language, row.num_utterances, row.num_words, row.mean_score)
            + (row.num_rejected, row.num_elsewhere)
            for row in summary.languages
        ],
        title=f"word times of {summary.name} ({summary.aligner_id})"
        f"{': trained just now' if summary.trained else ''}",
    )
    typer.echo(
        f"{summary.num_in} utterances = {summary.num_out} aligned + {summary.num_already} already "
        f"+ {summary.num_rejected} rejected {summary.reject_reasons or ''} in "
        f"{summary.elapsed_s:.1f} s"
    )
