"""Frames → centroids by Lloyd's algorithm in torch: bfloat16 products, exact sums. Files: none.

The distances of all frames to all centroids are one matrix product. Where the processor multiplies
bfloat16 faster than float32 (AMX, AVX512-BF16, any GPU), that product only has to say which
centroid is nearest; sums and inertia are taken from the frames themselves. Blocks of frames are
added up in their order, so that the result does not depend on the number of threads.

Centroids do not stop at the mean of their frames, but go 1.8 times as far (the first two steps and
the last one excepted). Below twice as far, the frames that they have are no further from them than
they were, and where they would go next is met sooner: 16 such steps end where 25 plain ones do, on
MFCC and on HuBERT alike.

Two roundings would spoil bfloat16 scores, and are kept out: of what all frames have in common (it
is subtracted first), and of the result (from the second iteration on, the score that a frame had
before is subtracted within the product, so that the scores that matter are small). Where clusters
are much finer than the spread of the frames, that is not enough: a probe of the frames is compared
with float32 products at each iteration, and these take over when it shows.
"""

# N frames, B frames of a block, E dimensions, K units, A = E + 4 dimensions with norm and offset

from __future__ import annotations

import collections
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch

from cslm_data.clustering.moments import Doubles, Floats, Moments, next_centroids
from cslm_data.clustering.normalisation import to_sphere

log = logging.getLogger(__name__)

Arithmetic = Literal["bfloat16", "float32"]

_BLOCK = 8192
"""Frames whose sums are taken in float32 before they are added in float64."""
_STRIDE = 1.8
_PLAIN_STEPS = 2
"""The first means are far from where the centroids began: a start is a single frame."""
_SCORE_BYTES = 1 << 21
"""Scores computed at a time on a CPU: they stay in the cache."""
_LEAST_ROWS = 128
_PROBE = 2048
"""Frames on which bfloat16 is compared with float32."""
_TOLERATED = 1e-3
"""Share of the inertia that wrong choices may add before float32 takes over."""
_DEVICE_SHARE = 0.5
"""Of a GPU's free memory, what the sample may fill; a larger one is sent over block by block."""


def fast_arithmetic(device: str) -> Arithmetic:
    """bfloat16 where the processor has instructions for it, else float32."""
    if device.startswith("cuda"):
        return "bfloat16"
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, c, bool)() for c in checks) else "float32"


