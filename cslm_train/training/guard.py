"""A step whose loss or gradient is not finite, or far larger than usual, changes nothing.

fairseq2's trainer clips the gradients of a step through the facade of the model, after they were
summed over all processes. There the guard judges the step, on every process alike, and takes the
gradients of a bad one away: an optimizer leaves a weight without a gradient, and what it remembers
of it, as they are. The schedule and the reader go on, so that step n stays step n. Writes
runs/<name>/skipped.jsonl, one row for each step that was skipped.
"""

# W norms remembered

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from fairseq2.gang import Gang, ReduceOperation
from fairseq2.metrics import MetricBag
from torch import Tensor
from torch.nn import Module
from torcheval.metrics import Metric

from cslm_data.errors import DivergedError
from cslm_train.config import GuardConfig
from cslm_train.training.clipping import after_clipping

log = logging.getLogger(__name__)

SKIPPED_FILE = "skipped.jsonl"
_STATE = "recent_norms"

Reason = Literal["loss", "gradient", "spike"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the guard found of a step, the same on every process."""

    reason: Reason | None
    """Why the step is skipped; None: it is good."""
    loss: float
    """Nats for each trained token of all processes."""
    grad_norm: float
    limit: float | None
    """Norm above which a step is a spike; None: none is, yet."""


class RecentNorms(Metric[Tensor]):
    """Gradient norms of the last good steps, and how many were skipped since the last of them.

    A metric, so that it is part of every checkpoint; equal on all processes.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.norms_W: Tensor
        self.num_in_a_row: int
        self._window = window
        self._add_state("norms_W", torch.zeros(0, dtype=torch.float64))
        self._add_state("num_in_a_row", 0)

    @torch.inference_mode()
    def update(self, norm: float | None) -> Self:
        """Add the norm of a good step, or a skipped one (None)."""
        if norm is None:
            self.num_in_a_row += 1
            return self
        self.num_in_a_row = 0
        if self._window:
            self.norms_W = torch.cat([self.norms_W, self.norms_W.new_tensor([norm])])
            self.norms_W = self.norms_W[-self._window :]
        return self

    def reset(self) -> Self:
        """What is remembered goes on where the sums of a row begin anew."""
        return self

    @torch.inference_mode()
    def compute(self) -> Tensor:
        """Median of the norms; NaN until there are as many as the window holds."""
        if not self._window or len(self.norms_W) < self._window:
            return self.norms_W.new_tensor(math.nan)
        return self.norms_W.median()

    def merge_state(self, metrics: Iterable[Self]) -> Self:
        """What other processes remember is the same."""
        return self


class StepGuard:
    """Judges the steps of a run."""

    def __init__(
        self,
        run_dir: Path,
        gang: Gang,
        *,
        on: bool,
        max_skipped_steps: int,
        spike_factor: float,
        spike_window: int,
    ) -> None:
        self._run_dir = run_dir
        self._gang = gang
        self._on = on
        self._max_skipped_steps = max_skipped_steps
        self._spike_factor = spike_factor
        self._recent = RecentNorms(spike_window if on and spike_factor else 0)

    @property
    def num_processes(self) -> int:
        """That judge together."""
        return self._gang.size

    def prepare(self, bag: MetricBag) -> None:
        """Make what is remembered part of the checkpoints."""
        bag.add(_STATE, self._recent)

    def judge(self, loss_sum: Tensor, num_targets: int, norm: Tensor) -> Judgement:
        """Is a step good? Called by every process with its own loss and the norm of all."""
        device = self._gang.device
        sums = torch.stack([loss_sum.double(), loss_sum.new_tensor(num_targets).double()])
        if self._gang.size > 1:
            self._gang.all_reduce(sums, ReduceOperation.SUM)
        found = (sums, norm.double().reshape(1), self._recent.compute().reshape(1))
        loss, count, grad_norm, median = torch.cat([each.to(device) for each in found]).tolist()
        loss /= max(count, 1.0)
        limit = None if math.isnan(median) else self._spike_factor * median
        return Judgement(
            reason=self._reason(loss, grad_norm, limit),
            loss=loss,
            grad_norm=grad_norm,
            limit=limit,
        )

    def _reason(self, loss: float, grad_norm: float, limit: float | None) -> Reason | None:
        if not self._on:
            return None
        if not math.isfinite(loss):
            return "loss"
        if not math.isfinite(grad_norm):
            return "gradient"
        return "spike" if limit is not None and grad_norm > limit else None

    def finish(self, values: MutableMapping[str, object]) -> None:
        """Name what is remembered as a row of metrics names it."""
        median = float(values.pop(_STATE))  # type: ignore[arg-type]
        if math.isfinite(median):
            values["grad_norm_median"] = median

    def keep(self, judgement: Judgement) -> None:
        """Remember a good step."""
        self._recent.update(judgement.grad_norm)

    def skip(self, step: int, judgement: Judgement, keys: list[str], suspects: list[str]) -> None:
        """Record a bad step with the samples of all processes.

        `suspects` are those whose own loss is not finite. Raises DivergedError when too many
        steps in a row were skipped.
        """
        keys, suspects = (_of_all(self._gang, each) for each in (keys, suspects))
        row = {
            "step": step,
            "reason": judgement.reason,
            "loss": _finite(judgement.loss),
            "grad_norm": _finite(judgement.grad_norm),
            "limit": judgement.limit,
            "keys": keys,
            "suspects": suspects,
        }
        if self._gang.rank == 0:
            with (self._run_dir / SKIPPED_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._recent.update(None)
        log.warning(
            "step %s skipped: %s (loss %.4g, gradient norm %.4g); its %s samples are in %s",
            step,
            _WHY[judgement.reason or "spike"],
            judgement.loss,
            judgement.grad_norm,
            len(keys),
            SKIPPED_FILE,
        )
        if self._recent.num_in_a_row > self._max_skipped_steps:
            raise DivergedError(
                f"{self._run_dir}: {self._recent.num_in_a_row} steps in a row up to step {step} "
                f"were skipped, more than guard.max_skipped_steps {self._max_skipped_steps}: "
                f'{_WHY[judgement.reason or "spike"]}. See: cslm-data sql "select * from '
                f"skipped_steps where run = '{self._run_dir.name}'\"; then train with a lower "
                "optimizer.lr, or without the samples at fault, into another --output-dir"
            )


_WHY = {
    "loss": "its loss is not a finite number",
    "gradient": "its gradient is not finite",
    "spike": "its gradient is far larger than those before",
}


def _of_all(gang: Gang, mine: list[str]) -> list[str]:
    """Every process's own, in the order of their ranks."""
    if gang.size == 1:
        return mine
    gathered: list[Any] = [None] * gang.size
    torch.distributed.all_gather_object(gathered, mine, group=gang.as_process_group())
    return [each for part in gathered for each in part]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def make_guard(run_dir: Path, gang: Gang, config: GuardConfig) -> StepGuard:
    """The guard as configured, over the processes that each read their own packs."""
    return StepGuard(
        run_dir,
        gang,
        on=config.on,
        max_skipped_steps=config.max_skipped_steps,
        spike_factor=config.spike_factor,
        spike_window=config.spike_window,
    )


def watch_gradients(model: Module, accept: Callable[[Tensor], bool]) -> None:
    """Ask `accept` at every step with the gradients' norm; without its consent they are dropped.

    To be called before the trainer is made.
    """
    parameters = list(model.parameters())

    def judge(norm: Tensor) -> None:
        if not accept(norm):
            for parameter in parameters:
                parameter.grad = None

    after_clipping(model, judge)
