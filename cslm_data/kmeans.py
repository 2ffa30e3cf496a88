"""Frames → centroids → units: bounded sampling, k-means, nearest centroid. Files: none.

Memory is bounded by the number of frames asked for, not by the corpus; nothing depends on the order
in which utterances arrive, on how they were batched, or on the number of threads.
"""

# N frames, D features, K units, U utterances, L languages

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cslm_data.engines.threads import limit_threads
from cslm_data.errors import NoDataError, TokenizerMismatchError, UsageError
from cslm_data.keys import key64, mix64
from cslm_data.records import Units

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Backend = Literal["faiss", "sklearn"]

MAX_UNITS = 1 << 16
FRAMES_PER_UNIT = 39
"""Fewer frames than this per unit and k-means fits noise (FAISS warns below the same number)."""

_ROWS = 1024
"""Frames assigned at a time: their distances to all centroids stay in the cache."""


# ------------------------------------------------------------------------------------- sampling
def language_quotas(
    available: Mapping[str, float], *, max_frames: int, temperature: float = 2.0
) -> dict[str, int]:
    """How many frames to take of each language: at most `max_frames`, at most what there is.

    Shares are proportional to `available ** (1 / temperature)`: 1 keeps the corpus's proportions,
    larger is more even. What a small language cannot fill goes to the others.
    """
    if temperature < 1:
        raise UsageError(f"temperature {temperature}: must be 1 or more")
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
    """A uniform sample of at most `capacity` frames out of any number, per language or in all.

    Each frame has a keyed priority (utterance, place in it, seed) and the lowest stay, so the
    sample does not depend on the order in which utterances are added.
    """

    def __init__(self, capacity: int, *, seed: int) -> None:
        self.capacity, self._seed = capacity, seed
        self.num_seen = 0
        self._frames: list[Floats] = []
        self._priorities: list[NDArray[np.uint64]] = []
        self._held = 0
        self._highest = np.uint64(0xFFFFFFFFFFFFFFFF)

    def add(self, utt_id: str, frames_ND: Floats) -> None:
        """Offer the frames of one utterance."""
        self.num_seen += len(frames_ND)
        first = np.uint64(key64("frames", utt_id))
        with np.errstate(over="ignore"):
            keys_N = first + np.arange(len(frames_ND), dtype=np.uint64)
        priorities_N = mix64(keys_N, self._seed)
        low_N = priorities_N <= self._highest
        self._frames.append(np.asarray(frames_ND[low_N], np.float32))
        self._priorities.append(priorities_N[low_N])
        self._held += int(low_N.sum())
        if self._held > self.capacity + max(self.capacity // 4, 10_000):
            self._shrink()

    def result(self) -> tuple[NDArray[np.uint64], Floats]:
        """The sample in the order of its priorities: uint64 (N,), float32 (N, D)."""
        self._shrink()
        if not self._frames:
            return np.zeros(0, np.uint64), np.zeros((0, 0), np.float32)
        return self._priorities[0], self._frames[0]

    def _shrink(self) -> None:
        if not self._frames:
            return
        priorities_N = np.concatenate(self._priorities)
        order_N = np.argsort(priorities_N, kind="stable")[: self.capacity]
        frames_ND = np.concatenate(self._frames)[order_N]
        self._priorities, self._frames = [priorities_N[order_N]], [frames_ND]
        self._held = len(order_N)
        if self._held == self.capacity and self._held:
            self._highest = self._priorities[0][-1]


# -------------------------------------------------------------------------------------- fitting
@dataclass(frozen=True, kw_only=True, eq=False)
class KMeansFit:
    """Centroids and how they came about."""

    centroids_KD: Floats
    inertia: tuple[float, ...]
    """Mean squared distance to the nearest centroid, at each iteration (sklearn: the last only)."""
    num_frames: int
    backend: Backend


def feasible_num_units(num_frames: int, num_units: int) -> int:
    """The number of units that so many frames can carry: 39 frames for each, at least two units."""
    return max(2, min(num_units, num_frames // FRAMES_PER_UNIT))


def fit_kmeans(
    frames_ND: Floats,
    *,
    num_units: int,
    seed: int,
    num_iterations: int = 25,
    backend: Backend = "faiss",
    num_threads: int = 1,
) -> KMeansFit:
    """K centroids of the frames: float32 (N, D) → (K, D), K reduced where N is small.

    `faiss` uses every frame in every iteration; `sklearn` is fairseq's recipe (MiniBatchKMeans, 20
    starts, batches of 10 000). One thread gives the same bytes each time. A cluster that runs
    empty takes half of a large one. Raises NoDataError below two frames.
    """
    if not 2 <= num_units <= MAX_UNITS:
        raise UsageError(f"--num-units {num_units}: must be from 2 to {MAX_UNITS}")
    if backend not in ("faiss", "sklearn"):
        raise UsageError(f"backend {backend!r}: choose faiss or sklearn")
    if len(frames_ND) < 2:
        raise NoDataError(
            f"{len(frames_ND)} frames are too few for k-means; ingest more speech: "
            "cslm-data ingest FOLDER"
        )
    frames_ND = np.ascontiguousarray(frames_ND, np.float32)
    feasible = feasible_num_units(len(frames_ND), num_units)
    if feasible < num_units:
        log.warning(
            "%d units asked for, but %d frames carry only %d", num_units, len(frames_ND), feasible
        )
    fit = _fit_faiss if backend == "faiss" else _fit_sklearn
    centroids_KD, inertia = fit(frames_ND, feasible, seed, num_iterations, num_threads)
    log.info(
        "k-means: %d frames of %d numbers, %d units, mean squared distance %s",
        *frames_ND.shape,
        feasible,
        " ".join(f"{value:.4g}" for value in (*inertia[:3], *inertia[3:][-1:])),
    )
    return KMeansFit(
        centroids_KD=centroids_KD, inertia=inertia, num_frames=len(frames_ND), backend=backend
    )


def _fit_faiss(
    frames_ND: Floats, num_units: int, seed: int, num_iterations: int, num_threads: int
) -> tuple[Floats, tuple[float, ...]]:
    import faiss

    with limit_threads(num_threads):
        kmeans = faiss.Kmeans(
            frames_ND.shape[1],
            num_units,
            niter=num_iterations,
            seed=_short_seed(seed),
            # FAISS would otherwise look at 256 frames per centroid only, and warn below 39.
            max_points_per_centroid=len(frames_ND),
            min_points_per_centroid=1,
        )
        kmeans.train(frames_ND)
    inertia = tuple(float(value) / len(frames_ND) for value in np.asarray(kmeans.obj))
    return np.ascontiguousarray(kmeans.centroids, np.float32), inertia


def _fit_sklearn(
    frames_ND: Floats, num_units: int, seed: int, num_iterations: int, num_threads: int
) -> tuple[Floats, tuple[float, ...]]:
    from sklearn.cluster import MiniBatchKMeans

    with limit_threads(num_threads):
        kmeans = MiniBatchKMeans(
            n_clusters=num_units,
            init="k-means++",
            max_iter=4 * num_iterations,
            batch_size=10_000,
            tol=0.0,
            max_no_improvement=100,
            n_init=20,
            reassignment_ratio=0.0,
            random_state=_short_seed(seed),
            compute_labels=False,
        )
        kmeans.fit(frames_ND)
    centroids_KD = np.ascontiguousarray(kmeans.cluster_centers_, np.float32)
    nearest_ND = centroids_KD[assign_units(frames_ND, centroids_KD)]
    return centroids_KD, (float(((frames_ND - nearest_ND) ** 2).sum(axis=1).mean()),)


def _short_seed(seed: int) -> int:
    return key64("kmeans", str(seed)) % (1 << 31)


# ----------------------------------------------------------------------------------- assignment
def assign_units(features_ND: Floats, centroids_KD: Floats) -> Units:
    """Nearest centroid of each frame, the lowest of equals: float32 (N, D) → uint16 (N,).

    A float32 GEMM finds the candidates; where several lie within its rounding error, their
    distances are computed anew in float64, row by row. So a unit depends on its frame alone: not
    on the frames beside it, the BLAS, or the threads. Raises TokenizerMismatchError if D differs.
    Source: GSLM, arXiv:2102.01192, §3.1.
    """
    if features_ND.ndim != 2 or features_ND.shape[1] != centroids_KD.shape[1]:
        raise TokenizerMismatchError(
            f"features of {features_ND.shape[-1]} numbers a frame, centroids of "
            f"{centroids_KD.shape[1]}: they belong to different extractors or layers; "
            "quantize with the tokenizer's own extractor"
        )
    centroids_DK = np.ascontiguousarray(centroids_KD.T, np.float32)
    norms_K = np.einsum("kd,kd->k", centroids_KD, centroids_KD, dtype=np.float64)
    half_norms_K = (norms_K / 2).astype(np.float32)
    longest = float(np.sqrt(norms_K.max()))
    units_N = np.empty(len(features_ND), np.uint16)
    for start in range(0, len(features_ND), _ROWS):
        block_ND = np.ascontiguousarray(features_ND[start : start + _ROWS], np.float32)
        # Half the squared distance, less what is equal for all centroids.
        score_NK = half_norms_K - block_ND @ centroids_DK
        best_N = score_NK.argmin(axis=1)
        lengths_N = np.sqrt(np.einsum("nd,nd->n", block_ND, block_ND))
        error_N = _EPSILON * ((block_ND.shape[1] + 4) * lengths_N * longest + longest**2)
        limit_N = score_NK[np.arange(len(block_ND)), best_N] + 2 * error_N
        close_NK = score_NK <= limit_N[:, None].astype(np.float32)
        _settle(block_ND, centroids_KD, close_NK, best_N)
        units_N[start : start + _ROWS] = best_N
    return units_N


_EPSILON = float(np.finfo(np.float32).eps)


def _settle(
    block_ND: Floats, centroids_KD: Floats, close_NK: NDArray[np.bool_], best_N: NDArray[np.intp]
) -> None:
    """Decide the rows with several candidates by float64 distances; changes `best_N`."""
    unclear_R = np.flatnonzero(np.count_nonzero(close_NK, axis=1) > 1)
    if not len(unclear_R):
        return
    row_P, unit_P = np.nonzero(close_NK[unclear_R])
    difference_PD = block_ND[unclear_R][row_P].astype(np.float64) - centroids_KD[unit_P]
    distance_P = (difference_PD**2).sum(axis=1)
    order_P = np.lexsort((unit_P, distance_P, row_P))
    _, first = np.unique(row_P[order_P], return_index=True)
    best_N[unclear_R] = unit_P[order_P][first]
