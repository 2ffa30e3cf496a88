"""Configuration → the optimizer and the learning rate over the run."""

from __future__ import annotations

from fairseq2.optim.lr_schedulers import LRScheduler
from torch.nn import Module, Parameter
from torch.optim import Adafactor, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cslm_train.config import LRSchedulerConfig, OptimizerConfig
from cslm_train.training.freezing import token_tables
from cslm_train.training.rates import rate_factor


def make_optimizer(
    model: Module, config: OptimizerConfig, *, old_rows_stay: bool = False
) -> Optimizer:
    """The optimizer by name, over every weight that trains. A model may be wrapped.

    `old_rows_stay`: embedding and output projection have frozen rows, so they do not decay.
    """
    groups = _groups(model, config, old_rows_stay=old_rows_stay)
    if config.name == "adafactor":
        return Adafactor(groups, lr=config.lr)
    return AdamW(
        groups,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def _groups(
    model: Module, config: OptimizerConfig, *, old_rows_stay: bool
) -> list[dict[str, object]]:
    """Weights that decay and weights that do not; of an empty kind there is no group."""
    tables = {id(parameter) for parameter in token_tables(model)}

    def decays(parameter: Parameter) -> bool:
        if id(parameter) in tables and (old_rows_stay or config.decayed == "projections"):
            return False
        return config.decayed == "all" or parameter.ndim > 1

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.weight_decay == 0:
        return [{"params": trained, "weight_decay": 0.0}]
    groups: list[dict[str, object]] = [
        {"params": [p for p in trained if decays(p)], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if not decays(p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class OneRate(LambdaLR):
    """A schedule of which all weights have the same rate: it names that one, not one a group."""

    def get_last_lr(self) -> list[float]:
        """The rate of the step that comes."""
        return super().get_last_lr()[:1]


def make_lr_scheduler(
    optimizer: Optimizer, config: LRSchedulerConfig, *, num_steps: int
) -> LRScheduler:
    """The schedule by name, over the rate that the optimizer was made with."""
    return OneRate(  # type: ignore[return-value] # fairseq2 names a base class of torch's past
        optimizer, lambda step: rate_factor(step, config, num_steps=num_steps)
    )
