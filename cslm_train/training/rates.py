"""The learning rate over a run: a pure function of the step, so that a plan can show it."""

from __future__ import annotations

import math

from cslm_train.config import LRSchedulerConfig


def warmup_steps(config: LRSchedulerConfig, *, num_steps: int) -> int:
    """Steps before the one with the highest rate."""
    return min(round(config.warmup_ratio * num_steps), num_steps - 1)


def rate_factor(step: int, config: LRSchedulerConfig, *, num_steps: int) -> float:
    """Learning rate over the highest, `step` steps into the run.

    The rate rises in equal parts and the first step already learns: of W steps that warm up, step
    0 has 1 part of W + 1. The final rate is that after the last step.
    """
    warmup = warmup_steps(config, num_steps=num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    final = config.final_lr_ratio
    done = min(1.0, (step - warmup) / (num_steps - warmup))
    if config.name == "cosine":
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
    if config.name == "linear":
        return final + (1 - final) * (1 - done)
    if config.name == "wsd":
        decay = min(round(config.decay_ratio * num_steps), num_steps - warmup)
        into_decay = step - (num_steps - decay)
        return 1.0 if into_decay <= 0 else final ** min(1.0, into_decay / decay)
    return 1.0
