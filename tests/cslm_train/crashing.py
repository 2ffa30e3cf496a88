"""A run that crashes and goes on, against the same run in one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.run_folder import checkpoint_steps, model_file, optimizer_files
from cslm_train.train import run_training
from cslm_train.training import stopping

TINY = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0.1"),
    *("data.pack_length=128", "trainer.num_steps=8", "optimizer.lr=0.01"),
    *("validation.every_n_steps=4", "checkpoint.every_n_steps=4", "checkpoint.keep_last=9"),
    "metrics.tensorboard=false",
]


class Crash(Exception):
    """What ends a run."""


def train(workspace: Workspace, config: TrainConfig, name: str, **options: Any) -> Path:
    """Train runs/<name> to its end."""
    options = {"stage": "pretrain", "output_dir": workspace.runs / name, **options}
    assert run_training(workspace, config=config, **options).finished
    return workspace.runs / name


def saved(run_dir: Path, step: int | None = None) -> dict[str, torch.Tensor]:
    """The weights as they lie in a checkpoint."""
    at = checkpoint_steps(run_dir)[-1] if step is None else step
    weights: dict[str, torch.Tensor] = torch.load(model_file(run_dir, at), weights_only=True)
    return weights


def optimized(run_dir: Path, step: int) -> set[str]:
    """Names of the weights that the optimizer of a checkpoint remembers something of."""
    file = optimizer_files(run_dir, step)[0]
    return {name.rpartition("/")[0] for name in torch.load(file, weights_only=True) if "/" in name}


def assert_a_crash_changes_nothing(
    workspace: Workspace,
    config: TrainConfig,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: int,
    **options: Any,
) -> None:
    """Crash in a step, go on, and compare losses and every weight with those of a whole run."""
    name = f"crashed-{step}"
    check = stopping.Stop.check

    def crash(self: stopping.Stop, at: int) -> None:
        if at == step:
            raise Crash
        check(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(stopping.Stop, "check", crash)
        with pytest.raises(Crash):
            train(workspace, config, name, **options)
    crashed = train(workspace, config, name, **options)
    assert _losses(crashed) == _losses(reference)
    mine, theirs = saved(crashed), saved(reference)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[each], theirs[each]) for each in mine)


def _losses(run_dir: Path) -> list[tuple[Any, ...]]:
    lines = (run_dir / "metrics" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["Step"], row["nll"], row["grad_norm"], row["lr"]) for row in rows]
