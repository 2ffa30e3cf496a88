"""Configuration → the optimizer and the learning rate over the run."""

from __future__ import annotations

from fairseq2.optim.lr_schedulers import (
    CosineAnnealingLR,
    LRScheduler,
    PolynomialDecayLR,
    TriStageLR,
)
from torch.nn import Module
from torch.optim import AdamW, Optimizer

from cslm_train.config import LRSchedulerConfig, OptimizerConfig


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
