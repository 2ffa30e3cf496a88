"""Logits → the next token of each sequence, each drawn with its own stream of random numbers."""

# B sequences of a batch, V vocabulary, K likeliest tokens

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cslm_data.errors import UsageError

NUCLEUS_GUESS = 128
"""Of how many tokens the likeliest are sorted first; all of them only where these fall short."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. What is drawn depends on the seed and a prompt's key alone."""

    temperature: float = 0.0
    """0: the likeliest token."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this much of the probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that cannot be."""
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")


GREEDY = Sampling()


@torch.inference_mode()
def choose(
    logits_BV: Tensor, sampling: Sampling, rngs: Sequence[np.random.Generator]
) -> tuple[Tensor, list[int]]:
    """One token for each row, the likeliest or drawn: fp32 (B, V) → int64 (B,), here and there.

    Waits for the device once, to read them; once more where a nucleus is larger than guessed.
    """
    if sampling.temperature == 0:
        tokens_B = logits_BV.argmax(dim=-1)
        return tokens_B, tokens_B.tolist()
    uniform_B1 = torch.tensor([[rng.random()] for rng in rngs], dtype=torch.float64)
    uniform_B1 = uniform_B1.to(logits_BV.device, non_blocking=True)
    highest_B1 = logits_BV.amax(dim=-1, keepdim=True).double()

    def weights(logits: Tensor) -> Tensor:
        # The largest becomes 1, so that a low temperature cannot overflow.
        return ((logits.double() - highest_B1) / sampling.temperature).exp_()

    weights_BV = weights(logits_BV)
    if sampling.top_p == 1:
        tokens_B = _draw(weights_BV, uniform_B1)[:, 0]
        return tokens_B, tokens_B.tolist()
    limit_B1 = sampling.top_p * weights_BV.sum(dim=-1, keepdim=True)
    for likeliest in (NUCLEUS_GUESS, logits_BV.size(1)):
        values_BK, order_BK = _likeliest(logits_BV, likeliest)
        weights_BK = weights(values_BK)
        inside_BK = weights_BK.cumsum(dim=-1) - weights_BK < limit_B1
        places_B1 = _draw(weights_BK.masked_fill(~inside_BK, 0.0), uniform_B1)
        tokens_B = order_BK.gather(1, places_B1)[:, 0]
        # A nucleus is whole if its last token is likelier than the last of the K: none as likely
        # can lie beyond.
        last_B1 = inside_BK.sum(dim=-1, keepdim=True) - 1
        whole_B = values_BK.gather(1, last_B1)[:, 0] > values_BK[:, -1]
        tokens, whole = torch.stack((tokens_B, whole_B.long())).tolist()
        if all(whole):
            break
    return tokens_B, tokens


def _likeliest(logits_BV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The K largest and their tokens, in falling order; of equal ones the first token first."""
    if count >= logits_BV.size(1):
        values_BV, tokens_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
        return values_BV, tokens_BV
    tokens_BK = logits_BV.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    values_BK, order_BK = logits_BV.gather(1, tokens_BK).sort(dim=-1, descending=True, stable=True)
    return values_BK, tokens_BK.gather(1, order_BK)


def _draw(weights_BK: Tensor, uniform_B1: Tensor) -> Tensor:
    """Where in each row a number from 0 to 1 falls, by the weights: (B, 1)."""
    sums_BK = weights_BK.cumsum(dim=-1)
    total_B1 = sums_BK[:, -1:]
    # Below the total even where the product is rounded up: some weight lies beyond it.
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    return torch.searchsorted(sums_BK, torch.minimum(uniform_B1 * total_B1, below_B1), right=True)
