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
from pathlib import Path

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.checkpoint import NOOP_HG_EXPORTER, CheckpointManager, StandardCheckpointManager
from fairseq2.device import CPU, CudaContext, Device
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.error import OperationalError
from fairseq2.file_system import FileSystem
from fairseq2.gang import Gang, Gangs
from fairseq2.io import TensorFileDumper, TensorFileLoader
from fairseq2.metrics import format_as_float
from fairseq2.metrics.recorders import NOOP_METRIC_DESCRIPTOR, MetricDescriptor
from fairseq2.optim.fp16_loss_scaler import NOOP_FP16_LOSS_SCALER
from fairseq2.profilers import NOOP_PROFILER
from fairseq2.task import TaskStopException
from fairseq2.trainer import Trainer
from fairseq2.utils.device_stat import NOOP_DEVICE_STAT_TRACKER, CudaDeviceStatTracker
from fairseq2.utils.gc import NOOP_GARBAGE_COLLECTOR
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER
from fairseq2.utils.rng import RngBag
from fairseq2.utils.stopwatch import Stopwatch
from fairseq2.utils.threading import ThreadPool
from fairseq2.validator import NOOP_VALIDATOR, StandardValidator, Validator
from fairseq2.world_info import WorldInfo
from torch.nn import Module

from cslm_data.workspace import Workspace
from cslm_train.config import TrainConfig
from cslm_train.models.family import create_model, start_fairseq2
from cslm_train.models.lora import apply_lora
from cslm_train.packing.plan import PackPlan
from cslm_train.packing.reader import ShardReader
from cslm_train.packing.stretches import moved_to, schedule_place
from cslm_train.run_folder import checkpoint_steps
from cslm_train.training.beginning import initial_weights
from cslm_train.training.checkpoints import CommitLater, TensorsOnlyDumper, TensorsOnlyLoader
from cslm_train.training.elastic import ElasticCheckpoints
from cslm_train.training.forgetting import ForgettingWatch, HeldOutText, held_out_text
from cslm_train.training.freezing import Freezing, freeze_for_good
from cslm_train.training.guard import make_guard, watch_gradients
from cslm_train.training.loss import NLL, LossEvalUnit, LossTrainUnit
from cslm_train.training.metrics import TrainSummary, cut_metrics, read_summary
from cslm_train.training.optim import make_lr_scheduler, make_optimizer
from cslm_train.training.parallel import (
    WithoutGradients,
    is_sharded,
    make_gangs,
    make_room,
    root_gang,
    share_model,
    uses_autocast,
)
from cslm_train.training.prepare import Prepared, prepare_run, read_prepared
from cslm_train.training.progress import StepProgress
from cslm_train.training.recorders import make_pace, make_recorder
from cslm_train.training.stopping import Stop, stop_on_signals
from cslm_train.training.together import among_others, first_alone

log = logging.getLogger(__name__)

_SCORE = MetricDescriptor(NLL, NLL, priority=0, formatter=format_as_float, higher_better=False)


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
        trainer = _make_trainer(prepared, gangs, stop, stack, resume_step=resume_step)
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
    info, first = prepared.info, gangs.root.rank == 0  # the others get the weights of the first
    weights = None
    if fresh and first:
        weights = initial_weights(
            info, prepared.vocabulary, run=prepared.init_from, workspace=prepared.workspace
        )
    drawn = fresh and first and weights is None
    if drawn and info.config.lora.rank:
        log.warning("lora.rank: adapters beside random weights; give model.base or --init-from")
    model = create_model(info.config.model, prepared.vocabulary, meta=not drawn)
    if first and not drawn:
        make_room(model)
    if weights is not None:
        model.load_state_dict(weights)
    apply_lora(model, info.config.lora)
    freeze_for_good(model, info.config.freeze)
    precision = info.config.trainer.precision
    return share_model(model, gangs, info.config.parallel, precision=precision)


