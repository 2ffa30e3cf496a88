"""What a step and a validation compute, and the optimizer, schedule and files around them.

The loss is the sum over trained tokens; fairseq2 divides the gradients by their number over all
processes and accumulated packs, so neither changes what is learnt.
"""

# K trained targets, V vocabulary, G groups

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.evaluator import EvalUnit
from fairseq2.gang import Gang, all_sum
from fairseq2.io import (
    DataNotPicklableError,
    TensorFileDumper,
    TensorFileDumpOptions,
    TensorFileLoader,
    TensorFileLoadOptions,
)
from fairseq2.metrics import MetricBag, Sum
from fairseq2.optim.lr_schedulers import (
    CosineAnnealingLR,
    LRScheduler,
    PolynomialDecayLR,
    TriStageLR,
)
from fairseq2.trainer import TrainUnit
from fairseq2.utils.progress import NOOP_PROGRESS_REPORTER, ProgressReporter, ProgressTask
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer

from cslm_data.progress import Progress, progress
from cslm_train.config import LRSchedulerConfig, OptimizerConfig
from cslm_train.reader import PackedBatch

NLL = "nll"
"""Name of the loss in every record: nats for each trained token; `nll/asr/en` of one group."""


def token_nll(model: Module, batch: PackedBatch) -> Tensor:
    """Negative log-likelihood of each trained target in nats: float32 (K,)."""
    logits_KV = model(batch.inputs_S, batch.layout, positions_K=batch.positions_K)
    return cross_entropy(logits_KV.float(), batch.targets_K, reduction="none")


class LossMetrics:
    """Sums over the steps of a row: loss and targets, of all and of each group."""

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups = tuple(groups)

    def prepare(self, bag: MetricBag) -> None:
        """Add the sums to a bag; those named `total_` go on over the whole run."""
        for name in ("num_examples", "num_elements", "num_targets"):
            bag.add(name, Sum())
            bag.add(f"total_{name}", Sum())
        for name in ("", *(f"/{group}" for group in self._groups)):
            bag.add(f"sum_{NLL}{name}", Sum())
        for group in self._groups:
            bag.add(f"num_targets/{group}", Sum())

    @torch.inference_mode()
    def update(self, bag: MetricBag, nll_K: Tensor, batch: PackedBatch) -> None:
        """Count a batch."""
        counts = {
            "num_examples": len(batch.keys),
            "num_elements": len(batch.inputs_S),
            "num_targets": len(nll_K),
        }
        for name, count in counts.items():
            bag.get(name, Sum).update(count)
            bag.get(f"total_{name}", Sum).update(count)
        nll_K = nll_K.detach().double()
        bag.get(f"sum_{NLL}", Sum).update(nll_K)
        num_groups = len(self._groups)
        sums_G = torch.zeros(num_groups, dtype=torch.float64, device=nll_K.device)
        sums_G.index_add_(0, batch.groups_K, nll_K)
        counts_G = torch.bincount(batch.groups_K, minlength=num_groups)
        for number, group in enumerate(self._groups):
            bag.get(f"sum_{NLL}/{group}", Sum).update(sums_G[number])
            bag.get(f"num_targets/{group}", Sum).update(counts_G[number])

    def finish(self, values: MutableMapping[str, object]) -> None:
        """Turn sums into means; a group without a target gets no value."""
        _mean(values, f"sum_{NLL}", float(values["num_targets"]), NLL)  # type: ignore[arg-type]
        for group in self._groups:
            count = float(values.pop(f"num_targets/{group}"))  # type: ignore[arg-type]
            _mean(values, f"sum_{NLL}/{group}", count, f"{NLL}/{group}")


def _mean(values: MutableMapping[str, object], total: str, count: float, name: str) -> None:
    summed = float(values.pop(total))  # type: ignore[arg-type]
    if count:
        values[name] = summed / count


class Stop:
    """Ends a run after its last step, or after the current one when a signal asks for it."""

    def __init__(self, num_steps: int, gang: Gang) -> None:
        self.wanted = False
        """Set by a signal handler."""
        self.request: Callable[[], None] = lambda: None
        """The trainer's `request_stop`."""
        self._num_steps = num_steps
        self._gang = gang

    def check(self, step: int) -> None:
        """Called at the beginning of a step by every rank, so that all stop after the same."""
        wanted = self.wanted
        if self._gang.size > 1:
            wanted = bool(all_sum(self._gang, int(wanted)))
        if wanted or step >= self._num_steps:
            self.request()


