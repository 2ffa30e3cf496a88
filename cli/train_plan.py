"""`cslm-train plan`: the arithmetic of a run, before any GPU is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, StageName, WorkspaceOption
from cslm_cli.train_options import ConfigOption, MixOption, SettingsOption

if TYPE_CHECKING:
    from cslm_train.planning.records import RunPlan

_GIB = 1024**3


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(plan)


def plan(
    workspace: WorkspaceOption = None,
    stage: Annotated[
        StageName | None,
        typer.Option(help="Plan this stage alone. Default: both.", show_default=False),
    ] = None,
    config: ConfigOption = "smoke",
    mix: MixOption = None,
    settings: SettingsOption = None,
    tokens: Annotated[
        float | None,
        typer.Option(min=1, help="Tokens of one pass, e.g. 8.6e9, in place of a mix."),
    ] = None,
    sample_tokens: Annotated[
        int, typer.Option(min=2, help="With --tokens: how long a sample is.")
    ] = 512,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Architecture of a public model by name, e.g. llama-3.1-8b, or of a config.json: "
            "no weights are needed."
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(help="Run whose weights sft begins with. Default: runs/pretrain, if there."),
    ] = None,
    num_units: Annotated[
        int | None,
        typer.Option(min=1, help="Units of the speech tokenizer. Default: the mix's, or 4096."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of a node, a process each.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes.")] = 1,
    gpu: Annotated[str, typer.Option(help="What GPU: h100, a100, h200, l40s, rtx-4090 …")] = "h100",
    memory_gb: Annotated[
        float | None, typer.Option(min=0.1, help="Its memory in GiB, over the one known.")
    ] = None,
    peak_tflops: Annotated[
        float | None, typer.Option(min=0.001, help="Its peak in TFLOP/s, over the one known.")
    ] = None,
    mfu: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Share of the peak that training reaches.")
    ] = 0.4,
    trained_share: Annotated[
        float,
        typer.Option(
            min=0.001, max=1.0, help="Share of the tokens that is predicted; 1: the worst case."
        ),
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Say what a run comes to: tokens, steps, parameters, memory of a GPU, hours, disk.

    Nothing is read but the mix's own files and nothing is written; no GPU and no PyTorch is needed.
    """
    from cslm_data.errors import UsageError

    given = {"--mix": mix, "--tokens": tokens, "--init-from": init_from}
    for option, value in given.items():
        if stage is None and value is not None:
            raise UsageError(f"{option} is of one stage: name it with --stage")
    if mix is not None and tokens is not None:
        raise UsageError("--tokens is in place of a mix: leave --mix out, or --tokens")
    from cslm_train.config_files import load_config
    from cslm_train.plan import plan_run
    from cslm_train.planning.devices import find_gpu
    from cslm_train.planning.records import Request

    where = shell.workspace_of(workspace)
    plans = []
    for each in [stage] if stage is not None else list(StageName):
        loaded = load_config(config, settings or (), stage=each.value)
        request = Request(
            stage=each.value,
            mix=mix,
            tokens=None if tokens is None else round(tokens),
            sample_tokens=sample_tokens,
            shape=shape,
            init_from=None if init_from is None else init_from.absolute(),
            num_units=num_units,
            num_gpus=gpus * nodes,
            mfu=mfu,
            trained_share=trained_share,
        )
        device = find_gpu(
            gpu, loaded.trainer.precision, memory_gb=memory_gb, peak_tflops=peak_tflops
        )
        plans.append(plan_run(where, loaded, request, device))
    if json:
        tables.print_json(plans)
    else:
        for planned in plans:
            _print(planned)


