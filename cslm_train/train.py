"""mixes/<name> + configuration → runs/<name>: one training run of either stage, exact to resume.

Step 1. Rank 0 checks that mix, tokenizers and initial weights belong together, plans the packs and
        writes `run.json`; a folder that holds another run is refused.
Step 2. fairseq2's trainer is put together from its parts: gangs, model, optimizer, schedule,
        readers, validator, checkpoint manager, recorders.
Step 3. It runs until the last step or a signal. A checkpoint holds everything, the random numbers
        and the reader's position among it, so a killed run goes on with the same losses.
"""

# fairseq2's resolver is asked for abstract classes by design.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from datetime import timedelta
from pathlib import Path

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.checkpoint import NOOP_HG_EXPORTER, CheckpointManager, StandardCheckpointManager
from fairseq2.device import CPU, Device
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.error import OperationalError
from fairseq2.file_system import FileSystem
from fairseq2.gang import FakeGang, Gang, Gangs, ProcessGroupGang, create_parallel_gangs
from fairseq2.io import TensorFileDumper, TensorFileLoader
from fairseq2.metrics import format_as_float
from fairseq2.metrics.recorders import (
    MetricDescriptor,
)
from fairseq2.nn.ddp import to_ddp
from fairseq2.nn.utils.module import to_device
from fairseq2.optim.fp16_loss_scaler import NOOP_FP16_LOSS_SCALER
from fairseq2.profilers import NOOP_PROFILER
from fairseq2.task import TaskStopException
from fairseq2.trainer import Trainer
from fairseq2.utils.device_stat import NOOP_DEVICE_STAT_TRACKER
from fairseq2.utils.gc import NOOP_GARBAGE_COLLECTOR
from fairseq2.utils.rng import RngBag
from fairseq2.utils.stopwatch import Stopwatch
from fairseq2.utils.threading import ThreadPool
from fairseq2.validator import NOOP_VALIDATOR, StandardValidator, Validator
from fairseq2.world_info import WorldInfo
from torch.nn import Module

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.models.family import create_model, start_fairseq2
from cslm_train.packing.plan import PackPlan
from cslm_train.packing.reader import ShardReader
from cslm_train.run_folder import checkpoint_steps
from cslm_train.training.beginning import initial_weights
from cslm_train.training.checkpoints import CommitLater, TensorsOnlyDumper, TensorsOnlyLoader
from cslm_train.training.loss import NLL, LossEvalUnit, LossTrainUnit
from cslm_train.training.metrics import TrainSummary, cut_metrics, read_summary
from cslm_train.training.optim import make_lr_scheduler, make_optimizer
from cslm_train.training.prepare import Prepared, prepare_run, read_prepared
from cslm_train.training.progress import StepProgress
from cslm_train.training.recorders import make_recorder
from cslm_train.training.stopping import Stop, stop_on_signals

log = logging.getLogger(__name__)

_SCORE = MetricDescriptor(NLL, NLL, priority=0, formatter=format_as_float, higher_better=False)
_MESSAGES_TIMEOUT = timedelta(minutes=15)


def run_training(
    workspace: Workspace,
    *,
    stage: str,
    config: TrainConfig,
    mix: str | None = None,
    output_dir: Path | None = None,
    init_from: Path | None = None,
    overwrite: bool = False,
) -> TrainSummary:
    """Train one stage, or go on with it; a finished run is summed up again and left as it is.

    `mix` and the run's folder are named after the stage unless given. Stage `sft` begins with the
    weights of `init_from`, by default those of `runs/pretrain`. Under `torchrun` every process
    calls this. Raises CslmError for what a user can mend.
    """
    run_dir = output_dir.absolute() if output_dir else workspace.runs / stage
    world = start_fairseq2().resolve(WorldInfo)
    _set_threads(config.trainer.num_threads, world.local_size)
    with contextlib.ExitStack() as stack:
        gang = _root_gang(world)
        if gang.rank == 0:
            stack.enter_context(workspace.lock(f"run-{run_dir.name}", f"train {run_dir}"))
            prepare_run(
                workspace,
                run_dir,
                stage=stage,
                config=config,
                mix=mix or stage,
                init_from=init_from,
                overwrite=overwrite,
                num_processes=gang.size,
            )
        gang.barrier()
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
    )


