"""Everything of a run → fairseq2's Trainer, put together from its parts.

By hand and not by fairseq2's recipes (docs/decisions/0001): what makes a run elastic and exact is
ours.
"""

# fairseq2's resolver is asked for abstract classes by design.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.checkpoint import NOOP_HG_EXPORTER, CheckpointManager, StandardCheckpointManager
from fairseq2.device import CPU, CudaContext, Device
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.file_system import FileSystem
from fairseq2.gang import Gangs
from fairseq2.io import TensorFileDumper, TensorFileLoader
from fairseq2.metrics import format_as_float
from fairseq2.metrics.recorders import NOOP_METRIC_DESCRIPTOR, MetricDescriptor
from fairseq2.optim.fp16_loss_scaler import NOOP_FP16_LOSS_SCALER
from fairseq2.profilers import NOOP_PROFILER
from fairseq2.trainer import Trainer
from fairseq2.utils.device_stat import (
    NOOP_DEVICE_STAT_TRACKER,
    CudaDeviceStatTracker,
    DeviceStatTracker,
)
from fairseq2.utils.gc import NOOP_GARBAGE_COLLECTOR
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER
from fairseq2.utils.rng import RngBag
from fairseq2.utils.stopwatch import Stopwatch
from fairseq2.utils.threading import ThreadPool
from fairseq2.validator import NOOP_VALIDATOR, StandardValidator, Validator
from torch.nn import Module

from cslm_train.models.family import create_model, start_fairseq2
from cslm_train.models.lora import apply_lora
from cslm_train.packing.plan import PackPlan
from cslm_train.packing.reader import ShardReader
from cslm_train.packing.stretches import moved_to, schedule_place
from cslm_train.training.beginning import initial_weights
from cslm_train.training.checkpoints import CommitLater, TensorsOnlyDumper, TensorsOnlyLoader
from cslm_train.training.elastic import ElasticCheckpoints
from cslm_train.training.forgetting import ForgettingWatch, HeldOutText, held_out_text
from cslm_train.training.freezing import Freezing, freeze_for_good
from cslm_train.training.guard import make_guard, watch_gradients
from cslm_train.training.loss import NLL, LossEvalUnit, LossTrainUnit
from cslm_train.training.optim import make_lr_scheduler, make_optimizer
from cslm_train.training.parallel import (
    WithoutGradients,
    is_sharded,
    make_room,
    share_model,
    uses_autocast,
)
from cslm_train.training.prepare import Prepared
from cslm_train.training.progress import StepProgress
from cslm_train.training.recorders import make_pace, make_recorder
from cslm_train.training.stopping import Stop

log = logging.getLogger(__name__)

_SCORE = MetricDescriptor(NLL, NLL, priority=0, formatter=format_as_float, higher_better=False)


