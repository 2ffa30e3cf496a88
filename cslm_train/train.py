"""mixes/<name> + configuration → runs/<name>: one training run of either stage, exact to resume.

Step 1. Rank 0 checks that mix, tokenizers and initial weights belong together, plans the packs and
        writes `run.json`; a folder that holds another run is refused.
Step 2. fairseq2's trainer is put together from its parts: gangs, model, optimizer, schedule,
        readers, validator, checkpoint manager, recorders.
Step 3. It runs until the last step or a signal. A checkpoint holds everything, the random numbers
        and the reader's position among it, so a killed run goes on with the same losses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.device import Device
from fairseq2.error import OperationalError
from fairseq2.gang import Gang
from fairseq2.task import TaskStopException
from fairseq2.world_info import WorldInfo

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.models.family import start_fairseq2
from cslm_train.run_folder import checkpoint_steps
from cslm_train.training.assembly import make_trainer
from cslm_train.training.metrics import TrainSummary, cut_metrics, read_summary
from cslm_train.training.parallel import make_gangs, root_gang
from cslm_train.training.prepare import Prepared, prepare_run, read_prepared
from cslm_train.training.stopping import Stop, stop_on_signals
from cslm_train.training.together import among_others, first_alone

log = logging.getLogger(__name__)


def run_training(
    workspace: Workspace,
    *,
    stage: str,
    config: TrainConfig,
    mix: str | None = None,
    output_dir: Path | None = None,
    init_from: Path | None = None,
    init_checkpoint: str = "last",
    overwrite: bool = False,
) -> TrainSummary:
    """Train one stage, or go on with it; a finished run is summed up again and left as it is.

    `mix` and the run's folder are named after the stage unless given. Stage `sft` begins with the
    weights of `init_from`, by default those of `runs/pretrain`, at the checkpoint `last`, `best` or
    of a step. Under `torchrun` every process calls this. Raises CslmError for what a user can mend.
    """
    run_dir = output_dir.absolute() if output_dir else workspace.runs / stage
    world = start_fairseq2().resolve(WorldInfo)
    _set_threads(config.trainer.num_threads, world.local_size)
    device = start_fairseq2().resolve(Device)
    with contextlib.ExitStack() as stack:
        gang = root_gang(world, device, timeout_minutes=config.parallel.timeout_minutes)
        stack.enter_context(among_others(gang, run_dir))
        if gang.rank > 0:  # what the first says is enough
            logging.getLogger("cslm_train").setLevel(logging.ERROR)

        def prepare() -> None:
            stack.enter_context(workspace.lock(f"run-{run_dir.name}", f"train {run_dir}"))
            prepare_run(
                workspace,
                run_dir,
                stage=stage,
                config=config,
                mix=mix or stage,
                init_from=init_from,
                init_checkpoint=init_checkpoint,
                overwrite=overwrite,
                num_processes=gang.size,
            )

        first_alone(gang, prepare)
        prepared = read_prepared(workspace, run_dir, init_from)
        steps = checkpoint_steps(run_dir)
        if steps and steps[-1] >= prepared.info.num_steps:
            log.info("%s is finished: %s steps", run_dir, steps[-1])
            gang.close()
        else:
            _train(prepared, gang, resume_step=steps[-1] if steps else None)
    return _summary(prepared)


def _summary(prepared: Prepared) -> TrainSummary:
    return read_summary(
        prepared.run_dir,
        num_packs=prepared.train.num_packs,
        pack_fill=prepared.train.fill,
        num_skipped=prepared.train.num_skipped,
        num_split=prepared.train.num_split,
    )


def _set_threads(wanted: int | None, processes_here: int) -> None:
    if wanted is None and "OMP_NUM_THREADS" in os.environ:
        return
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(wanted or max(1, cores // processes_here))


def _train(prepared: Prepared, gang: Gang, *, resume_step: int | None) -> None:
    info = prepared.info
    gangs = make_gangs(gang, info.config.parallel)
    if gang.rank == 0:
        cut_metrics(prepared.run_dir, resume_step)
        for unfinished in (prepared.run_dir / "checkpoints").glob("step_*.tmp"):
            shutil.rmtree(unfinished)
    if resume_step is None:
        log.info("%s: %s steps", prepared.run_dir, info.num_steps)
    else:
        log.info("%s: going on after step %s of %s", prepared.run_dir, resume_step, info.num_steps)
    stop = Stop(info.num_steps, gang)
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(prepared, gangs, stop, stack, resume_step=resume_step)
        stop.request = trainer.request_stop
        stack.callback(trainer.close)
        stack.enter_context(stop_on_signals(stop))
        try:
            trainer.run()
        except TaskStopException:
            pass  # how fairseq2 says that `stop` ended it
        except OperationalError as error:
            if isinstance(error.__cause__, OSError):  # a full disk, say: shown as what it is
                raise error.__cause__ from None
            raise
    if trainer.step_nr < info.num_steps:
        log.warning(
            "stopped after step %s of %s; the same command goes on", trainer.step_nr, info.num_steps
        )
