"""Whatever ends a run, the same command goes on to the result of a run in one go."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec.implementations.local
import pytest
import torch
from worlds import run_world

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.config_files import load_config
from cslm_train.models.loading import read_weights
from cslm_train.run_folder import checkpoint_steps
from cslm_train.train import run_training
from cslm_train.training import stopping
from cslm_train.training.metrics import TrainSummary

SETTINGS = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "model.dropout=0.1"),
    *("data.pack_length=128", "trainer.grad_accumulation=2", "trainer.num_steps=12"),
    *("validation.every_n_steps=4", "checkpoint.every_n_steps=4", "metrics.tensorboard=false"),
]

CHILD = """
import os, signal, sys
from pathlib import Path
from cslm_data.workspace import Workspace
from cslm_train.training import stopping
from cslm_train.config_files import load_config
from cslm_train.train import run_training

root, number, *settings = sys.argv[1:]
check = stopping.Stop.check
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
stopping.Stop.check = lambda self, step: kill() if step == int(number) else check(self, step)
run_training(Workspace(Path(root)), stage="pretrain", config=load_config("smoke", settings))
"""


@pytest.fixture
def config() -> TrainConfig:
    return load_config("smoke", SETTINGS)


def train(workspace: Workspace, config: TrainConfig, name: str = "pretrain") -> TrainSummary:
    return run_training(
        workspace, stage="pretrain", config=config, output_dir=workspace.runs / name
    )


def outcome(run_dir: Path) -> dict[str, Any]:
    """Everything of a run but its clocks."""
    rows = {}
    for category in ("train", "valid"):
        lines = (run_dir / "metrics" / f"{category}.jsonl").read_text(encoding="utf-8")
        rows[category] = [
            {
                name: value
                for name, value in json.loads(line).items()
                if not name.endswith(("time", "Time", "per_second"))
            }
            for line in lines.splitlines()
        ]
    return rows


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return read_weights(run_dir, checkpoint_steps(run_dir)[-1])


def assert_same(run_dir: Path, reference: Path) -> None:
    assert outcome(run_dir) == outcome(reference)
    assert [row["Step"] for row in outcome(run_dir)["train"]] == list(range(1, 13))
    mine, theirs = weights(run_dir), weights(reference)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for path in reference.glob("*.parquet"):
        assert (run_dir / path.name).read_bytes() == path.read_bytes()


class Crash(Exception):
    pass


@pytest.mark.parametrize("step", [1, 4, 5, 8, 12])
def test_a_crash_at_any_step_changes_nothing(
    workspace, build_mix, config, monkeypatch, step: int
) -> None:
    build_mix()
    train(workspace, config, "reference")
    check = stopping.Stop.check

    def crash(self: stopping.Stop, at: int) -> None:
        if at == step:
            raise Crash
        check(self, at)

    monkeypatch.setattr(stopping.Stop, "check", crash)
    with pytest.raises(Crash):
        train(workspace, config)
    monkeypatch.undo()
    assert train(workspace, config).finished
    assert_same(workspace.runs / "pretrain", workspace.runs / "reference")


def test_killing_a_run_again_and_again_changes_nothing(workspace, build_mix) -> None:
    build_mix()
    (ended,) = run_world(1, workspace.root, SETTINGS, run="reference")
    assert ended.code == 0, ended.said
    # In the validation of step 4; at step 7; while saving step 12, in its sixth file since step 4;
    # in the validation of step 12, when all else is done.
    deaths: list[dict[str, Any]] = [
        {"kill_in": ("valid", 2)},
        {"kill": (0, 7)},
        {"kill_in": ("save", 6)},
        {"kill_in": ("valid", 1)},
    ]
    for death in deaths:
        (ended,) = run_world(1, workspace.root, SETTINGS, **death)
        assert ended.code == -signal.SIGKILL, ended.said
    (ended,) = run_world(1, workspace.root, SETTINGS)
    assert ended.code == 0, ended.said
    assert_same(workspace.runs / "pretrain", workspace.runs / "reference")


def test_a_signal_saves_a_checkpoint_and_the_same_command_goes_on(
    workspace, build_mix, config, monkeypatch, caplog
) -> None:
    build_mix()
    train(workspace, config, "reference")
    check = stopping.Stop.check

    def interrupt(self: stopping.Stop, step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        check(self, step)

    monkeypatch.setattr(stopping.Stop, "check", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    stopped = train(workspace, config)
    assert signal.getsignal(signal.SIGTERM) == before
    assert not stopped.finished
    assert stopped.steps in (6, 7)
    assert "the same command goes on" in caplog.text
    assert checkpoint_steps(workspace.runs / "pretrain")[-1] == stopped.steps
    monkeypatch.undo()
    assert train(workspace, config).finished
    run_dir, reference = workspace.runs / "pretrain", workspace.runs / "reference"
    extra = [row for row in outcome(run_dir)["valid"] if row["Step"] != stopped.steps]
    assert extra == outcome(reference)["valid"]
    assert outcome(run_dir)["train"] == outcome(reference)["train"]
    mine, theirs = weights(run_dir), weights(reference)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


class _FullDisk(io.RawIOBase):
    """A file on a disk without room."""

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_called_one_and_the_same_command_goes_on(
    workspace, build_mix, config, monkeypatch
) -> None:
    build_mix()
    train(workspace, config, "reference")
    open_file = fsspec.implementations.local.LocalFileSystem.open

    def full(self, path: object, mode: str = "rb", **options: object) -> object:
        if mode == "wb" and "step_8.tmp/optimizer" in str(path):
            return _FullDisk()
        return open_file(self, path, mode, **options)

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "open", full)
    with pytest.raises(OSError, match="No space left on device"):
        train(workspace, config)
    monkeypatch.undo()
    assert checkpoint_steps(workspace.runs / "pretrain") == [4]
    assert train(workspace, config).finished
    assert_same(workspace.runs / "pretrain", workspace.runs / "reference")
    assert not list((workspace.runs / "pretrain" / "checkpoints").glob("*.tmp"))


def test_a_finished_run_is_left_as_it_is(workspace, build_mix, config, caplog) -> None:
    build_mix()
    first = train(workspace, config)
    files = {p: p.stat().st_mtime_ns for p in first.run_dir.rglob("*.pt")}
    with caplog.at_level("INFO"):
        second = train(workspace, config)
    assert second == first
    assert "is finished: 12 steps" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in first.run_dir.rglob("*.pt")} == files


@pytest.mark.slow
def test_torchrun_ends_when_a_process_is_killed_and_goes_on_through_both_stages(
    workspace, build_mix
) -> None:
    """Both processes are killed in step 7; test_elastic.py compares what they learn."""
    build_mix()
    build_mix("sft")
    script = workspace.root / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    packs = [*SETTINGS, "trainer.packs_per_step=2"]

    def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            + ["--nproc-per-node", "2", *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    child = torchrun(str(script), str(workspace.root), "7", *packs)
    assert child.returncode != 0, child.stderr
    assert checkpoint_steps(workspace.runs / "pretrain") == [4]
    settings = [part for setting in packs for part in ("--set", setting)]
    where = ["--workspace", str(workspace.root), "--json"]
    child = torchrun("-m", "cslm_cli.train", "run", *where, *settings)
    assert child.returncode == 0, child.stderr
    assert [each["finished"] for each in json.loads(child.stdout)] == [True, True]
    for stage in ("pretrain", "sft"):
        assert [row["Step"] for row in outcome(workspace.runs / stage)["train"]] == list(
            range(1, 13)
        )
