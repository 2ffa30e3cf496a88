"""Which weights a step may change: all, all but the rows of text, or only the rows of new tokens.

A row is one of the embedding or the output projection. What never trains needs no gradient at all.
What trains later has its gradient taken away between the backward pass and the clipping of each
step: whole weights lose it, so that the optimizer passes them over; old rows get zeros, which
leaves them as they are, bit by bit, for as long as nothing has moved them and they do not decay.
Which it is depends on the number of the step alone, so a resumed run goes on the same.
"""

# V rows of text; those of controls and units follow

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel

from cslm_train.config import FreezeConfig, TrainConfig
from cslm_train.training.clipping import before_clipping


def freeze_for_good(model: Module, config: FreezeConfig) -> None:
    """Compute no gradient of weights that never train. Call it before the model is wrapped."""
    if config.new_rows_only_steps is not None:
        return
    tables = {id(parameter) for parameter in token_tables(model)}
    for parameter in model.parameters():
        if id(parameter) not in tables:
            parameter.requires_grad_(False)


class Freezing:
    """What of a model, wrapped or not, the current step of a run may change."""

    def __init__(self, model: Module, config: TrainConfig, *, num_text: int) -> None:
        """`num_text`: V."""
        adapted = config.lora.rank > 0 and config.lora.train_embeddings == "new_rows"
        self.step: Callable[[], int] = lambda: 1
        """Number of the current step, the first being 1: the trainer's, once there is one."""
        self._new_rows_only_steps = config.freeze.new_rows_only_steps
        self._old_rows_stay = config.freeze.old_rows or adapted
        self._num_text = num_text
        self._tables = token_tables(model)
        tables = {id(parameter) for parameter in self._tables}
        self._others = [p for p in model.parameters() if id(p) not in tables]

    @property
    def new_rows_only(self) -> bool:
        """Whether only rows of controls and units train in this step."""
        steps = self._new_rows_only_steps
        return steps is None or self.step() <= steps

    def held_rows(self, parameter: Parameter) -> int:
        """How many of the first rows of a weight, of those in this process, stay as they are."""
        held = self._old_rows_stay or self.new_rows_only
        if not held or all(parameter is not table for table in self._tables):
            return 0
        first, count = own_rows(parameter)
        return min(max(0, self._num_text - first), count)

    def take_gradients(self) -> None:
        """Take away the gradients of what stays as it is in this step."""
        if self.new_rows_only:
            for parameter in self._others:
                parameter.grad = None
        for parameter in self._tables:
            if parameter.grad is not None:
                local(parameter.grad)[: self.held_rows(parameter)].zero_()

    def watch(self, model: Module) -> None:
        """Let the trainer of a model ask before it clips. Call it before there is a trainer."""
        if self._old_rows_stay or self._new_rows_only_steps != 0:
            before_clipping(model, self.take_gradients)


def token_tables(model: Module) -> list[Parameter]:
    """Embedding and output projection, one parameter when they are tied."""
    inner: Module = model.module if isinstance(model, DistributedDataParallel) else model
    found = map(inner.get_parameter, ("decoder_frontend.embed.weight", "final_proj.weight"))
    return list({id(parameter): parameter for parameter in found}.values())


def local(tensor: Tensor) -> Tensor:
    """The rows of a tensor in this process, for reading and writing."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(parameter: Tensor) -> tuple[int, int]:
    """First row and number of rows of a weight in this process."""
    if not isinstance(parameter, DTensor):
        return 0, len(parameter)
    mesh = parameter.device_mesh
    shards = [
        (mesh.size(dim), mesh.get_local_rank(dim))
        for dim, placement in enumerate(parameter.placements)
        if placement.is_shard(0)
    ]
    return local_rows(len(parameter), shards)


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