def _set_threads(wanted: int | None, processes_here: int) -> None:
    if wanted is None and "OMP_NUM_THREADS" in os.environ:
        return
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(wanted or max(1, cores // processes_here))


def _root_gang(world: WorldInfo) -> Gang:
    device = start_fairseq2().resolve(Device)
    if world.size == 1:
        return FakeGang(device)
    return ProcessGroupGang.create_default_process_group(device, timeout=_MESSAGES_TIMEOUT)


def _train(prepared: Prepared, gang: Gang, *, resume_step: int | None) -> None:
    info = prepared.info
    gangs = create_parallel_gangs(gang)
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
        trainer = _make_trainer(prepared, gangs, stop, stack, fresh=resume_step is None)
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


def _make_model(prepared: Prepared, gangs: Gangs, *, fresh: bool) -> Module:
    info = prepared.info
    model = create_model(info.config.model, prepared.vocabulary, gangs=gangs)
    if fresh and gangs.root.rank == 0:  # the others get rank 0's
        weights = initial_weights(
            info, prepared.vocabulary, run=prepared.init_from, workspace=prepared.workspace
        )
        if weights is not None:
            model.load_state_dict(weights)
    if gangs.root.size > 1:
        return to_ddp(model, gangs)
    to_device(model, gangs.device)
    return model


def _make_trainer(
    prepared: Prepared, gangs: Gangs, stop: Stop, stack: contextlib.ExitStack, *, fresh: bool
) -> Trainer:
    info, config, run_dir = prepared.info, prepared.info.config, prepared.run_dir
    resolver = start_fairseq2()
    RngBag.from_device_defaults(CPU, gangs.device).manual_seed(config.trainer.seed)
    model = _make_model(prepared, gangs, fresh=fresh)
    optimizer = make_optimizer(model, config.optimizer)
    scheduler = make_lr_scheduler(
        optimizer, config.lr_scheduler, lr=config.optimizer.lr, num_steps=info.num_steps
    )
    file_system = resolver.resolve(FileSystem)
    manager = StandardCheckpointManager(
        run_dir,
        gangs,
        file_system,
        TensorsOnlyLoader(resolver.resolve(TensorFileLoader)),
        TensorsOnlyDumper(resolver.resolve(TensorFileDumper)),
        resolver.resolve(ThreadPool),
    )
    recorder = make_recorder(run_dir, file_system, config, record=gangs.root.rank == 0)
    watch = Stopwatch()
    watch.start()

    def reader(plan: PackPlan, *, seed: int | None, accumulation: int) -> ShardReader:
        made = ShardReader(
            plan,
            prepared.shards_dir,
            prepared.vocabulary,
            groups=prepared.groups,
            seed=seed,
            rank=gangs.dp.rank,
            num_ranks=gangs.dp.size,
            accumulation=accumulation,
            prefetch=config.data.prefetch,
        )
        stack.callback(made.close)
        return made

    bf16 = config.trainer.precision == "bf16"
    progress = StepProgress(f"train {info.stage}", info.num_steps)
    validator: Validator = NOOP_VALIDATOR
    if prepared.valid.num_packs:
        validator = StandardValidator(
            units=[LossEvalUnit(model, prepared.groups)],
            data_readers=[reader(prepared.valid, seed=None, accumulation=1)],
            score_metric_descriptor=_SCORE,
            checkpoint_manager=_as_manager(CommitLater(manager)),
            gangs=gangs,
            amp=bf16,
            amp_dtype=torch.bfloat16,
            hg_exporter=NOOP_HG_EXPORTER,
            metric_recorder=recorder,
            profiler=NOOP_PROFILER,
            device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
            wall_watch=watch,
            progress_reporter=progress,
            seed=config.trainer.seed,
        )
    validated = validator is not NOOP_VALIDATOR
    return Trainer(
        model=model,
        unit=LossTrainUnit(model, prepared.groups, stop),
        data_reader=reader(
            prepared.train,
            seed=config.trainer.seed,
            accumulation=config.trainer.grad_accumulation,
        ),
        gangs=gangs,
        amp=bf16,
        amp_dtype=torch.bfloat16,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        fp16_loss_scaler=NOOP_FP16_LOSS_SCALER,
        validator=validator,
        early_stopper=NOOP_EARLY_STOPPER,
        checkpoint_manager=manager,
        hg_exporter=NOOP_HG_EXPORTER,
        metric_recorder=recorder,
        garbage_collector=NOOP_GARBAGE_COLLECTOR,
        profiler=NOOP_PROFILER,
        device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
        wall_watch=watch,
        progress_reporter=progress,
        seed=config.trainer.seed,
        max_grad_norm=config.trainer.max_grad_norm,
        # No `max_num_steps`: with it fairseq2 ignores requests to stop. `Stop` ends the run.
        validate_at_start=validated,
        validate_every_n_steps=config.validation.every_n_steps if validated else None,
        checkpoint_every_n_steps=config.checkpoint.every_n_steps,
        keep_last_n_checkpoints=config.checkpoint.keep_last,
        keep_best_n_checkpoints=(config.checkpoint.keep_best or None) if validated else None,
        publish_metrics_every_n_steps=config.metrics.every_n_steps,
    )


def _as_manager(manager: object) -> CheckpointManager:
    return manager  # type: ignore[return-value]
