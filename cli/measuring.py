"""`cslm-data measure`: what recordings are like, and what languages texts seem to be in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption
from cslm_cli.tokenizers import (
    EngineOption,
    NumWorkersOption,
    PartSecondsOption,
    RetryOption,
)

from cslm_data.errors import UsageError

if TYPE_CHECKING:
    from cslm_data.measure import MeasureSummary
    from cslm_data.text.language_id import TextSummary

_MOST_OTHERS = 12


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(measure)


def measure(
    workspace: WorkspaceOption = None,
    num_workers: NumWorkersOption = None,
    part_seconds: PartSecondsOption = None,
    engine: EngineOption = "local",
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Measure the recordings.")
    ] = True,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Detect the languages of texts.")
    ] = True,
    retry_rejected: RetryOption = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Measure the speech (level, clipping, silence, noise, bandwidth) and detect texts' languages.

    They become the tables `measures` and `text_languages`. What was measured before, also while it
    was quantized, is not done again.
    """
    from cslm_data.measure import has_speech
    from cslm_data.measure import measure as measure_audio
    from cslm_data.text.language_id import measure_texts

    where = shell.workspace_of(workspace)
    if not (audio or texts):
        raise UsageError("--no-audio --no-texts: nothing is left to measure")
    of_texts = measure_texts(where, threads=num_workers) if texts else None
    of_audio = None
    # A workspace of texts alone is no mistake, unless audio alone is asked for.
    if audio and (not texts or has_speech(where)):
        of_audio = measure_audio(
            where,
            num_workers=num_workers,
            part_seconds=part_seconds,
            engine=engine,
            retry_rejected=retry_rejected,
        )
    if json:
        tables.print_json({"audio": of_audio, "texts": of_texts and _plain(of_texts)})
    else:
        if of_texts:
            _print_texts(of_texts)
        if of_audio:
            _print_audio(of_audio)
    if of_audio:
        shell.check_reject_rate(of_audio.num_rejected, of_audio.num_in, max_reject_rate, "measure")


def _plain(texts: TextSummary) -> dict[str, object]:
    """JSON has no pairs for keys."""
    others = [
        {"said": said, "detected": detected, "texts": number}
        for (said, detected), number in sorted(texts.others.items())
    ]
    return {**vars(texts), "others": others}


def _print_texts(texts: TextSummary) -> None:
    if texts.others:
        commonest = sorted(texts.others.items(), key=lambda item: (-item[1], item[0]))
        tables.print_table(
            ["said to be", "seems to be", "texts"],
            [(said, detected, number) for (said, detected), number in commonest[:_MOST_OTHERS]],
            title="texts that seem to be in another language",
        )
    typer.echo(
        f"{texts.num_texts} texts = {texts.num_agreed} as said + {texts.num_other} seem to be in "
        f"another language + {texts.num_undecided} not told (short, or no letters)"
    )


def _print_audio(audio: MeasureSummary) -> None:
    tables.print_table(
        ["corpus", "language", "utterances", "hours", "level dB", "SNR dB", "bandwidth Hz"]
        + ["silence", "clipped", "narrow", "silent"],
        [
            (group.corpus, group.language, group.num_utterances, group.hours)
            + (group.median_rms_db, group.median_snr_db, group.median_bandwidth_hz)
            + (group.median_silence_share, group.num_clipped, group.num_narrow, group.num_silent)
            for group in audio.groups
        ],
        title="recordings: medians, and how many are clipped, narrow or silent",
    )
    typer.echo(
        f"{audio.num_in} utterances = {audio.num_out} measured + {audio.num_already} already + "
        f"{audio.num_rejected} rejected {audio.reject_reasons or ''} in {audio.elapsed_s:.1f} s"
    )
