"""`cslm-data fit-tokenizer`, `import-tokenizer`, `export-tokenizer`: speech tokenizers."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cslm_cli import shell, tables
from cslm_cli.shell import JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from cslm_data.speech_tokenizer import SpeechTokenizer


class Backend(StrEnum):
    """Who runs k-means."""

    AUTO = "auto"
    LLOYD = "lloyd"
    FAISS = "faiss"
    SKLEARN = "sklearn"


class Init(StrEnum):
    """Where k-means begins."""

    AUTO = "auto"
    RANDOM = "random"
    KMEANS = "kmeans++"


ExtractorOption = Annotated[
    str | None,
    typer.Option(
        help="mfcc (default), hf:<directory or repo>, torchaudio:<BUNDLE>, s3:<model>.",
        show_default=False,
    ),
]
LayerOption = Annotated[
    int | None, typer.Option(min=0, help="Hidden layer of a network. Default: the last.")
]
NumUnitsOption = Annotated[
    int | None,
    typer.Option(
        min=2,
        max=65536,
        help="Units to learn (K). Default: 500, or as many as the speech carries.",
        show_default=False,
    ),
]
MaxFramesOption = Annotated[
    int, typer.Option(min=100, help="Frames in the sample that k-means sees; they bound memory.")
]
TemperatureOption = Annotated[
    float, typer.Option(min=1.0, help="Evens out the languages in the sample; 1: as they are.")
]
MaxSpeakerOption = Annotated[
    float | None, typer.Option(min=0.0, help="Seconds of one speaker in the sample.")
]
BackendOption = Annotated[
    Backend,
    typer.Option(
        help="Who runs k-means. auto: lloyd, ours, where bfloat16 is fast, else faiss; sklearn: "
        "fairseq's recipe."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the sample and of k-means.")]
NumWorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes. Default: one a core, or one a GPU.", show_default=False),
]
DeviceOption = Annotated[str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1.")]
DtypeOption = Annotated[
    str, typer.Option(help="Their arithmetic: float32 (the reference) or bfloat16 (faster).")
]
EngineOption = Annotated[str, typer.Option(help="What runs the parts: local, or ray (a cluster).")]
PartSecondsOption = Annotated[
    float | None, typer.Option(min=0.1, help="Audio of one part.", show_default=False)
]
RetryOption = Annotated[
    bool, typer.Option("--retry-rejected", help="Try again what was refused before.")
]
NameOption = Annotated[
    str | None, typer.Option(help="Name of the tokenizer. Default: from extractor and K.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("fit-tokenizer")(fit_tokenizer)
    app.command("import-tokenizer")(import_tokenizer)
    app.command("export-tokenizer")(export_tokenizer)


def fit_tokenizer(
    workspace: WorkspaceOption = None,
    name: NameOption = None,
    extractor: ExtractorOption = None,
    layer: LayerOption = None,
    num_units: NumUnitsOption = None,
    normalisation: Annotated[
        str,
        typer.Option(
            help="Before k-means: none, standardise, pca, pca:64, whiten, whiten:64, spherical."
        ),
    ] = "standardise",
    max_frames: MaxFramesOption = 400_000,
    temperature: TemperatureOption = 2.0,
    max_speaker_s: MaxSpeakerOption = None,
    seed: SeedOption = 0,
    backend: BackendOption = Backend.AUTO,
    init: Annotated[
        Init, typer.Option(help="Where k-means begins. auto: kmeans++ up to 500 units.")
    ] = Init.AUTO,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Steps of k-means. Default: as the backend needs.")
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=1, help="Starts of k-means, of which the best stays.")
    ] = 1,
    full_passes: Annotated[
        int, typer.Option(min=0, help="Further steps of k-means over all the speech there is.")
    ] = 0,
    num_workers: NumWorkersOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    engine: EngineOption = "local",
    json: JsonOption = False,
) -> None:
    """Fit a speech tokenizer on a sample of the speech in the catalog."""
    from cslm_data.engines.placement import place_workers
    from cslm_data.features import normalise_spec
    from cslm_data.tokenizers.tokenizer_fit import DEFAULT_EXTRACTOR, FitOptions
    from cslm_data.tokenizers.tokenizer_fit import fit_tokenizer as run_fit

    start = time.monotonic()
    spec = normalise_spec(extractor or DEFAULT_EXTRACTOR)
    run_parts, workers = place_workers(
        engine, extractor=spec, device=device, num_workers=num_workers
    )
    options = FitOptions(
        extractor=spec,
        layer=layer,
        num_units=num_units,
        normalisation=normalisation,
        max_frames=max_frames,
        temperature=temperature,
        max_speaker_s=max_speaker_s,
        seed=seed,
        backend=backend.value,
        init=init.value,
        iterations=iterations,
        restarts=restarts,
        full_passes=full_passes,
    )
    made = run_fit(
        shell.workspace_of(workspace),
        options=options,
        run_parts=run_parts,
        num_workers=workers,
        device=device,
        dtype=dtype,
        name=name,
    )
    _print(made, json=json, elapsed_s=time.monotonic() - start)


def import_tokenizer(
    file: Annotated[Path, typer.Argument(help="Centroids: .npy (K, D), or fairseq's km.bin.")],
    extractor: Annotated[
        str, typer.Option(help="What they were fitted on, e.g. hf:facebook/hubert-base-ls960.")
    ],
    workspace: WorkspaceOption = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="Hidden layer of it. Default: the last.")
    ] = None,
    normalisation: Annotated[str, typer.Option(help="none, or spherical.")] = "none",
    name: NameOption = None,
    unsafe_pickle: Annotated[
        bool,
        typer.Option(
            "--unsafe-pickle", help="Read a pickle, and so run the code in it: you trust the file."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make a speech tokenizer of centroids that were fitted elsewhere."""
    from cslm_data.tokenizers.centroid_files import import_tokenizer as run_import

    made = run_import(
        shell.workspace_of(workspace),
        file,
        extractor=extractor,
        layer=layer,
        normalisation=normalisation,
        name=name,
        unsafe_pickle=unsafe_pickle,
    )
    _print(made, json=json)


