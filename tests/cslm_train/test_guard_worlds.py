"""Every process skips the same steps as one process alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_resume import SETTINGS, outcome, train
from worlds import run_world

from cslm_train.config_files import load_config


def skipped(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "skipped.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{**row, "keys": sorted(row["keys"])} for row in rows]


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_skip_the_steps_that_one_does(workspace, build_mix, how: str) -> None:
    """A limit so low that ordinary gradients are above it: each process reads one of two packs."""
    build_mix()
    settings = [
        *SETTINGS,
        "model.dropout=0",
        "trainer.num_steps=8",
        "guard.spike_factor=1.02",
        "guard.spike_window=2",
    ]
    reference = train(workspace, load_config("smoke", settings), "reference").run_dir
    ways = [*settings, "trainer.grad_accumulation=1", f"parallel.data_parallel={how}"]
    ended = run_world(2, workspace.root, ways)
    assert [rank.code for rank in ended] == [0, 0], ended
    one, two = skipped(reference), skipped(workspace.runs / "pretrain")
    assert 2 <= len(one) < 7
    assert [(row["step"], row["keys"]) for row in two] == [
        (row["step"], row["keys"]) for row in one
    ]
    for name in ("loss", "grad_norm", "limit"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=1e-4)
    losses = [
        {
            row["Step"]: row["nll"]
            for row in outcome(folder)["train"]
            if not row["num_skipped_steps"]
        }
        for folder in (workspace.runs / "pretrain", reference)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