class LossTrainUnit(TrainUnit[PackedBatch]):
    """One pack of a training step."""

    def __init__(self, model: Module, groups: Sequence[str], stop: Stop) -> None:
        self._model = model
        self._metrics = LossMetrics(groups)
        self._stop = stop

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        """Add what is recorded."""
        self._metrics.prepare(metric_bag)

    def set_step_nr(self, step_nr: int) -> None:
        """End the run in time."""
        self._stop.check(step_nr)

    def process_batch(self, batch: PackedBatch, metric_bag: MetricBag) -> tuple[Tensor, int | None]:
        """Sum of the loss, and the number of targets."""
        nll_K = token_nll(self._model, batch)
        self._metrics.update(metric_bag, nll_K, batch)
        return nll_K.sum(), len(nll_K)

    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        """Means of what was summed."""
        self._metrics.finish(values)


class LossEvalUnit(EvalUnit[PackedBatch]):
    """One pack of a validation."""

    def __init__(self, model: Module, groups: Sequence[str]) -> None:
        self._model = model
        self._metrics = LossMetrics(groups)

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        """Add what is recorded."""
        self._metrics.prepare(metric_bag)

    def process_batch(self, batch: PackedBatch, metric_bag: MetricBag) -> None:
        """Measure the loss."""
        self._metrics.update(metric_bag, token_nll(self._model, batch), batch)

    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        """Means of what was summed."""
        self._metrics.finish(values)


def make_optimizer(model: Module, config: OptimizerConfig) -> Optimizer:
    """AdamW over every weight."""
    return AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def make_lr_scheduler(
    optimizer: Optimizer, config: LRSchedulerConfig, *, lr: float, num_steps: int
) -> LRScheduler:
    """The schedule by name. The first step already learns: warm-up does not start at 0."""
    warmup = min(round(config.warmup_ratio * num_steps), num_steps - 1)
    first_lr, final_lr = lr / (warmup + 1), lr * config.final_lr_ratio
    if config.name == "wsd":
        decay = config.decay_ratio
        return TriStageLR(
            optimizer,
            num_steps,
            (config.warmup_ratio, 1 - config.warmup_ratio - decay, decay),
            start_lr_scale=first_lr / lr,
            final_lr_scale=config.final_lr_ratio,
        )
    if config.name == "cosine":
        return CosineAnnealingLR(
            optimizer, num_steps - warmup, warmup, start_lr=first_lr, final_lr=final_lr
        )
    return PolynomialDecayLR(
        optimizer,
        num_steps,
        warmup,
        start_lr=first_lr,
        final_lr=final_lr if config.name == "linear" else lr,
    )


class TensorsOnlyLoader(TensorFileLoader):
    """Unpickles nothing but tensors and plain values, also where fairseq2 would allow anything."""

    def __init__(self, loader: TensorFileLoader) -> None:
        self._loader = loader

    def load(self, file: Path, options: TensorFileLoadOptions | None = None) -> dict[str, object]:
        """See TensorFileLoader."""
        strict = dataclasses.replace(options or TensorFileLoadOptions(), restrict=True)
        state: dict[str, object] = self._loader.load(file, strict)
        return state


class TensorsOnlyDumper(TensorFileDumper):
    """Writes every file so that TensorsOnlyLoader can read it.

    Raises the OSError of a write that failed; fairseq2 says of a full disk that the data cannot be
    pickled.
    """

    def __init__(self, dumper: TensorFileDumper) -> None:
        self._dumper = dumper

    def dump(
        self, data: Mapping[str, object], file: Path, options: TensorFileDumpOptions | None = None
    ) -> None:
        """See TensorFileDumper."""
        try:
            self._dumper.dump(data, file, TensorFileDumpOptions(pickle_protocol=2))
        except DataNotPicklableError as error:
            if (failed_write := _first_cause(error)) is not None:
                raise failed_write from None
            raise


def _first_cause(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


class CommitLater:
    """A checkpoint manager as the validator sees it: it does not finish a checkpoint being saved.

    So a checkpoint exists only once the validation of its step is recorded, and a run that is
    killed between the two validates again.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def maybe_complete_save_operation(self, *, blocking: bool = False) -> bool | None:
        """Nothing; the trainer does it at its next step."""
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


class _Task(ProgressTask):
    def __init__(self, bar: Progress, completed: int) -> None:
        self._bar = bar
        self._bar.advance(completed)

    def start(self) -> None:
        pass

    def step(self, value: int = 1) -> None:
        self._bar.advance(value)

    def close(self) -> None:
        pass


class StepProgress(ProgressReporter):
    """fairseq2's progress as ours: a bar of training steps, none within a validation."""

    def __init__(self, name: str, num_steps: int) -> None:
        self._name = name
        self._num_steps = num_steps
        self._stack = ExitStack()

    def create_task(
        self, name: str, total: int | None, completed: int = 0, *, start: bool = True
    ) -> ProgressTask:
        """A bar for the task `train`."""
        if name != "train":
            return NOOP_PROGRESS_REPORTER.create_task(name, total, completed)
        shown = progress(self._name, total=self._num_steps, unit="steps")
        return _Task(self._stack.enter_context(shown), completed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ex: Any) -> None:
        self._stack.close()