def make_trainer(
    prepared: Prepared,
    gangs: Gangs,
    stop: Stop,
    stack: contextlib.ExitStack,
    *,
    resume_step: int | None,
) -> Trainer:
    """The trainer of a run, ready to run; what has to be closed after it goes on the stack.

    `resume_step`: that of the checkpoint it goes on from; None: it begins.
    """
    info, config, run_dir = prepared.info, prepared.info.config, prepared.run_dir
    resolver = start_fairseq2()
    RngBag.from_device_defaults(CPU, gangs.device).manual_seed(config.trainer.seed)
    model = _make_model(prepared, gangs, fresh=resume_step is None)
    freezing = Freezing(model, config, num_text=info.num_text)
    freezing.watch(model)
    optimizer = make_optimizer(model, config.optimizer, held_rows=freezing.held_rows)
    place = schedule_place(info.stretches, info.num_steps)
    scheduler = make_lr_scheduler(optimizer, config.lr_scheduler, num_steps=place.num_steps)
    manager = ElasticCheckpoints(
        _files_of_checkpoints(run_dir, gangs),
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
        resolver.resolve(FileSystem),
        info,
        pace=make_pace(info, gangs),
        watchers=(progress.show, ForgettingWatch(run_dir, config.validation.max_forgetting).show),
        record=first,
    )
    watch = Stopwatch()
    watch.start()
    common: dict[str, Any] = {
        "gangs": gangs,
        "amp": uses_autocast(config.trainer.precision, gangs),
        "amp_dtype": torch.bfloat16,
        "hg_exporter": NOOP_HG_EXPORTER,
        "metric_recorder": recorder,
        "profiler": NOOP_PROFILER,
        "wall_watch": watch,
        "seed": config.trainer.seed,
    }
    validator = _make_validator(prepared, gangs, model, manager, stack, common)
    validated = validator is not NOOP_VALIDATOR
    unit = LossTrainUnit(model, prepared.groups, stop, make_guard(run_dir, gangs.dp, config.guard))
    watch_gradients(model, unit.accept)
    trainer = Trainer(
        **common,
        model=model,
        unit=unit,
        data_reader=_make_reader(
            prepared,
            gangs,
            stack,
            prepared.train,
            seed=config.trainer.seed,
            accumulation=info.stretches[-1].accumulation,
        ),
        optimizer=optimizer,
        lr_scheduler=scheduler,
        fp16_loss_scaler=NOOP_FP16_LOSS_SCALER,
        validator=validator,
        early_stopper=NOOP_EARLY_STOPPER,
        checkpoint_manager=_as_manager(manager),
        garbage_collector=NOOP_GARBAGE_COLLECTOR,
        device_stat_tracker=_device_stats(gangs.device),
        progress_reporter=progress,
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


def _make_validator(
    prepared: Prepared,
    gangs: Gangs,
    model: Module,
    manager: ElasticCheckpoints,
    stack: contextlib.ExitStack,
    common: dict[str, Any],
) -> Validator:
    """Measures the mix's valid split, and text beside it that shows what is forgotten."""
    measured = WithoutGradients(model) if is_sharded(gangs) else model
    units, readers = [], []
    if prepared.valid.num_packs:
        units.append(LossEvalUnit(measured, prepared.groups))
        readers.append(_make_reader(prepared, gangs, stack, prepared.valid))
    if (text := held_out_text(prepared, gangs.root)) is not None:
        units.append(LossEvalUnit(measured, text.groups, text_only=True))
        readers.append(_make_reader(prepared, gangs, stack, text.plan, text=text))
    if not units:
        return NOOP_VALIDATOR
    return StandardValidator(
        **common,
        units=units,
        data_readers=readers,
        score_metric_descriptor=_SCORE if prepared.valid.num_packs else NOOP_METRIC_DESCRIPTOR,
        checkpoint_manager=_as_manager(CommitLater(manager)),
        device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
        progress_reporter=NOOP_PROGRESS_REPORTER,
    )


def _make_reader(
    prepared: Prepared,
    gangs: Gangs,
    stack: contextlib.ExitStack,
    plan: PackPlan,
    *,
    seed: int | None = None,
    accumulation: int = 1,
    text: HeldOutText | None = None,
) -> ShardReader:
    reader = ShardReader(
        plan,
        prepared.shards if text is None else text.shards_dir,
        prepared.vocabulary,
        groups=prepared.groups if text is None else text.groups,
        seed=seed,
        shuffle_packs=prepared.info.config.data.shuffle_packs,
        rank=gangs.dp.rank,
        num_ranks=gangs.dp.size,
        accumulation=accumulation,
        prefetch=prepared.info.config.data.prefetch,
        pin_memory=gangs.device.type == "cuda",
    )
    stack.callback(reader.close)
    return reader


def _files_of_checkpoints(run_dir: Path, gangs: Gangs) -> StandardCheckpointManager:
    resolver = start_fairseq2()
    return StandardCheckpointManager(
        run_dir,
        gangs,
        resolver.resolve(FileSystem),
        TensorsOnlyLoader(resolver.resolve(TensorFileLoader)),
        TensorsOnlyDumper(resolver.resolve(TensorFileDumper)),
        resolver.resolve(ThreadPool),
    )


def _device_stats(device: Device) -> DeviceStatTracker:
    if device.type != "cuda":
        return NOOP_DEVICE_STAT_TRACKER
    return CudaDeviceStatTracker(device, start_fairseq2().resolve(CudaContext))


def _as_manager(manager: object) -> CheckpointManager:
    return manager  # type: ignore[return-value]
