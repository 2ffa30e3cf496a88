"""The pieces that the networks of this folder are put together from, taken out of trained modules.

Matrix products run in the dtype that was asked for; norms, activations of the residual stream and
sums stay in float32, so that bfloat16 costs little more than the products' own rounding.
"""

# B utterances, N frames, D features, I inputs, O outputs

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_PACKED_ROWS = 512
"""Rows that a packed weight's order is chosen for; any number may come."""


class Linear(NamedTuple):
    """A matrix product in the dtype of its weight."""

    weight_OI: Tensor
    bias_O: Tensor | None
    packed: bool = False
    """The weight lies in oneDNN's own order."""

    def __call__(self, x_BNI: Tensor) -> Tensor:
        """Any dtype (…, I) → the weight's dtype (…, O)."""
        x_BNI = x_BNI.to(self.weight_OI.dtype)
        if self.packed:
            y_BNO: Tensor = torch.ops.mkldnn._linear_pointwise(
                x_BNI, self.weight_OI, self.bias_O, "none", [], ""
            )
            return y_BNO
        return functional.linear(x_BNI, self.weight_OI, self.bias_O)


class LayerNorm(NamedTuple):
    """Norm over the last axis, in float32."""

    size: int
    weight_D: Tensor | None
    bias_D: Tensor | None
    eps: float

    def __call__(self, x_BND: Tensor) -> Tensor:
        """Any dtype (…, D) → float32 (…, D)."""
        return functional.layer_norm(
            x_BND.float(), (self.size,), self.weight_D, self.bias_D, self.eps
        )


def linear(module: Any, device: str, dtype: torch.dtype) -> Linear:
    """The product of a `torch.nn.Linear`."""
    return from_weights(module.weight, module.bias, device, dtype)


def from_weights(
    weight_OI: Tensor, bias_O: Tensor | None, device: str, dtype: torch.dtype
) -> Linear:
    """The product with a weight, kept apart from the module that it comes from."""
    weight_OI = weight_OI.detach().to(device, dtype, copy=True)
    bias_O = None if bias_O is None else bias_O.detach().to(device, dtype, copy=True)
    if dtype is torch.bfloat16 and weight_OI.device.type == "cpu" and _can_pack():
        # Otherwise oneDNN brings the weight into its order again with every product: 5 % of a
        # block. These two operators are what torch's own compiler makes of a linear layer.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI, _PACKED_ROWS)
        return Linear(packed, bias_O, packed=True)
    return Linear(weight_OI, bias_O)


@functools.cache
def _can_pack() -> bool:
    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def layer_norm(module: Any, device: str) -> LayerNorm:
    """A `torch.nn.LayerNorm` over one axis, or a class of its kind that transposes around it."""
    weight, bias = (
        None if value is None else value.detach().to(device, torch.float32)
        for value in (module.weight, module.bias)
    )
    return LayerNorm(int(module.normalized_shape[0]), weight, bias, float(module.eps))


def activation(module: Any, name: str) -> Callable[[Tensor], Tensor]:
    """The activation that a module keeps under `name`; GELU where it has none of its own."""
    found = getattr(module, name, None)
    return functional.gelu if found is None else found