def export_tokenizer(
    tokenizer: Annotated[str, typer.Argument(help="Speech tokenizer, by name or id.")],
    file: Annotated[Path, typer.Argument(help="What to write: .npy, or .bin as fairseq's km.bin.")],
    workspace: WorkspaceOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write the centroids of a speech tokenizer for other programs."""
    from cslm_data.tokenizers.centroid_files import export_centroids
    from cslm_data.tokenizers.tokenizer_folders import find_tokenizer

    found = find_tokenizer(shell.workspace_of(workspace), tokenizer)
    num_units, dim = export_centroids(found, file, overwrite=overwrite).shape
    of_layer = "" if found.layer is None else f", layer {found.layer}"
    typer.echo(f"{file}: {num_units} centroids of {dim} numbers, for {found.extractor}{of_layer}")


def _print(tokenizer: SpeechTokenizer, *, json: bool, elapsed_s: float | None = None) -> None:
    """What a tokenizer is and how it came about."""
    fit = tokenizer.fit
    fields: dict[str, Any] = {
        "name": tokenizer.name,
        "tokenizer_id": tokenizer.tokenizer_id,
        "extractor": tokenizer.extractor,
        "layer": tokenizer.layer,
        "num_units": tokenizer.num_units,
        "dim": tokenizer.centroids_KE.shape[1],
        "elapsed_s": elapsed_s,
    }
    if json:
        tables.print_json({**fields, "fit": fit})
        return
    shown = {
        "units": tokenizer.num_units,
        "dimensions": tokenizer.centroids_KE.shape[1],
        "normalisation": tokenizer.normalisation.kind,
        "frames": fit["num_frames"] or None,
        "frames per language": ", ".join(
            f"{language} {count:,}"
            for language, count in fit.get("frames_per_language", {}).items()
        ),
        "k-means": f"{fit['backend']} from {fit['init']}" if "init" in fit else fit["backend"],
        "mean squared distance": _curve(fit["inertia"]),
        "over all speech": _curve(fit.get("full_inertia", [])),
        "frames of all speech": fit.get("full_num_frames"),
        "utterances unreadable": fit.get("num_unreadable") or None,
        "seconds": elapsed_s,
    }
    tables.print_fields(
        f"{tokenizer.name} ({tokenizer.tokenizer_id})",
        {name: value for name, value in shown.items() if value not in (None, "")},
    )


def _curve(inertia: list[float]) -> str:
    """First and last of a curve."""
    if not inertia:
        return ""
    steps = f" in {len(inertia)} steps" if len(inertia) > 1 else ""
    return " → ".join(f"{value:.5g}" for value in (*inertia[:1], *inertia[1:][-1:])) + steps
