"""`cslm-data quantize`: speech → units."""

from __future__ import annotations

from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, RejectRateOption, WorkspaceOption
from cslm_cli.tokenizers import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    EngineOption,
    ExtractorOption,
    LayerOption,
    MaxFramesOption,
    MaxSpeakerOption,
    NumUnitsOption,
    NumWorkersOption,
    PartSecondsOption,
    RetryOption,
    SeedOption,
    TemperatureOption,
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(quantize)


def quantize(
    workspace: WorkspaceOption = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Speech tokenizer to use, by name or id.", show_default=False),
    ] = None,
    extractor: ExtractorOption = None,
    layer: LayerOption = None,
    num_units: NumUnitsOption = None,
    max_frames: MaxFramesOption = 400_000,
    temperature: TemperatureOption = 2.0,
    max_speaker_s: MaxSpeakerOption = None,
    backend: BackendOption = Backend.AUTO,
    seed: SeedOption = 0,
    num_workers: NumWorkersOption = None,
    part_seconds: PartSecondsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    batch_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Audio in a batch of a network; 0: one by one. Default: batches on GPUs only.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = "local",
    units_at: Annotated[
        str | None,
        typer.Option(
            help="Where this workspace keeps its units from now on: a folder or s3://…",
            show_default=False,
        ),
    ] = None,
    retry_rejected: RetryOption = False,
    measure: Annotated[
        bool, typer.Option(help="Measure, in the same pass, what was not measured yet.")
    ] = True,
    max_reject_rate: RejectRateOption = shell.DEFAULT_MAX_REJECT_RATE,
    json: JsonOption = False,
) -> None:
    """Turn every utterance into units; fit a speech tokenizer first if there is none."""
    from cslm_data.quantize import quantize as run_quantize

    summary = run_quantize(
        shell.workspace_of(workspace),
        tokenizer=tokenizer,
        extractor=extractor,
        layer=layer,
        num_units=num_units,
        max_frames=max_frames,
        temperature=temperature,
        max_speaker_s=max_speaker_s,
        backend=backend.value,
        seed=seed,
        num_workers=num_workers,
        part_seconds=part_seconds,
        device=device,
        dtype=dtype,
        engine=engine,
        units_at=units_at,
        batch_s=batch_seconds,
        retry_rejected=retry_rejected,
        measure=measure,
    )
    if json:
        tables.print_json(summary)
    else:
        tables.print_table(
            ["language", "utterances", "hours", "frames", "units", "units/s"],
            [
                (row.language, row.num_utterances, row.hours, row.num_frames, row.num_units)
                + (row.units_per_s,)
                for row in summary.languages
            ],
            title=f"{summary.tokenizer_id} ({'fitted now' if summary.fitted else summary.name})",
        )
        typer.echo(
            f"{summary.num_in} utterances = {summary.num_out} encoded + {summary.num_already} "
            f"already + {summary.num_rejected} rejected {summary.reject_reasons or ''}; "
            f"{summary.num_frames:,} frames became {summary.num_units_total:,} units "
            f"({summary.dedup_ratio:.2f} frames a unit) in {summary.elapsed_s:.1f} s"
        )
        if summary.agreement and summary.agreement.num_frames:
            typer.echo(
                f"{summary.agreement.share:.2%} of the units of a sample "
                f"({summary.agreement.num_frames:,} frames) are those of the reference: float32, "
                "one utterance at a time"
            )
    shell.check_reject_rate(summary.num_rejected, summary.num_in, max_reject_rate, "quantize")
