"""Speech → a bounded sample of its frames, for k-means. Reads audio.

Each frame has a keyed priority (recording, place in it, seed), and of each language the lowest
stay. So the sample depends neither on the order in which recordings arrive nor on how they were
dealt out to workers, and a worker sends on only frames that may stay.
"""

# N frames, D features

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.engines import Worker
from cslm_data.errors import AudioError, UsageError
from cslm_data.features import FeatureExtractor
from cslm_data.keys import key64, mix64
from cslm_data.units.extraction import Block, map_features
from cslm_data.units.stretches import Stretch

Floats = NDArray[np.float32]
Priorities = NDArray[np.uint64]

_SLACK = 8
"""Rows beyond a quota that are held before the highest are dropped: one in so many of the quota."""
_LEAST_SLACK = 1024
_COLUMNS = 32
"""Columns put in order at a time: what must be copied for that."""
_ROWS = 4096
_HIGHEST = 0xFFFFFFFFFFFFFFFF


def language_quotas(
    available: Mapping[str, float], *, max_frames: int, temperature: float = 2.0
) -> dict[str, int]:
    """How many frames to take of each language: at most `max_frames`, at most what there is.

    Shares are proportional to `available ** (1 / temperature)`: 1 keeps the corpus's proportions,
    larger is more even. What a small language cannot fill goes to the others.
    """
    if temperature < 1:
        raise UsageError(f"--temperature {temperature}: must be 1 or more")
    quotas: dict[str, int] = {}
    left = float(max_frames)
    weights = {
        name: amount ** (1 / temperature) for name, amount in available.items() if amount > 0
    }
    # Languages in the order in which they run dry: what one leaves over, the next ones share.
    for name in sorted(weights, key=lambda name: (available[name] / weights[name], name)):
        share = left * weights[name] / sum(weights[n] for n in weights if n not in quotas)
        quotas[name] = int(min(share, available[name]))
        left -= quotas[name]
    return dict(sorted(quotas.items()))


class FrameReservoir:
    """Of each language the `quotas[language]` frames of lowest priority, out of any number.

    One buffer, a fraction larger than the sample, is all the memory it takes.
    """

    def __init__(self, quotas: Mapping[str, int]) -> None:
        self._quotas = dict(sorted(quotas.items()))
        self._starts: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        size = 0
        for language, quota in self._quotas.items():
            self._starts[language] = size
            size += quota + max(quota // _SLACK, _LEAST_SLACK)
            self._ends[language] = size
        self._priorities_N: Priorities = np.empty(size, np.uint64)
        self._frames_ND: Floats | None = None
        self._held = dict.fromkeys(self._quotas, 0)
        self._bounds = dict.fromkeys(self._quotas, _HIGHEST)

    def add(self, language: str, priorities_N: Priorities, frames_ND: Floats) -> None:
        """Offer frames of a language: uint64 (N,), float32 (N, D)."""
        if self._frames_ND is None:
            # Memory that is not written is not taken.
            self._frames_ND = np.empty((len(self._priorities_N), frames_ND.shape[1]), np.float32)
        low = np.flatnonzero(priorities_N <= np.uint64(self._bounds[language]))
        while len(low):
            start = self._starts[language] + self._held[language]
            taken, low = np.split(low, [self._ends[language] - start])
            self._priorities_N[start : start + len(taken)] = priorities_N[taken]
            self._frames_ND[start : start + len(taken)] = frames_ND[taken]
            self._held[language] += len(taken)
            if start + len(taken) == self._ends[language]:
                self._drop_highest(language)
                low = low[priorities_N[low] <= np.uint64(self._bounds[language])]

    def result(self) -> tuple[Floats, dict[str, int]]:
        """The sample in the order of its priorities, and how many frames each language gave.

        float32 (N, D), a view of the buffer; nothing can be added after it.
        """
        for language in self._quotas:
            self._drop_highest(language)
        counts = dict(self._held)
        if self._frames_ND is None:
            return np.zeros((0, 0), np.float32), counts
        size = 0
        for language, count in counts.items():
            self._move(self._starts[language], size, count)
            size += count
        frames_ND, priorities_N = self._frames_ND[:size], self._priorities_N[:size]
        order_N = np.argsort(priorities_N, kind="stable")
        for column in range(0, frames_ND.shape[1], _COLUMNS):
            columns = slice(column, column + _COLUMNS)
            frames_ND[:, columns] = frames_ND[order_N, columns]
        return frames_ND, counts

    def _drop_highest(self, language: str) -> None:
        """Bring a language down to its quota: holes below it are filled from above."""
        held, quota, start = self._held[language], self._quotas[language], self._starts[language]
        if held <= quota or self._frames_ND is None:
            return
        priorities_N = self._priorities_N[start : start + held]
        frames_ND = self._frames_ND[start : start + held]
        stays_N = np.zeros(held, bool)
        stays_N[np.argpartition(priorities_N, quota)[:quota]] = True
        holes, movers = np.flatnonzero(~stays_N[:quota]), quota + np.flatnonzero(stays_N[quota:])
        priorities_N[holes] = priorities_N[movers]
        frames_ND[holes] = frames_ND[movers]
        self._held[language] = quota
        self._bounds[language] = int(priorities_N[:quota].max(initial=0))

    def _move(self, start: int, to: int, count: int) -> None:
        """Rows down to a lower place, a block at a time."""
        assert self._frames_ND is not None
        if start == to:
            return
        for row in range(0, count, _ROWS):
            rows = min(_ROWS, count - row)
            for array in (self._frames_ND, self._priorities_N):
                array[to + row : to + row + rows] = array[start + row : start + row + rows]


class Sampled(NamedTuple):
    """The frames of one recording that may stay."""

    priorities_N: Priorities
    frames_ND: Floats


def frame_priorities(stretch: Stretch, first_frame: int, num_frames: int, seed: int) -> Priorities:
    """Keyed random numbers of neighbouring frames of a recording: uint64 (N,)."""
    first = key64("frames", stretch.utt_id, f"{stretch.offset_s:.6f}") + first_frame
    with np.errstate(over="ignore"):
        keys_N = np.uint64(first & _HIGHEST) + np.arange(num_frames, dtype=np.uint64)
    return mix64(keys_N, seed)


def make_frame_sampler(
    load: Callable[[], FeatureExtractor], *, bounds: Mapping[str, int], seed: int
) -> Worker:
    """A worker: stretches → of each the frames under the bound of its language, or what is wrong.

    Returns a list of Sampled and str.
    """
    features = load()

    def consume(stretch: Stretch, first_frame: int, block: Block) -> Sampled:
        priorities_N = frame_priorities(stretch, first_frame, len(block), seed)
        low = np.flatnonzero(priorities_N <= np.uint64(bounds[stretch.language]))
        kept = block[low] if isinstance(block, np.ndarray) else block[low].cpu().numpy()
        return Sampled(priorities_N[low], kept)

    def work(part: tuple[Stretch, ...]) -> list[Sampled | str]:
        results: list[Sampled | str] = []
        for blocks in map_features(features, part, consume):
            if isinstance(blocks, AudioError):
                results.append(str(blocks))
            else:
                results.append(Sampled(*map(np.concatenate, zip(*blocks, strict=True))))
        return results

    return work


def share_bound(share: float) -> int:
    """The priority below which that share of all frames lies."""
    return _HIGHEST if share >= 1 else int(share * _HIGHEST)
