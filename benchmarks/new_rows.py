"""How rows of controls and units should begin in a base model: the first steps of each choice.

Goes on from the folder of `continual_pretraining.py` (catalog, units, base model), or makes them.
Every choice sees the same samples in the same order. Printed: valid loss of each task and the loss
on held-out sentences, plain text without turns, before the first step and after 10, 50 and 200.

    python benchmarks/new_rows.py --folder FOLDER [--data SHARED_DATA] [--choices mean:0.1,kmeans:1]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from continual_pretraining import (
    ARMS,
    LANGUAGES,
    command,
    held_out_text,
    make_base,
    make_catalog,
    print_table,
)

from cslm_data.workspace import Workspace, write_json

if TYPE_CHECKING:
    from cslm_train.models.loading import LoadedRun

STEPS = (0, 10, 50, 200)
CHOICES = "mean:0.1,kmeans:0.1,subword:0.1,kmeans:1,mean:1,mean:0"
MIX = "new-rows"
NUM_SENTENCES = 300
SETTINGS = (
    "model.max_seq_len=2048",
    "data.pack_length=1024",
    "optimizer.lr=0.001",
    f"trainer.num_steps={STEPS[-1]}",
    "trainer.precision=bf16",
    f"validation.every_n_steps={STEPS[-1]}",
    "checkpoint.every_n_steps=10",
    f"checkpoint.keep_last={STEPS[-1]}",
    "checkpoint.keep_best=0",
    "metrics.every_n_steps=10",
    "metrics.tensorboard=false",
)


def make_mix(folder: Path) -> None:
    """A small mix of all tasks, with few samples to validate on."""
    recipe = {
        "stage": "pretrain",
        "total_tokens": 300_000,
        "splits": {"by": "manifest", "max_per_source": 20},
        "sources": ARMS["with-mt"],
    }
    path = folder / "recipes" / f"{MIX}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = ("--langs", ",".join(LANGUAGES), "--recipe", path, "--name", MIX)
    words += ("--text-tokenizer", folder / "base", "--allow-missing")
    command("data", "build-mix", *words, "--workspace", folder / "workspace")


def losses_of(folder: Path, how: str, noise: str, seed: int) -> dict[int, dict[str, float]]:
    """Losses by step, of one choice; kept beside its run."""
    from likeness import text_loss

    from cslm_train.config_files import load_config
    from cslm_train.evaluate import evaluate
    from cslm_train.train import run_training

    where = folder / "workspace" / "runs" / f"{MIX}-{how}-{noise}-{seed}"
    kept = where / "losses.json"
    if kept.exists():
        read = json.loads(kept.read_text(encoding="utf-8"))
        return {int(step): losses for step, losses in read.items()}
    settings = [f"model.base={folder / 'base'}", *SETTINGS, f"trainer.seed={seed}"]
    settings += [f"model.new_rows={how}", f"model.new_rows_noise={noise}"]
    config = load_config("smoke", settings, stage="pretrain")
    workspace = Workspace(folder / "workspace")
    run_training(workspace, stage="pretrain", config=config, mix=MIX, output_dir=where)
    sentences = held_out_text(folder)["sentences"][:NUM_SENTENCES]
    found = {}
    for run in _at_steps(workspace, where):
        valid = evaluate(workspace, run, where, split="valid", max_samples=0)
        found[run.step] = valid.task_losses | {"plain text": text_loss(run, sentences)}
    write_json(kept, found)
    return found


def _at_steps(workspace: Workspace, where: Path) -> Iterator[LoadedRun]:
    """The run before its first step, and at its checkpoints."""
    import torch

    from cslm_train.models.family import create_model
    from cslm_train.models.loading import LoadedRun, load_run, load_vocabulary
    from cslm_train.run_folder import RunInfo
    from cslm_train.training.beginning import initial_weights

    info = RunInfo.load(where)
    vocabulary = load_vocabulary(where, info)
    weights = initial_weights(info, vocabulary, run=None, workspace=workspace)
    model = create_model(info.config.model, vocabulary)
    assert weights is not None
    model.load_state_dict(weights)
    yield LoadedRun(
        model=model.eval(), vocabulary=vocabulary, info=info, step=0, device=torch.device("cpu")
    )
    for step in STEPS[1:]:
        yield load_run(where, step=step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keep everything here")
    parser.add_argument("--data", default=os.environ.get("CSLM_SHARED_DATA"))
    parser.add_argument("--choices", default=CHOICES, help="HOW:NOISE, with commas")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.data or not (Path(options.data) / "real").is_dir():
        print(f"skipped: no data in {options.data}; name its folder: --data or CSLM_SHARED_DATA")
        return
    logging.basicConfig(level=logging.WARNING)
    folder = options.folder.absolute()
    make_catalog(Path(options.data), folder)
    make_base(folder)
    make_mix(folder)
    columns = {}
    for choice in options.choices.split(","):
        how, _, noise = choice.partition(":")
        found = losses_of(folder, how, noise, options.seed)
        columns[f"{how}, noise {noise}"] = [
            {
                f"{name}, step {step}": value
                for name in found[STEPS[0]]
                for step in STEPS
                for value in [found[step][name]]
            }
        ]
        print(choice, found, flush=True)
    print_table(columns)


if __name__ == "__main__":
    main()
