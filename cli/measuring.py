"""`cslm-data measure`: what recordings are like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption
from cslm_cli.tokenizers import EngineOption, NumWorkersOption

if TYPE_CHECKING:
    from cslm_data.measure import MeasureSummary


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(measure)


def measure(
    workspace: WorkspaceOption = None,
    num_workers: NumWorkersOption = None,
    part_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Audio of one part.", show_default=False)
    ] = None,
    engine: EngineOption = "local",
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Try again what was refused before.")
    ] = False,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Measure level, clipping, silence, noise and bandwidth of the speech, as the table `measures`.

    What was measured before, also while it was quantized, is not decoded again.
    """
    from cslm_data.measure import measure as measure_audio

    audio = measure_audio(
        shell.workspace_of(workspace),
        num_workers=num_workers,
        part_seconds=part_seconds,
        engine=engine,
        retry_rejected=retry_rejected,
    )
    if json:
        tables.print_json({"audio": audio})
    else:
        _print_audio(audio)
    shell.check_reject_rate(audio.num_rejected, audio.num_in, max_reject_rate, "measure")


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