def _make_trainer(
    prepared: Prepared,
    gangs: Gangs,
    stop: Stop,
    stack: contextlib.ExitStack,
    *,
    resume_step: int | None,
) -> Trainer:
    info, config, run_dir = prepared.info, prepared.info.config, prepared.run_dir
    resolver = start_fairseq2()
    RngBag.from_device_defaults(CPU, gangs.device).manual_seed(config.trainer.seed)
    model = _make_model(prepared, gangs, fresh=resume_step is None)
    freezing = Freezing(model, config, num_text=info.num_text)
    freezing.watch(model)
    optimizer = make_optimizer(model, config.optimizer, held_rows=freezing.held_rows)
    place = schedule_place(info.stretches, info.num_steps)
    scheduler = make_lr_scheduler(optimizer, config.lr_scheduler, num_steps=place.num_steps)
    file_system = resolver.resolve(FileSystem)
    manager = ElasticCheckpoints(
        StandardCheckpointManager(
            run_dir,
            gangs,
            file_system,
            TensorsOnlyLoader(resolver.resolve(TensorFileLoader)),
            TensorsOnlyDumper(resolver.resolve(TensorFileDumper)),
            resolver.resolve(ThreadPool),
        ),
        run_dir,
        gangs,
        model,
        optimizer,
        scheduler,
        seed=config.trainer.seed,
        schedule_step=None if resume_step is None else moved_to(info.stretches, resume_step, place),
    )
    first = gangs.root.rank == 0
    progress = StepProgress(f"train {info.stage}", info.num_steps, shown=first)
    recorder = make_recorder(
        run_dir,
        file_system,
        info,
        pace=make_pace(info, gangs),
        watchers=(progress.show, ForgettingWatch(run_dir, config.validation.max_forgetting).show),
        record=first,
    )
    watch = Stopwatch()
    watch.start()

    def reader(
        plan: PackPlan, *, seed: int | None, accumulation: int, text: HeldOutText | None = None
    ) -> ShardReader:
        made = ShardReader(
            plan,
            prepared.shards if text is None else text.shards_dir,
            prepared.vocabulary,
            groups=prepared.groups if text is None else text.groups,
            seed=seed,
            rank=gangs.dp.rank,
            num_ranks=gangs.dp.size,
            accumulation=accumulation,
            prefetch=config.data.prefetch,
            pin_memory=gangs.device.type == "cuda",
        )
        stack.callback(made.close)
        return made

    bf16 = uses_autocast(config.trainer.precision, gangs)
    measured = WithoutGradients(model) if is_sharded(gangs) else model
    units, readers = [], []
    if prepared.valid.num_packs:
        units.append(LossEvalUnit(measured, prepared.groups))
        readers.append(reader(prepared.valid, seed=None, accumulation=1))
    if (text := held_out_text(prepared, gangs.root)) is not None:
        units.append(LossEvalUnit(measured, text.groups, text_only=True))
        readers.append(reader(text.plan, seed=None, accumulation=1, text=text))
    validator: Validator = NOOP_VALIDATOR
    if units:
        validator = StandardValidator(
            units=units,
            data_readers=readers,
            score_metric_descriptor=_SCORE if prepared.valid.num_packs else NOOP_METRIC_DESCRIPTOR,
            checkpoint_manager=_as_manager(CommitLater(manager)),
            gangs=gangs,
            amp=bf16,
            amp_dtype=torch.bfloat16,
            hg_exporter=NOOP_HG_EXPORTER,
            metric_recorder=recorder,
            profiler=NOOP_PROFILER,
            device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
            wall_watch=watch,
            progress_reporter=NOOP_PROGRESS_REPORTER,
            seed=config.trainer.seed,
        )
    validated = validator is not NOOP_VALIDATOR
    unit = LossTrainUnit(model, prepared.groups, stop, make_guard(run_dir, gangs.dp, config.guard))
    watch_gradients(model, unit.accept)
    trainer = Trainer(
        model=model,
        unit=unit,
        data_reader=reader(
            prepared.train,
            seed=config.trainer.seed,
            accumulation=info.stretches[-1].accumulation,
        ),
        gangs=gangs,
        amp=bf16,
        amp_dtype=torch.bfloat16,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        fp16_loss_scaler=NOOP_FP16_LOSS_SCALER,
        validator=validator,
        early_stopper=NOOP_EARLY_STOPPER,
        checkpoint_manager=_as_manager(manager),
        hg_exporter=NOOP_HG_EXPORTER,
        metric_recorder=recorder,
        garbage_collector=NOOP_GARBAGE_COLLECTOR,
        profiler=NOOP_PROFILER,
        device_stat_tracker=(
            CudaDeviceStatTracker(gangs.device, resolver.resolve(CudaContext))
            if gangs.device.type == "cuda"
            else NOOP_DEVICE_STAT_TRACKER
        ),
        wall_watch=watch,
        progress_reporter=progress,
        seed=config.trainer.seed,
        no_sync_grad_accumulation=not is_sharded(gangs),  # shards would keep whole gradients
        max_grad_norm=config.trainer.max_grad_norm,
        # No `max_num_steps`: with it fairseq2 ignores requests to stop. `Stop` ends the run.
        validate_at_start=validated,
        validate_every_n_steps=config.validation.every_n_steps if validated else None,
        checkpoint_every_n_steps=config.checkpoint.every_n_steps,
        keep_last_n_checkpoints=config.checkpoint.keep_last,
        keep_best_n_checkpoints=(
            (config.checkpoint.keep_best or None) if prepared.valid.num_packs else None
        ),
        publish_metrics_every_n_steps=config.metrics.every_n_steps,
    )
    freezing.step = lambda: trainer.step_nr
    return trainer


def _as_manager(manager: object) -> CheckpointManager:
    return manager  # type: ignore[return-value]
