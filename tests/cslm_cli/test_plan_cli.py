"""`cslm-train plan` as a user runs it: fast, without torch, and its mistakes in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PAPER = ["plan", "--stage", "pretrain", "--config", "paper", "--shape", "llama-3.1-8b"]
PAPER += ["--tokens", "8.6e9", "--gpus", "8", "--nodes", "3", "--gpu", "h800"]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["fairseq2"] = None  # whoever imports them fails
from cslm_cli.train import main
main()
"""


def run(
    *arguments: str, workspace: Path, program: str = WITHOUT_TORCH
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CSLM_WORKSPACE": str(workspace), "COLUMNS": "200"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_the_papers_run_is_planned_without_a_file_and_without_torch(tmp_path: Path) -> None:
    done = run(*PAPER, workspace=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("72 = 24 GPUs × 3", "it fits as configured", "GPU-hours", "8,063,897,600"):
        assert words in done.stdout
    (planned,) = json.loads(run(*PAPER, "--json", workspace=tmp_path).stdout)
    assert planned["steps"]["packs_per_step"] == 72
    assert planned["parameters"]["total"] == 8_063_897_600
    assert planned["memory"]["total"] < planned["gpu"]["memory_bytes"]
    assert not any(tmp_path.iterdir())


def test_a_mistake_is_a_message(tmp_path: Path) -> None:
    for arguments, message in (
        (["--tokens", "1e6"], "--tokens is of one stage: name it with --stage"),
        (["--stage", "sft"], "no finished mix here; run: cslm-data build-mix"),
    ):
        done = run("plan", *arguments, workspace=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
