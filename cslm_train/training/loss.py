"""What a step and a validation compute: the summed loss, and its sums for each group.

The loss is the sum over trained tokens; fairseq2 divides the gradients by their number over all
processes and accumulated packs, so neither changes what is learnt.
"""

# K trained targets, V vocabulary, G groups

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import fairseq2.recipe  # noqa: F401 - fairseq2.trainer imports it in a circle unless it comes first
import torch
from fairseq2.evaluator import EvalUnit
from fairseq2.metrics import MetricBag, Sum
from fairseq2.trainer import TrainUnit
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from cslm_train.packing.reader import PackedBatch
from cslm_train.training.stopping import Stop

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
