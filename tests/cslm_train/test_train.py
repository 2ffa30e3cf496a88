"""A run learns, records what it did, refuses what does not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig, load_config
from cslm_train.metrics import TrainSummary
from cslm_train.model import load_run
from cslm_train.train import run_training

TINY = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "data.pack_length=128"),
    *("trainer.num_steps=12", "validation.every_n_steps=4", "checkpoint.every_n_steps=4"),
    *("optimizer.lr=0.01", "metrics.tensorboard=false"),
]


@pytest.fixture
def config() -> TrainConfig:
    return load_config("smoke", TINY)


def train(workspace: Workspace, config: TrainConfig, **options) -> TrainSummary:
    return run_training(workspace, **{"stage": "pretrain", "config": config, **options})


def rows(run_dir: Path, category: str) -> list[dict]:
    path = run_dir / "metrics" / f"{category}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_learns_and_says_what_it_did(workspace, build_mix, config) -> None:
    build_mix()
    summary = train(workspace, config)
    assert summary.finished
    assert (summary.steps, summary.num_steps) == (12, 12)
    assert summary.last_train_loss < 0.9 * summary.first_train_loss
    assert summary.last_valid_loss < 0.9 * summary.first_valid_loss
    assert [step for step, _ in summary.train_curve] == list(range(1, 13))
    assert [step for step, _ in summary.valid_curve] == [0, 4, 8, 12]
    assert set(summary.group_losses) == {
        *("asr/en", "asr/zh", "mt/en-zh", "mt/zh-en", "tts/en", "tts/zh")
    }
    assert summary.tokens > summary.trained_tokens > 0
    assert summary.tokens_per_second > 0
    assert 0 < summary.pack_fill <= 1
    model = load_run(workspace.runs / "pretrain").model
    assert summary.num_parameters == sum(p.numel() for p in model.parameters())
