"""What happens around the clipping of a step's gradients, right before the optimizer moves.

fairseq2's trainer clips through the facade of a model. By then the gradients of all processes are
summed, so whoever looks at them here finds the same on every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from fairseq2.nn.data_parallel import (
    DataParallelFacade,
    get_data_parallel_facade,
    set_data_parallel_facade,
)
from fairseq2.typing import ContextManager
from torch import Tensor
from torch.nn import Module


def before_clipping(model: Module, act: Callable[[], None]) -> None:
    """Call `act` before the gradients are clipped. To be asked for before the trainer is made."""
    set_data_parallel_facade(model, _Facade(get_data_parallel_facade(model), before=act))


def after_clipping(model: Module, act: Callable[[Tensor], None]) -> None:
    """Call `act` with the norm they had when the gradients are clipped; asked for as above."""
    set_data_parallel_facade(model, _Facade(get_data_parallel_facade(model), after=act))


class _Facade(DataParallelFacade):
    def __init__(
        self,
        inner: DataParallelFacade,
        *,
        before: Callable[[], None] = lambda: None,
        after: Callable[[Tensor], None] = lambda norm: None,
    ) -> None:
        self._inner = inner
        self._before = before
        self._after = after

    def clip_grad_norm(self, max_norm: float | None) -> Tensor:
        with torch.no_grad():
            self._before()
        norm = self._inner.clip_grad_norm(max_norm)
        self._after(norm)
        return norm

    def state_dict(self) -> dict[str, object]:
        return self._inner.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        self._inner.load_state_dict(dict(state_dict))

    def no_sync(self) -> ContextManager[None]:
        return self._inner.no_sync()

    def summon_full_parameters(self) -> ContextManager[None]:
        return self._inner.summon_full_parameters()
