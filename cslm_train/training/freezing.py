"""Which weights a step may change: all, all but the rows of text, or only the rows of new tokens.

A row is one of the embedding or the output projection. What never trains needs no gradient at all.
What trains later has its gradient taken away between the backward pass and the clipping of each
step: whole weights lose it, so that the optimizer passes them over; old rows get zeros, which
leaves them as they are, bit by bit, for as long as nothing has moved them and nothing decays.
Which it is depends on the number of finished steps alone, so a resumed run goes on the same.
"""

# V rows of text; those of controls and units follow

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from fairseq2.nn.data_parallel import (
    DataParallelFacade,
    get_data_parallel_facade,
    set_data_parallel_facade,
)
from fairseq2.typing import ContextManager
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cslm_train.config import TrainConfig


def holds_old_rows(config: TrainConfig) -> bool:
    """Whether the rows of text stay as they are for the whole run."""
    new_rows_only = config.lora.rank > 0 and config.lora.train_embeddings == "new_rows"
    return config.freeze.old_rows or new_rows_only


def freeze_for_good(model: Module, config: TrainConfig, *, num_steps: int) -> None:
    """Free weights that never train in a run of so many steps of their gradients.

    Call it before the model is wrapped for several processes.
    """
    if config.freeze.new_rows_only_steps < num_steps:
        return
    tables = {id(parameter) for parameter in token_tables(model)}
    for parameter in model.parameters():
        if id(parameter) not in tables:
            parameter.requires_grad_(False)


def follow_schedule(
    model: Module,
    optimizer: Optimizer,
    config: TrainConfig,
    *,
    num_text: int,
    steps_done: Callable[[], int],
) -> None:
    """Let each step of the trainer change what the configuration says. A model may be wrapped.

    `steps_done`: of the optimizer, before the current one. `num_text`: V.
    """
    if not config.freeze.new_rows_only_steps and not holds_old_rows(config):
        return
    tables = token_tables(model)
    in_tables = {id(parameter) for parameter in tables}
    others = [p for p in model.parameters() if id(p) not in in_tables]
    decays = [group["weight_decay"] for group in optimizer.param_groups]

    def freeze() -> None:
        new_rows_only = steps_done() < config.freeze.new_rows_only_steps
        if new_rows_only:
            for parameter in others:
                parameter.grad = None
        if new_rows_only or holds_old_rows(config):
            for parameter in tables:
                zero_old_rows(parameter, num_text)
        for group, decay in zip(optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = 0.0 if new_rows_only else decay

    set_data_parallel_facade(model, _FreezeFirst(get_data_parallel_facade(model), freeze))


def token_tables(model: Module) -> list[Parameter]:
    """Embedding and output projection, one parameter when they are tied."""
    inner: Module = model.module if isinstance(model, DistributedDataParallel) else model
    found = map(inner.get_parameter, ("decoder_frontend.embed.weight", "final_proj.weight"))
    return list({id(parameter): parameter for parameter in found}.values())


def zero_old_rows(parameter: Parameter, num_text: int) -> None:
    """Zero the gradient of the first rows, of those that this process holds."""
    gradient = parameter.grad
    if gradient is None:
        return
    first = 0
    if isinstance(gradient, DTensor):
        mesh = gradient.device_mesh
        shards = [
            (mesh.size(dim), mesh.get_local_rank(dim))
            for dim, placement in enumerate(gradient.placements)
            if placement.is_shard(0)
        ]
        first, _ = local_rows(gradient.shape[0], shards)
        gradient = gradient.to_local()
    gradient[: max(0, num_text - first)].zero_()


def local_rows(num_rows: int, shards: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """First row and number of rows of a process, given (processes, rank) of each split of dim 0.

    Splits are those of `torch.chunk`: equal but for the last.
    """
    first, count = 0, num_rows
    for size, rank in shards:
        step = -(-count // size)
        start = min(rank * step, count)
        first, count = first + start, min(step, count - start)
    return first, count


class _FreezeFirst(DataParallelFacade):
    """A facade that freezes before it clips; the trainer clips right before the optimizer."""

    def __init__(self, facade: DataParallelFacade, freeze: Callable[[], None]) -> None:
        self._facade = facade
        self._freeze = freeze

    def clip_grad_norm(self, max_norm: float | None) -> Tensor:
        with torch.no_grad():
            self._freeze()
        return self._facade.clip_grad_norm(max_norm)

    def state_dict(self) -> dict[str, object]:
        return self._facade.state_dict()

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self._facade.load_state_dict(state_dict)

    def no_sync(self) -> ContextManager[None]:
        return self._facade.no_sync()

    def summon_full_parameters(self) -> ContextManager[None]:
        return self._facade.summon_full_parameters()
