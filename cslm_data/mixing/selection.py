"""weights + available tokens → how much of each source, and which of its samples. Pure."""

# S sources, N candidates of one source

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]


def water_fill(
    weights_S: Sequence[float], capacities_S: Sequence[float], total: float
) -> list[float]:
    """Tokens of each source: shares of the total by weight, none over its capacity.

    What a source cannot give is shared among the others in proportion to their weights, until all
    is given or every source is empty.
    """
    given = [0.0] * len(weights_S)
    active = [i for i, weight in enumerate(weights_S) if weight > 0 and capacities_S[i] > 0]
    left = float(total)
    while active:
        scale = left / sum(weights_S[i] for i in active)
        full = [i for i in active if weights_S[i] * scale >= capacities_S[i]]
        if not full:
            for i in active:
                given[i] = weights_S[i] * scale
            break
        for i in full:
            given[i] = float(capacities_S[i])
            left -= capacities_S[i]
        active = [i for i in active if i not in full]
        left = max(left, 0.0)
    return given


def take(
    tokens_of_epoch: Callable[[int], U32], order_N: NDArray[np.intp], target: float
) -> list[NDArray[np.intp]]:
    """Which candidates in each epoch, to come as near to `target` tokens as whole samples allow.

    Whole epochs first, then the beginning of `order_N`; `tokens_of_epoch` gives uint32 (N,).
    """
    epochs: list[NDArray[np.intp]] = []
    left = target
    while len(order_N):
        running = np.cumsum(tokens_of_epoch(len(epochs))[order_N], dtype=np.int64)
        if left >= running[-1]:
            epochs.append(order_N)
            left -= float(running[-1])
            continue
        count = int(np.searchsorted(running, left, side="right"))
        before = running[count - 1] if count else 0
        if running[count] - left < left - before:
            count += 1
        if count:
            epochs.append(order_N[:count])
        break
    return epochs