def lloyd(
    frames_NE: Floats,
    starts_KE: Floats,
    *,
    num_iterations: int,
    rng: np.random.Generator,
    spherical: bool = False,
    device: str = "cpu",
    arithmetic: Arithmetic = "bfloat16",
    num_threads: int = 1,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[Floats, tuple[float, ...]]:
    """Centroids float32 (K, E), and the mean squared distance of the frames at each iteration.

    Ends early when the means are those of the step before. Units that run empty: see
    moments.next_centroids, to which `rng` goes. `advance` is called after each iteration. Set torch
    to one thread; `num_threads` blocks are computed side by side, or fewer where so many sums would
    take more memory than half the frames.
    """
    num_threads = max(1, min(num_threads, frames_NE.nbytes // (2 * starts_KE.nbytes)))
    sample = _Sample(frames_NE, device=device, arithmetic=arithmetic, centred=not spherical)
    centroids_KE = starts_KE - sample.mean_E
    means_KE = np.full_like(centroids_KE, np.nan)
    inertia: list[float] = []
    with torch.inference_mode(), ThreadPoolExecutor(num_threads) as pool:
        for number in range(num_iterations):
            moments = sample.moments(centroids_KE, pool, num_threads)
            inertia.append(moments.inertia(centroids_KE))
            before_KE = means_KE
            means_KE, num_empty = next_centroids(
                moments, centroids_KE, spherical=spherical, rng=rng
            )
            advance(1)
            if np.array_equal(before_KE, means_KE):
                break
            if number < _PLAIN_STEPS or num_empty:
                centroids_KE = means_KE
            else:
                centroids_KE = centroids_KE + _STRIDE * (means_KE - centroids_KE)
                if spherical:
                    centroids_KE = to_sphere(centroids_KE.astype(np.float32)).astype(np.float64)
    return (means_KE + sample.mean_E).astype(np.float32), tuple(inertia)


class _Sums(NamedTuple):
    """Moments of a block, in the precision of the device."""

    counts_K: torch.Tensor
    sums_KE: torch.Tensor
    squares_K: torch.Tensor


class _Sample:
    """The frames on their device, with what is known of each."""

    def __init__(
        self, frames_NE: Floats, *, device: str, arithmetic: Arithmetic, centred: bool
    ) -> None:
        self._device = torch.device(device)
        self._frames_NE = torch.from_numpy(frames_NE)
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            if frames_NE.nbytes < _DEVICE_SHARE * free:
                self._frames_NE = self._frames_NE.to(self._device)
        size, dim = frames_NE.shape
        self.mean_E = frames_NE.mean(axis=0, dtype=np.float64) if centred else np.zeros(dim)
        mean_E = torch.from_numpy(self.mean_E.astype(np.float32)).to(self._device)
        self._squares_N = torch.empty(size, device=self._device)
        for start in range(0, size, _BLOCK):
            centred_BE = self._block(start) - mean_E
            self._squares_N[start : start + _BLOCK] = centred_BE.square().sum(dim=1)
        self._exact = _Float32Search(mean_E)
        self._search: _Search = self._exact
        if arithmetic == "bfloat16":
            self._search = _Bfloat16Search(mean_E, size)
            self._probe_P = torch.arange(0, size, max(1, size // _PROBE), device=self._device)
            # Copies: they are asked for at each iteration.
            self._probe_PE = self._frames_NE[self._probe_P.to(self._frames_NE.device)]
            self._probe_PE = self._probe_PE.to(self._device)

    def moments(self, centroids_KE: Doubles, pool: ThreadPoolExecutor, ahead: int) -> Moments:
        """Moments of the frames less their mean, by the nearest of the centroids less it."""
        num_units = len(centroids_KE)
        self._search.load(centroids_KE)
        if isinstance(self._search, _Bfloat16Search) and self._is_too_coarse(centroids_KE):
            log.info("bfloat16 is too coarse for clusters so fine; going on in float32")
            self._search = self._exact
            self._search.load(centroids_KE)
        counts_K = np.zeros(num_units, np.int64)
        sums_KE = np.zeros(centroids_KE.shape)
        squares_K = np.zeros(num_units)
        starts = range(0, len(self._frames_NE), _BLOCK)
        add_up = functools.partial(self._sums, num_units=num_units)
        for sums in _in_order(pool, add_up, starts, ahead):
            counts_K += sums.counts_K.cpu().numpy()
            sums_KE += sums.sums_KE.cpu().numpy()
            squares_K += sums.squares_K.cpu().numpy()
        # The frames were added as they are.
        sums_KE -= counts_K[:, None] * self.mean_E
        return Moments(counts_K=counts_K, sums_KE=sums_KE, squares_K=squares_K)

    def _is_too_coarse(self, centroids_KE: Doubles) -> bool:
        """Whether wrong choices add to the inertia of the probe."""
        self._exact.load(centroids_KE)
        units_P = self._search.nearest(self._probe_P, self._probe_PE)
        scores_PK = self._exact.scores(self._probe_PE)
        excess_P = scores_PK.gather(1, units_P[:, None])[:, 0] - scores_PK.amin(dim=1)
        # Scores are half the squared distances, less half the square of the frame.
        inertia_P = scores_PK.amin(dim=1) + self._squares_N[self._probe_P] / 2
        return bool(excess_P.sum() > _TOLERATED * inertia_P.sum())

    def _block(self, start: int) -> torch.Tensor:
        return self._frames_NE[start : start + _BLOCK].to(self._device)

    def _sums(self, start: int, *, num_units: int) -> _Sums:
        with torch.inference_mode():
            block_BE = self._block(start)
            units_B = torch.empty(len(block_BE), dtype=torch.int64, device=self._device)
            rows = len(block_BE)
            if self._device.type == "cpu":
                rows = min(
                    rows, max(_SCORE_BYTES // self._search.score_bytes // num_units, _LEAST_ROWS)
                )
            for row in range(0, len(block_BE), rows):
                some_BE = block_BE[row : row + rows]
                places = slice(start + row, start + row + len(some_BE))
                units_B[row : row + rows] = self._search.nearest(places, some_BE)
            counts_K = torch.bincount(units_B, minlength=num_units)
            order_B, starts_K = _by_unit(units_B), counts_K.cumsum(0) - counts_K
            squares_B1 = self._squares_N[start : start + _BLOCK, None]
            sums_KE, squares_K1 = (
                torch.nn.functional.embedding_bag(order_B, values, starts_K, mode="sum")
                for values in (block_BE, squares_B1)
            )
            return _Sums(counts_K, sums_KE, squares_K1[:, 0])


class _Scratch(threading.local):
    """Arrays kept from block to block, by name, each thread its own.

    To make an array of megabytes costs more than to fill it. Its content is that of the last use.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """The array of that name, of this shape."""
        size = shape[0] * shape[1]
        if name not in self._kept or len(self._kept[name]) < size:
            self._kept[name] = torch.empty(size, dtype=dtype, device=self._device)
        return self._kept[name][:size].view(shape)


class _Bfloat16Search:
    """Which centroid is nearest, by bfloat16 products; remembers the last score of each frame."""

    score_bytes = 2

    def __init__(self, mean_E: torch.Tensor, num_frames: int) -> None:
        self._mean_E = mean_E
        self._scratch = _Scratch(mean_E.device)
        self._offsets_N = torch.zeros(num_frames, device=mean_E.device)
        self._table_AK = torch.zeros(0, 0)

    def load(self, centroids_KE: Doubles) -> None:
        """Take centroids, less the mean."""
        norms_K = torch.from_numpy(np.einsum("ke,ke->k", centroids_KE, centroids_KE) / 2)
        parts = torch.from_numpy(-centroids_KE), torch.ones(len(norms_K), 2), _two_parts(norms_K)
        table_KA = torch.cat([part.bfloat16() for part in parts], dim=1)
        self._table_AK = table_KA.T.contiguous().to(self._mean_E.device)

    def nearest(self, places: slice | torch.Tensor, rows_BE: torch.Tensor) -> torch.Tensor:
        """Units int64 (B,) of the frames at those places of the sample: float32 (B, E)."""
        dim, offsets_B = rows_BE.shape[1], self._offsets_N[places]
        num_rows, (num_columns, num_units) = len(rows_BE), self._table_AK.shape
        rows_BA = self._scratch.take("rows", (num_rows, num_columns), torch.bfloat16)
        torch.sub(rows_BE, self._mean_E, out=rows_BA[:, :dim])
        rows_BA[:, dim : dim + 2] = _two_parts(-offsets_B)
        rows_BA[:, dim + 2 :] = 1
        scores_BK = self._scratch.take("scores", (num_rows, num_units), torch.bfloat16)
        torch.mm(rows_BA, self._table_AK, out=scores_BK)
        if scores_BK.device.type == "cpu":
            # numpy knows no bfloat16, and torch searches it slowly.
            wide_BK = self._scratch.take("wide", (num_rows, num_units), torch.float32)
            scores_BK = wide_BK.copy_(scores_BK)
        units_B = _lowest(scores_BK)
        self._offsets_N[places] = offsets_B + scores_BK.gather(1, units_B[:, None])[:, 0]
        return units_B


class _Float32Search:
    """The same by float32 products."""

    score_bytes = 4

    def __init__(self, mean_E: torch.Tensor) -> None:
        self._mean_E = mean_E
        self._scratch = _Scratch(mean_E.device)
        self._norms_K = self._centroids_EK = torch.zeros(0)

    def load(self, centroids_KE: Doubles) -> None:
        """Take centroids, less the mean."""
        norms_K = np.einsum("ke,ke->k", centroids_KE, centroids_KE) / 2
        norms_K += centroids_KE @ self._mean_E.cpu().double().numpy()
        self._norms_K = torch.from_numpy(norms_K).float().to(self._mean_E.device)
        self._centroids_EK = torch.from_numpy(centroids_KE.T).float().contiguous()
        self._centroids_EK = self._centroids_EK.to(self._mean_E.device)

    def nearest(self, places: slice | torch.Tensor, rows_BE: torch.Tensor) -> torch.Tensor:
        """Units int64 (B,): float32 (B, E)."""
        return _lowest(self.scores(rows_BE))

    def scores(self, rows_BE: torch.Tensor) -> torch.Tensor:
        """Half the squared distances, less half the square of each frame: (B, E) → (B, K)."""
        shape = len(rows_BE), len(self._norms_K)
        scores_BK = self._scratch.take("scores", shape, torch.float32)
        torch.mm(rows_BE, self._centroids_EK, out=scores_BK)
        return torch.sub(self._norms_K, scores_BK, out=scores_BK)


_Search = _Bfloat16Search | _Float32Search


def _two_parts(values: torch.Tensor) -> torch.Tensor:
    """Numbers as sums of two bfloat16: (…,) → (…, 2), with 16 bits of precision instead of 8."""
    high = values.bfloat16()
    return torch.stack([high, (values - high.to(values.dtype)).bfloat16()], dim=-1)


def _lowest(scores_BK: torch.Tensor) -> torch.Tensor:
    """Column of the lowest score of each row; numpy's search is several times torch's on a CPU."""
    if scores_BK.device.type == "cpu":
        return torch.from_numpy(scores_BK.numpy().argmin(axis=1))
    return scores_BK.argmin(dim=1)


def _by_unit(units_B: torch.Tensor) -> torch.Tensor:
    """Places of the frames, those of one unit together and in their order."""
    if units_B.device.type == "cpu":
        # A radix sort, as long as the numbers have 16 bits.
        return torch.from_numpy(units_B.numpy().astype(np.uint16).argsort(kind="stable"))
    return units_B.argsort(stable=True)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int], _Sums], items: Iterable[int], ahead: int
) -> Iterator[_Sums]:
    """Results in the order of the items, computed side by side, few of them kept waiting."""
    running: collections.deque[Future[_Sums]] = collections.deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) > ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
