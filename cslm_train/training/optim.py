"""Configuration → the optimizer and the learning rate over the run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fairseq2.optim.lr_schedulers import LRScheduler
from fairseq2.optim.lr_schedulers.lr_scheduler import AbstractLRScheduler
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module, Parameter
from torch.optim import Adafactor, AdamW, Optimizer

from cslm_data.errors import UsageError
from cslm_train.config import LRSchedulerConfig, OptimizerConfig
from cslm_train.training.freezing import local, token_tables
from cslm_train.training.rates import rate_factor


def make_optimizer(
    model: Module,
    config: OptimizerConfig,
    *,
    held_rows: Callable[[Parameter], int] = lambda parameter: 0,
) -> Optimizer:
    """The optimizer by name, over every weight that trains. A model may be wrapped.

    `held_rows` says how many of the first rows of a weight do not decay now. Weights without a
    gradient do not either. Raises UsageError for Adafactor over a sharded model.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: Optimizer
    if config.name == "adafactor":
        if any(isinstance(parameter, DTensor) for parameter in trained):
            raise UsageError(
                "optimizer.name: adafactor keeps what is not of a weight's shape, so it cannot be "
                "sharded; set optimizer.name=adamw, or train without shards"
            )
        optimizer = Adafactor(trained, lr=config.lr)
    else:
        optimizer = AdamW(
            trained,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=0.0,
            fused=True,
        )
    if config.weight_decay:
        decayed = _decayed(model, trained, config)

        def decay(optimizer: Optimizer, *_: object) -> None:
            decay_weights(
                [(p, held_rows(p)) for p in decayed if p.grad is not None],
                rate=optimizer.param_groups[0]["lr"] * config.weight_decay,
            )

        optimizer.register_step_pre_hook(decay)
    return optimizer


def _decayed(model: Module, trained: list[Parameter], config: OptimizerConfig) -> list[Parameter]:
    if config.decayed == "all":
        return trained
    tables = {id(p) for p in token_tables(model)} if config.decayed == "projections" else set()
    return [p for p in trained if p.ndim > 1 and id(p) not in tables]


@torch.no_grad()
def decay_weights(weights: list[tuple[Parameter, int]], *, rate: float) -> None:
    """Shrink weights by a share, but for so many first rows of each.

    AdamW and Adafactor do the same to all rows at the beginning of a step: "decoupled weight decay
    regularization", Loshchilov and Hutter, arXiv:1711.05101.
    """
    rows = [local(parameter)[held:] for parameter, held in weights]
    if some := [each for each in rows if len(each)]:
        torch._foreach_mul_(some, 1 - rate)


class Schedule(AbstractLRScheduler):
    """A learning rate that is a formula of the number of steps taken."""

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        self._factor = factor
        super().__init__(optimizer)

    def _compute_lrs(self) -> list[float | Tensor]:
        return [rate * self._factor(self.last_epoch) for rate in self.base_lrs]

    def state_dict(self) -> dict[str, object]:
        """Everything but the formula."""
        return {name: value for name, value in super().state_dict().items() if name != "_factor"}


def make_lr_scheduler(
    optimizer: Optimizer, config: LRSchedulerConfig, *, num_steps: int
) -> LRScheduler:
    """The schedule by name, over the rate that the optimizer was made with."""
    return Schedule(optimizer, lambda step: rate_factor(step, config, num_steps=num_steps))
