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
    """Alone, in groups of shards, in shards with activations computed again, and alone."""
    build_mix()
    run_dir = workspace.runs / "pretrain"
    in_groups = ["parallel.data_parallel=fsdp", "parallel.shard_group_size=2"]
    over_all = ["parallel.data_parallel=fsdp", "parallel.activation_checkpointing=layer"]
    for size, ways, stop_at in ((1, [], 3), (4, in_groups, 4), (2, over_all, 8), (1, [], None)):
        settings = [*SETTINGS, "trainer.precision=bf16", *ways]
        ended = run_world(size, workspace.root, settings, stop_at=stop_at)
        assert [rank.code for rank in ended] == [0] * size, ended
    # 11 packs, twice: 3 alone, 4 in one step, 8 in four steps of two, the other 7 alone.
    curve = rows(run_dir)
    assert [row["Step"] for row in curve] == list(range(1, 16))
    notes = sorted(trained(workspace.root, "pretrain"), key=lambda note: note["step"])
    assert [sum(n["step"] == step for n in notes) for step in range(1, 16)] == [
        *(1, 1, 1, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1)
    ]
    assert set(Counter(note["pack_id"] for note in notes).values()) == {2}
    assert len({note["pack_id"] for note in notes[:11]}) == 11
    assert_batches_say_what_was_trained(workspace, "pretrain")
    # Warm-up and decay follow the packs: a quarter of 22, in steps of 1, 4 and 2.
    rates = [row["lr"] for row in curve]
    assert rates.index(max(rates)) == 4
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] < 0.0015
    assert curve[-1]["total_num_examples"] == sum(len(note["keys"]) for note in notes) == 80


def test_a_killed_rank_ends_the_others_with_one_line_and_the_next_start_goes_on(
    workspace, build_mix
) -> None:
    """In shards, adapters and dropout too: on as many processes as before to the last bit."""
    build_mix()
    settings = [*SETTINGS[:-2], "model.dropout=0.1", "parallel.data_parallel=fsdp"]
    settings += ["validation.every_n_steps=2", "checkpoint.every_n_steps=2"]
    settings += ["trainer.num_epochs=1", "lora.rank=2"]
    ended = run_world(2, workspace.root, settings, run="reference")
    assert [rank.code for rank in ended] == [0, 0], ended
    survivor, killed = run_world(2, workspace.root, settings, run="killed", kill=(1, 6))
    assert killed.code == -9
    assert survivor.code == 2
    *_, line = survivor.said.splitlines()
    assert "Traceback" not in survivor.said
    assert "another of the 2 processes is gone or does not answer" in line
    assert "goes on after step 4" in line
    ended = run_world(2, workspace.root, settings, run="killed")
    assert [rank.code for rank in ended] == [0, 0], ended
    run_dir, reference = workspace.runs / "killed", workspace.runs / "reference"
    for category in ("train", "valid"):
        assert outcome(run_dir, category) == outcome(reference, category)
    mine, theirs = weights(run_dir), weights(reference)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert load_run(run_dir).step == 6


def outcome(run_dir: Path, category: str) -> list[dict[str, Any]]:
    """Rows without their clocks."""
    clocks = ("time", "Time", "per_second")
    return [
        {name: value for name, value in row.items() if not name.endswith(clocks)}
        for row in rows(run_dir, category)
    ]


def test_an_error_of_the_first_process_ends_all_and_is_told_once(workspace, build_mix) -> None:
    build_mix()
    first, second = run_world(2, workspace.root, [*SETTINGS, "trainer.packs_per_step=5"])
    assert (first.code, second.code) == (2, 2)
    assert "2 processes cannot share 5 packs equally; start 1, 5 processes" in first.said
    assert "packs" not in second.said
    assert not checkpoint_steps(workspace.runs / "pretrain")