def _print(planned: RunPlan) -> None:
    data, steps, memory = planned.reading, planned.steps, planned.memory
    if planned.groups:
        tables.print_table(
            ["split", "task", "languages", "samples", "tokens", "share"],
            [
                (g.split, g.task, g.languages, g.num_samples, g.num_tokens, f"{g.share:.1%}")
                for g in planned.groups
            ],
            title=f"{planned.stage}: mixes/{planned.mix}",
        )
    tables.print_table(
        ["", f"{planned.stage}: steps"],
        [
            ("from", data.source),
            ("samples", _count(data.num_samples)),
            ("tokens", _count(data.num_tokens)),
            ("longer than a pack", "not known" if data.num_too_long is None else data.num_too_long),
            ("mean context of a token", f"{data.mean_context:,.0f}"),
            (
                "packs",
                f"{_count(data.num_packs)} of {planned.placement.pack_length} tokens, "
                f"{data.fill:.1%} full",
            ),
            (
                "packs a step",
                f"{steps.packs_per_step} = {planned.num_gpus} GPUs × {steps.packs_per_gpu}",
            ),
            ("samples a step", _count(steps.samples_per_step)),
            ("tokens a step", _count(steps.tokens_per_step)),
            ("steps", f"{_count(steps.num_steps)}, {_count(steps.warmup_steps)} of them warm up"),
            ("epochs", f"{steps.num_epochs:.3g}"),
            ("tokens of the run", _count(steps.num_tokens)),
            (
                "learning rate at step",
                ", ".join(f"{step}: {rate:.3g}" for step, rate in steps.learning_rates),
            ),
        ],
    )
    tables.print_table(
        ["", f"{planned.stage}: parameters"],
        [
            ("architecture", planned.architecture.source),
            ("vocabulary", planned.architecture.vocab_size),
            *(
                (n.replace("_", " "), v)
                for n, v in vars(planned.parameters).items()
                if v and n != "factored_state"
            ),
        ],
    )
    of = _gib(planned.gpu.memory_bytes)
    tables.print_table(
        ["", f"{planned.stage}: GiB of a GPU"],
        [
            *((n.replace("_", " "), _gib(v)) for n, v in vars(memory).items() if v),
            (f"of {planned.gpu.name}", of),
        ],
    )
    tables.print_table(
        ["how", "GiB of a GPU", f"fits into {of}", "--set"],
        [
            (
                way.name,
                _gib(way.total),
                "yes" if way.fits else "no",
                "as configured" if way.configured else way.settings,
            )
            for way in planned.ways
        ],
        title=f"{planned.stage}: {'it fits' if planned.fits else 'IT DOES NOT FIT'} as configured",
    )
    cost, disk = planned.cost, planned.disk
    tables.print_table(
        ["", f"{planned.stage}: time and disk"],
        [
            (
                "GPUs",
                f"{planned.num_gpus} × {planned.gpu.name}, "
                f"{planned.gpu.peak_flops / 1e12:,.4g} TFLOP/s each at most",
            ),
            ("FLOPs of a token", f"{cost.flops_per_token:.3g}"),
            ("FLOPs of the run", f"{cost.total_flops:.3g}"),
            (
                "tokens a second",
                f"{_count(round(cost.tokens_per_second))} at an MFU of {cost.mfu:g}",
            ),
            ("hours", f"{cost.hours:,.3g}"),
            ("GPU-hours", f"{cost.gpu_hours:,.4g}"),
            ("a checkpoint", f"{_gib(disk.checkpoint_bytes)} GiB"),
            (
                "checkpoints on disk",
                f"{_gib(disk.total_bytes)} GiB: {disk.num_checkpoints}, the one being written "
                "among them",
            ),
            ("the exported model", f"{_gib(disk.export_bytes)} GiB in bf16"),
        ],
    )
    for note in planned.notes:
        typer.echo(f"note: {note}")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:,.3g}" if num_bytes < 100 * _GIB else f"{num_bytes / _GIB:,.0f}"


def _count(number: int) -> str:
    """A count with its thousands, and from a million on in short."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number:,} ({number / size:.3g} {name})"
    return f"{number:,}"
