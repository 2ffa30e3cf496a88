"""Attention over the frames of a batch: padding masked, biases of pairs a stretch at a time."""

# B utterances, N frames, H heads, E features of a head, Q queries of a stretch

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_BIAS_ELEMENTS = 1 << 25


def attend(query: Tensor, key: Tensor, value: Tensor, valid_BN: Tensor | None) -> Tensor:
    """Softmax attention, queries scaled already: (B, H, N, E) each → (B, H, N, E).

    On a CPU it runs in float32 whatever comes in: without matrix units bfloat16 gains nothing.
    """
    query, key, value = _widen(query, key, value)
    mask = None if valid_BN is None else valid_BN[:, None, None]
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)


def attend_with_bias(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    valid_BN: Tensor | None,
    bias_of: Callable[[int, int], Tensor],
) -> Tensor:
    """The same with `bias_of(first, last)` (B, H, Q, N) added to those queries' scores.

    Queries are taken in stretches, so that the biases of all pairs of frames never exist at once.
    """
    query, key, value = _widen(query, key, value)
    size, num_heads, num_frames, _ = query.shape
    step = max(1, _BIAS_ELEMENTS // (size * num_heads * num_frames))
    mixed = []
    for first in range(0, num_frames, step):
        last = min(num_frames, first + step)
        bias_BHQN = bias_of(first, last).to(query.dtype)
        if valid_BN is not None:
            bias_BHQN = bias_BHQN.masked_fill(~valid_BN[:, None, None], -math.inf)
        mixed.append(
            functional.scaled_dot_product_attention(
                query[:, :, first:last], key, value, attn_mask=bias_BHQN, scale=1.0
            )
        )
    return torch.cat(mixed, dim=2)


def _widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    if tensors[0].device.type != "cpu":
        return tensors
    return tuple(tensor.float() for tensor in tensors)
