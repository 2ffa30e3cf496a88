"""The SLURM script, run with an `srun` that starts two processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from cslm_train.config_files import load_config
from cslm_train.run_folder import checkpoint_steps
from cslm_train.train import run_training
from cslm_train.training import stopping

SRUN = """\
import os, signal, subprocess, sys, time
assert sys.argv[1] == "--kill-on-bad-exit=1"
world = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1"}
tasks = [
    subprocess.Popen(
        sys.argv[2:], env={**os.environ, **world, "SLURM_PROCID": n, "SLURM_LOCALID": n}
    )
    for n in "01"
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
while any(task.poll() is None for task in tasks):
    if any(task.poll() for task in tasks):
        [task.kill() for task in tasks if task.poll() is None]
    time.sleep(0.02)
sys.exit(max(task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks))
"""
SCONTROL = """\
import os, sys
if sys.argv[1] == "requeue":
    open(os.environ["QUEUE"], "a").write(sys.argv[2] + chr(10))
else:
    print("127.0.0.1")
    print("node-2")
"""
STUB = """\
#!/bin/bash
echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*" >> "$SEEN"
case "$PLAY" in
    die) [ "$RANK" = 1 ] && exit 3; exec sleep 60 ;;
    wait) trap 'exit 0' USR1; echo >> "$SEEN.ready"; while :; do sleep 0.05; done ;;
esac
"""
PLAIN = [
    *("model.model_dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1"),
    *("model.ffn_inner_dim=64", "model.max_seq_len=128", "data.pack_length=64"),
    *("trainer.packs_per_step=2", "trainer.num_steps=2000", "checkpoint.every_n_steps=2000"),
    *("checkpoint.keep_best=0", "validation.every_n_steps=2000", "metrics.tensorboard=false"),
]

Job = Callable[..., "subprocess.Popen[str]"]


def executable(path: Path, code: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Job]:
    """Start the script as a job of two processes; `cslm-train` is what a file `cslm-train` says."""
    bin_dir = tmp_path / "bin"
    for name, code in (("srun", SRUN), ("scontrol", SCONTROL)):
        executable(bin_dir / name, f"#!{sys.executable}\n{code}")
    script = resources.files("cslm_manifests").joinpath("launch/slurm.sh")

    def submit(*arguments: str, command: str, **variables: str) -> subprocess.Popen[str]:
        executable(bin_dir / "cslm-train", command)
        environment = {
            **os.environ,
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "41234",
            "SLURM_JOB_NODELIST": "node-[1-2]",
            "SEEN": str(tmp_path / "seen"),
            "QUEUE": str(tmp_path / "queue"),
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        job = subprocess.Popen(
            ["bash", str(script), *arguments],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        jobs.append(job)
        return job

    jobs: list[subprocess.Popen[str]] = []
    yield submit
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)  # what a failed test has left
        job.communicate()


def wait_for(there: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_process_learns_its_place_and_the_arguments(submit, tmp_path) -> None:
    job = submit("--stage", "sft", "--set", "a b=c", command=STUB)
    output, errors = job.communicate()
    assert (job.returncode, output, errors) == (0, "", "")
    assert sorted((tmp_path / "seen").read_text(encoding="utf-8").splitlines()) == [
        f"{rank} 2 {rank} 2 127.0.0.1 21234 run --stage sft --set a b=c" for rank in range(2)
    ]
    assert not (tmp_path / "queue").exists()


def test_a_process_that_fails_ends_the_job_with_its_code_and_it_does_not_go_on(
    submit, tmp_path
) -> None:
    job = submit(command=STUB, PLAY="die")
    job.communicate(timeout=30)
    assert job.returncode in (3, 128 + signal.SIGKILL)  # the highest of all, as srun has it
    assert not (tmp_path / "queue").exists()


def test_shortly_before_its_time_is_over_the_job_is_queued_again(submit, tmp_path) -> None:
    job = submit(command=STUB, PLAY="wait")
    ready = tmp_path / "seen.ready"
    wait_for(lambda: ready.exists() and len(ready.read_bytes()) == 2, job)
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=30)
    assert job.returncode == 0
    assert (tmp_path / "queue").read_text(encoding="utf-8") == "41234\n"


@pytest.mark.slow
def test_a_job_of_two_processes_saves_before_its_time_is_over_and_goes_on_as_one(
    submit, workspace, build_mix, tmp_path, monkeypatch
) -> None:
    build_mix()
    settings = [part for setting in PLAIN for part in ("--set", setting)]
    where = ["--workspace", str(workspace.root), "--stage", "pretrain", "--json"]
    command = f'#!/bin/bash\nexec {sys.executable} -m cslm_cli.train "$@"\n'
    job = submit(*where, *settings, command=command)
    run_dir = workspace.runs / "pretrain"
    record = run_dir / "metrics" / "train.jsonl"
    wait_for(lambda: record.exists() and record.read_text(encoding="utf-8").count("\n") > 2, job)
    job.send_signal(signal.SIGUSR1)
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert errors.count("SIGUSR1: saving a checkpoint and stopping") == 1
    (step,) = checkpoint_steps(run_dir)
    (summary,) = json.loads(output)  # printed by one of them
    assert (summary["steps"], summary["finished"]) == (step, False)
    assert (tmp_path / "queue").read_text(encoding="utf-8") == "41234\n"

    check = stopping.Stop.check

    def two_more(self: stopping.Stop, at: int) -> None:
        self.wanted = at == step + 2
        check(self, at)

    monkeypatch.setattr(stopping.Stop, "check", two_more)
    run_training(workspace, stage="pretrain", config=load_config("smoke", PLAIN))
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert [row["Step"] for row in rows] == list(range(1, step + 3))
