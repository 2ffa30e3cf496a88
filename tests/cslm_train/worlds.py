"""Real processes that train one run together, as torchrun starts them, but without its imports.

A fork server imports fairseq2 once; each rank is forked from it and finds the others by the
environment variables that torchrun sets.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import multiprocessing
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ended:
    """How a rank ended."""

    code: int
    """Exit code, negative for a signal."""
    said: str
    """What it wrote to stderr."""


def run_world(
    size: int,
    root: Path,
    settings: Sequence[str],
    *,
    run: str = "pretrain",
    stop_at: int | None = None,
    kill: tuple[int, int] | None = None,
    kill_in: tuple[str, int] | None = None,
) -> list[Ended]:
    """Start `size` processes on a run of stage pretrain; wait until they have ended.

    `stop_at`: after that step a signal asks rank 0 to stop. `kill`: a rank, and the step that
    kills it. `kill_in`: `valid` or `save`, and which validation or file of a checkpoint kills all.
    """
    _CONTEXT.set_forkserver_preload(["cslm_train.train"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = []
    start = len(list(root.glob(f"trained-{run}-*-0.jsonl")))
    for rank in range(size):
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        work = (environment, root, list(settings), run, start, stop_at, kill, kill_in)
        ranks.append(_CONTEXT.Process(target=_rank, args=work))
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(_PATIENCE_S)
        if process.exitcode is None:
            process.kill()
            process.join()
    said = [root / f"stderr-{rank}.txt" for rank in range(size)]
    return [
        Ended(process.exitcode or 0, path.read_text(encoding="utf-8"))
        for process, path in zip(ranks, said, strict=True)
    ]


def trained(root: Path, run: str) -> list[dict[str, Any]]:
    """Every pack that was trained, as the ranks noted it, but steps that were taken again."""
    notes = [
        {"start": int(path.stem.split("-")[2]), **json.loads(line)}
        for path in sorted(root.glob(f"trained-{run}-*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    last = {note["step"]: note["start"] for note in sorted(notes, key=lambda n: n["start"])}
    return [note for note in notes if note["start"] == last[note["step"]]]


def _rank(
    environment: dict[str, str],
    root: Path,
    settings: list[str],
    run: str,
    start: int,
    stop_at: int | None,
    kill: tuple[int, int] | None,
    kill_in: tuple[str, int] | None,
) -> None:
    os.environ.update(environment)
    rank = int(environment["RANK"])
    stderr = (root / f"stderr-{rank}.txt").open("w", encoding="utf-8")
    os.dup2(stderr.fileno(), 2)
    sys.stderr = stderr
    faulthandler.enable(stderr)
    warnings.simplefilter("ignore")
    if kill_in is not None:
        _die_in(*kill_in)
    os._exit(_train(rank, root, settings, run, start, stop_at, kill))


def _die_in(where: str, number: int) -> None:
    """Kill this process in the validation, or the file of a checkpoint, of that number."""
    from cslm_train.training import checkpoints, loss

    owner: Any
    owner, name = {
        "valid": (loss.LossEvalUnit, "process_metric_values"),
        "save": (checkpoints.TensorsOnlyDumper, "dump"),
    }[where]
    original, calls = getattr(owner, name), itertools.count(1)

    def counted(*arguments: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(owner, name, counted)


def _train(
    rank: int,
    root: Path,
    settings: list[str],
    run: str,
    start: int,
    stop_at: int | None,
    kill: tuple[int, int] | None,
) -> int:
    from cslm_data.errors import CslmError
    from cslm_data.workspace import Workspace
    from cslm_train.config_files import load_config
    from cslm_train.train import run_training
    from cslm_train.training import loss, stopping

    check, process = stopping.Stop.check, loss.LossTrainUnit.process_batch
    step_now = 0
    notes = (root / f"trained-{run}-{start}-{rank}.jsonl").open("w", encoding="utf-8")

    def watched(self: stopping.Stop, step: int) -> None:
        nonlocal step_now
        step_now = step
        if kill == (rank, step):
            os.kill(os.getpid(), signal.SIGKILL)
        if stop_at == step and rank == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        check(self, step)

    def noted(self: loss.LossTrainUnit, batch: Any, bag: Any) -> Any:
        note = {"step": step_now, "rank": rank, "pack_id": batch.pack_id, "keys": batch.keys}
        notes.write(json.dumps(note) + "\n")
        notes.flush()
        return process(self, batch, bag)

    stopping.Stop.check = watched
    loss.LossTrainUnit.process_batch = noted
    try:
        config = load_config("smoke", settings)
        workspace = Workspace(root)
        run_training(workspace, stage="pretrain", config=config, output_dir=workspace.runs / run)
    except CslmError as error:
        print(f"error: {error.rank}: {error}", file=sys.stderr, flush=True)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
