"""What a step and a validation compute: the summed loss, and its sums for each group.

The loss is the sum over trained tokens; fairseq2 divides the gradients by their number over all
processes and accumulated packs, so neither changes what is learnt. What a step adds to the sums is
counted once the guard has found the step good: a loss that is no number is never part of a mean.
"""

# K trained targets, V vocabulary, G groups

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import numpy as np
import torch
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import MetricBag, Sum
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from cslm_train.packing.reader import PackedBatch
from cslm_train.training.flops import num_attended
from cslm_train.training.guard import StepGuard
from cslm_train.training.stopping import Stop

NLL = "nll"
"""Name of the loss in every record: nats for each trained token; `nll/asr/en` of one group."""
PERPLEXITY = "ppl"
"""Name of its exponential, `ppl/instruct/en`, of written instructions at every validation."""
TEXT_TASK = "instruct"
"""The task that is text alone in one language: what the base model could do before."""

_READ = ("num_examples", "num_elements", "num_packs")


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
        for name in (*_READ, "num_targets"):
            bag.add(name, Sum())
            bag.add(f"total_{name}", Sum())
        bag.add("num_attended", Sum())
        for name in ("", *(f"/{group}" for group in self._groups)):
            bag.add(f"sum_{NLL}{name}", Sum())
        for group in self._groups:
            bag.add(f"num_targets/{group}", Sum())

    @torch.inference_mode()
    def count_read(self, bag: MetricBag, batch: PackedBatch) -> None:
        """Count what of a batch was read."""
        for name, count in zip(_READ, (len(batch.keys), len(batch.inputs_S), 1), strict=True):
            bag.get(name, Sum).update(count)
            bag.get(f"total_{name}", Sum).update(count)
        bag.get("num_attended", Sum).update(num_attended(batch.lengths))

    @torch.inference_mode()
    def count_loss(self, bag: MetricBag, nll_K: Tensor, batch: PackedBatch) -> None:
        """Count the loss of a batch."""
        for name in ("num_targets", "total_num_targets"):
            bag.get(name, Sum).update(len(nll_K))
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


class LossTrainUnit(TrainUnit[PackedBatch]):
    """The packs of a training step."""

    def __init__(self, model: Module, groups: Sequence[str], stop: Stop, guard: StepGuard) -> None:
        self._model = model
        self._metrics = LossMetrics(groups)
        self._stop = stop
        self._guard = guard
        self._step = 0
        self._read: list[tuple[Tensor, PackedBatch]] = []

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        """Add what is recorded."""
        self._metrics.prepare(metric_bag)
        self._guard.prepare(metric_bag)
        for name in ("num_good_steps", "num_skipped_steps", "sum_grad_norm"):
            metric_bag.add(name, Sum())
        self._bag = metric_bag

    def set_step_nr(self, step_nr: int) -> None:
        """End the run in time."""
        self._step = step_nr
        self._read.clear()
        self._stop.check(step_nr)

    def process_batch(self, batch: PackedBatch, metric_bag: MetricBag) -> tuple[Tensor, int | None]:
        """Sum of the loss, and the number of targets."""
        nll_K = token_nll(self._model, batch)
        self._metrics.count_read(metric_bag, batch)
        self._read.append((nll_K.detach(), batch))
        return nll_K.sum(), len(nll_K)

    @torch.no_grad()
    def accept(self, norm: Tensor) -> bool:
        """Is the step good, by its loss and the norm of its gradient? Count or record it."""
        loss_sum = torch.stack([nll_K.double().sum() for nll_K, _ in self._read]).sum()
        num_targets = sum(len(nll_K) for nll_K, _ in self._read)
        judgement = self._guard.judge(loss_sum, num_targets, norm)
        if judgement.reason is not None:
            self._bag.get("num_skipped_steps", Sum).update(1)
            keys = [key for _, batch in self._read for key in batch.keys]
            suspects = [key for read in self._read for key in _without_loss(*read)]
            self._guard.skip(self._step, judgement, keys, suspects)
            return False
        self._guard.keep(judgement)
        for nll_K, batch in self._read:
            self._metrics.count_loss(self._bag, nll_K, batch)
        self._bag.get("num_good_steps", Sum).update(1)
        self._bag.get("sum_grad_norm", Sum).update(judgement.grad_norm)
        return True

    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        """Means of what was summed, over the steps that were not skipped."""
        self._metrics.finish(values)
        del values["grad_norm"]  # fairseq2's, of skipped steps too
        good, skipped = (
            float(values.pop(name))  # type: ignore[arg-type]
            for name in ("num_good_steps", "num_skipped_steps")
        )
        _mean(values, "sum_grad_norm", good, "grad_norm")
        values["num_skipped_steps"] = round(skipped / self._guard.num_processes)
        self._guard.finish(values)


def _without_loss(nll_K: Tensor, batch: PackedBatch) -> list[str]:
    """Samples of a pack with a target whose loss is not finite."""
    positions = batch.positions_K[~nll_K.isfinite()].cpu().numpy()
    documents = np.searchsorted(np.cumsum(batch.lengths), positions, side="right")
    return [batch.keys[document] for document in np.unique(documents)]


class LossEvalUnit(EvalUnit[PackedBatch]):
    """The packs of a validation."""

    def __init__(self, model: Module, groups: Sequence[str], *, text_only: bool = False) -> None:
        self._model = model
        self._metrics = LossMetrics(groups)
        self._text_only = text_only

    @property
    def name(self) -> str | None:
        """None for the mix's own; `text` where only written instructions are measured."""
        return "text" if self._text_only else None

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        """Add what is recorded."""
        self._metrics.prepare(metric_bag)

    def process_batch(self, batch: PackedBatch, metric_bag: MetricBag) -> None:
        """Measure the loss."""
        self._metrics.count_read(metric_bag, batch)
        self._metrics.count_loss(metric_bag, token_nll(self._model, batch), batch)

    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        """Means of what was summed, and the perplexity of written instructions."""
        self._metrics.finish(values)
        texts = f"{NLL}/{TEXT_TASK}/"
        if self._text_only:  # the loss of the others says nothing, and is no score of checkpoints
            for name in [name for name in values if name.startswith(NLL)]:
                if not name.startswith(texts):
                    del values[name]
        for name in [name for name in values if name.startswith(texts)]:
            perplexity = math.exp(min(values[name], _LARGEST))  # type: ignore[call-overload]
            values[name.replace(NLL, PERPLEXITY, 1)] = perplexity


_LARGEST = 700.0
"""Nats whose exponential is still a float."""
