"""`cslm-train export`: a run as a folder for transformers and vLLM."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, StageName, WorkspaceOption


class Dtype(StrEnum):
    """Data type of weights."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(export)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    workspace: WorkspaceOption = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Run, by name or folder. Default: the last stage trained.",
            show_default=False,
        ),
    ] = None,
    stage: Annotated[
        StageName | None, typer.Option(help="Run of this stage.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint", "--step", help="last, best (by the loss on the valid split), or a step."
        ),
    ] = "last",
    dtype: Annotated[Dtype, typer.Option(help="Data type of the weights.")] = Dtype.BF16,
    max_shard_gb: Annotated[
        float, typer.Option(help="Largest file of weights, in GB (10^9 bytes).")
    ] = 5.0,
    license: Annotated[
        str | None,
        typer.Option(
            help="Licence of the weights for the model card, an identifier of the Hub such as "
            "apache-2.0. Default: none is stated.",
            show_default=False,
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            help="Name of the base model on the Hub for the model card. Default: as its folder "
            "in the Hub's cache says.",
            show_default=False,
        ),
    ] = None,
    without_speech_tokenizer: Annotated[
        bool,
        typer.Option(
            "--without-speech-tokenizer", help="Leave out what makes units of recordings."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a run for transformers and vLLM: weights, tokenizer, chat template, model card.

    Token ids are those of training, units are tokens such as <unit_7>. The folder also holds
    units.json and the speech tokenizer.
    """
    from cslm_train.run_choice import choose_checkpoint, choose_run

    where = shell.workspace_of(workspace)
    run_dir = choose_run(where, run=run, stage=stage.value if stage else None)
    step = choose_checkpoint(run_dir, checkpoint)
    from cslm_train.export import export_run

    made = export_run(
        where,
        run_dir,
        out,
        step=step,
        dtype=dtype.value,
        max_shard_gb=max_shard_gb,
        license=license,
        base_model=base_model,
        without_speech_tokenizer=without_speech_tokenizer,
        overwrite=overwrite,
    )
    if json:
        tables.print_json(made)
        return
    tables.print_fields(
        str(made.folder),
        {
            "run": f"{made.run}, step {made.step}",
            "parameters": made.num_parameters,
            "data type": made.dtype,
            "MB": made.num_bytes / 1e6,
            "vocabulary": made.vocab_size,
            "speech tokenizer": made.tokenizer_id,
            "files": len(made.files),
            "samples compared": made.num_compared,
            "with other tokens": made.num_different,
        },
    )
