"""Checkpoints of a run → runs/<name>: one whose only checkpoint is their mean.

It holds what answers, evaluates, is exported and begins another run; it cannot be trained further.
The mean over the end of a run stands for a lower learning rate: Izmailov et al., arXiv:1803.05407.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cslm_data.errors import AlreadyExistsError, MissingArtefactError, UsageError
from cslm_data.progress import progress
from cslm_train.config import LoraConfig
from cslm_train.models.loading import read_weights
from cslm_train.models.weights import EMBEDDING, OUTPUT
from cslm_train.run_folder import (
    RunInfo,
    base_model_folder,
    checkpoint_steps,
    model_file,
    text_tokenizer_folder,
)


def average_run(
    run_dir: Path,
    output_dir: Path,
    *,
    last: int | None = None,
    steps: Sequence[int] = (),
    overwrite: bool = False,
) -> RunInfo:
    """Write the mean of the last checkpoints of a run, of those named, or of all that it keeps.

    Raises MissingArtefactError for a checkpoint there is not, UsageError for fewer than two or a
    folder that is the run's, AlreadyExistsError for a folder that holds something else.
    """
    info = RunInfo.load(run_dir)
    chosen = _choose(run_dir, last=last, steps=steps)
    if output_dir.resolve() == run_dir.resolve():
        raise UsageError(f"{output_dir}: the run itself; give its mean another --output-dir")
    is_run = (output_dir / "run.json").exists()
    if is_run and not overwrite:
        raise AlreadyExistsError(
            f"{output_dir}: holds a run; give the mean another --output-dir, or replace that run "
            "with --overwrite"
        )
    if not is_run and output_dir.exists() and (output_dir.is_file() or any(output_dir.iterdir())):
        raise AlreadyExistsError(
            f"{output_dir}: there is something else; give another --output-dir"
        )
    # Adapters are merged before the mean is taken: that of A and B apart is another matrix.
    config = dataclasses.replace(info.config, lora=LoraConfig())
    averaged = dataclasses.replace(info, run=output_dir.name, averaged=tuple(chosen), config=config)
    temporary = output_dir.with_name(f".{output_dir.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    try:
        path = model_file(temporary, chosen[-1])
        path.parent.mkdir(parents=True)
        weights = mean_weights(run_dir, chosen, tied=config.model.tied_embeddings)
        torch.save(weights, path, pickle_protocol=2)
        for folder in (text_tokenizer_folder, base_model_folder):
            if folder(run_dir).exists():
                shutil.copytree(folder(run_dir), folder(temporary))
        averaged.save(temporary)
        if output_dir.exists():
            shutil.rmtree(output_dir)
        temporary.rename(output_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return averaged


def mean_weights(run_dir: Path, steps: Sequence[int], *, tied: bool) -> dict[str, Tensor]:
    """The mean of each weight over some checkpoints, summed in fp64; tied weights are one."""
    checkpoints = [read_weights(run_dir, step) for step in steps]
    names = [name for name in checkpoints[0] if not (tied and name == OUTPUT)]
    means: dict[str, Tensor] = {}
    with progress("average", total=len(names), unit="weights") as bar:
        for name in names:
            total = checkpoints[0][name].double()
            for other in checkpoints[1:]:
                total += other[name]
            means[name] = (total / len(checkpoints)).to(checkpoints[0][name].dtype)
            bar.advance()
    return {**means, OUTPUT: means[EMBEDDING]} if tied else means


def _choose(run_dir: Path, *, last: int | None, steps: Sequence[int]) -> list[int]:
    there = checkpoint_steps(run_dir)
    names = ", ".join(map(str, there)) or "none"
    if last is not None and steps:
        raise UsageError("--last and --steps both name checkpoints; give one of them")
    if missing := sorted(set(steps) - set(there)):
        raise MissingArtefactError(
            f"{run_dir}: no checkpoint of step {', '.join(map(str, missing))}; there are {names}"
        )
    chosen = sorted(set(steps)) if steps else there[-last:] if last else there
    if len(chosen) < 2 or (last or 0) > len(there):
        raise UsageError(
            f"{run_dir}: a mean is of two checkpoints or more, but asked for were "
            f"{last or len(chosen)} of {names}; keep more with checkpoint.keep_last"
        )
    return chosen
