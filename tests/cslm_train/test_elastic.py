"""A run goes on with any number of processes, by DDP or FSDP2: each pack once, the same losses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from worlds import run_world, trained

from cslm_data.workspace import Workspace
from cslm_train.config_files import load_config
from cslm_train.models.loading import load_run, read_weights
from cslm_train.run_folder import RunInfo, checkpoint_steps, model_files
from cslm_train.train import run_training

SETTINGS = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0", "data.pack_length=64"),
    *("trainer.num_steps=null", "trainer.num_epochs=2", "metrics.tensorboard=false"),
    *("validation.every_n_steps=4", "checkpoint.every_n_steps=4"),
    *("lr_scheduler.warmup_ratio=0.25", "optimizer.lr=0.01"),
]


def rows(run_dir: Path, category: str = "train") -> list[dict[str, Any]]:
    path = run_dir / "metrics" / f"{category}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(run_dir, checkpoint_steps(run_dir)[-1])


def assert_batches_say_what_was_trained(workspace: Workspace, run: str) -> None:
    notes = trained(workspace.root, run)
    said = duckdb.sql(
        f"select step, rank, pack_id, list(key order by key) from "
        f"'{workspace.runs / run}/batches-*.parquet' group by step, rank, micro_batch, pack_id"
    ).fetchall()
    done = [(n["step"], n["rank"], n["pack_id"], sorted(n["keys"])) for n in notes]
    assert sorted(said) == sorted(done)


def test_one_two_three_and_one_process_learn_what_one_does(workspace, build_mix) -> None:
    """With a number of packs a step that all of them share; by DDP, and in shards."""
    build_mix()
    settings = [*SETTINGS, "trainer.packs_per_step=6"]
    config, reference = load_config("smoke", settings), workspace.runs / "reference"
    run_training(workspace, stage="pretrain", config=config, output_dir=reference)
    for how in ("ddp", "fsdp"):
        run_dir = workspace.runs / how
        for size, stop_at in ((1, 1), (2, 2), (3, 3), (1, None)):
            ways = [*settings, f"parallel.data_parallel={how}"]
            ended = run_world(size, workspace.root, ways, run=how, stop_at=stop_at)
            assert [rank.code for rank in ended] == [0] * size, ended
            assert checkpoint_steps(run_dir)[-1] == (stop_at or 4)
            shards = model_files(run_dir, stop_at or 4)
            assert len(shards) == (size if how == "fsdp" else 1)
        for mine, theirs in zip(rows(run_dir), rows(reference), strict=True):
            assert mine["Step"] == theirs["Step"]
            assert mine["nll"] == pytest.approx(theirs["nll"], rel=1e-5)
            assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
            assert mine["lr"] == theirs["lr"]
            assert mine["total_num_targets"] == theirs["total_num_targets"]
        assert rows(run_dir, "valid")[-1]["nll"] == pytest.approx(
            rows(reference, "valid")[-1]["nll"], rel=1e-5
        )
        assert RunInfo.load(run_dir).num_steps == 4
        assert_batches_say_what_was_trained(workspace, how)


def test_without_it_each_pack_is_still_read_once_in_each_epoch(workspace, build_mix) -> None:
    build_mix()
    run_dir = workspace.runs / "pretrain"
    ways = ((1, "ddp", 3), (3, "fsdp", 5), (2, "ddp", 7), (2, "fsdp", 9), (1, "ddp", None))
    for size, how, stop_at in ways:
        settings = [*SETTINGS, f"parallel.data_parallel={how}"]
        ended = run_world(size, workspace.root, settings, stop_at=stop_at)
        assert [rank.code for rank in ended] == [0] * size, ended
    num_packs = 11
    read = [
        note["pack_id"]
        for note in sorted(trained(workspace.root, "pretrain"), key=lambda n: n["step"])
    ]
    print(Counter(read), [(r["Step"], r["lr"]) for r in rows(run_dir)], RunInfo.load(run_dir))
    assert_batches_say_what_was_trained(workspace, "pretrain")
    assert 0
