"""Centroids → better centroids: Lloyd's steps over all speech, in the memory of a part of it.

Each worker sums the frames of its parts by their nearest centroid; only these sums come back. They
are whole multiples of a small power of two, so that adding them is exact, and the result depends
neither on the number of workers nor on the order in which parts finish.
"""

# N frames, E dimensions after normalisation, K units, P units that a part has frames of

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.clustering.assignment import NearestCentroid
from cslm_data.clustering.moments import Moments, next_centroids
from cslm_data.clustering.normalisation import Normalisation
from cslm_data.engines import RunParts, Worker
from cslm_data.errors import AudioError, NoDataError
from cslm_data.features import FeatureExtractor
from cslm_data.keys import keyed_rng
from cslm_data.progress import progress
from cslm_data.units.extraction import Block, map_features
from cslm_data.units.stretches import Stretch

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_GRID_BITS = 24
"""Sums are multiples of 2^-24 of the largest centroid: 2^39 frames of its size fit into 64 bits."""


class PartSums(NamedTuple):
    """What a worker sends back of a part."""

    units_P: NDArray[np.int64]
    counts_P: NDArray[np.int64]
    sums_PE: NDArray[np.int64]
    """Multiples of the grid."""
    squares_P: NDArray[np.int64]
    """Of the grid times the scale."""
    num_failed: int


class FullPasses(NamedTuple):
    """The centroids after the passes, and what was seen on the way."""

    centroids_KE: Floats
    inertia: tuple[float, ...]
    """Mean squared distance in each pass, to the centroids that it began with."""
    num_frames: int
    num_failed: int
    """Pieces of speech that could not be read, of the last pass."""


def refine_on_all_speech(
    centroids_KE: Floats,
    *,
    make_summer: Callable[[Floats], Worker],
    open_parts: Callable[[], Iterable[tuple[Stretch, ...]]],
    total_s: float,
    num_passes: int,
    spherical: bool,
    seed: int,
    run_parts: RunParts,
    num_workers: int | None,
) -> FullPasses:
    """`num_passes` of Lloyd's steps over the parts of a corpus, `total_s` seconds in all.

    `make_summer` makes a worker from centroids: a function of that name here, but for them. Units
    without frames: see moments.next_centroids. Raises NoDataError where no part can be read.
    """
    inertia: list[float] = []
    found = Moments.nothing(*centroids_KE.shape)
    num_failed = 0
    for number in range(num_passes):
        make_worker = functools.partial(make_summer, centroids_KE)
        total = _Total(centroids_KE)
        with progress(f"full pass {number + 1}", total=total_s, unit="s of speech") as bar:
            for part, sums in run_parts(open_parts(), make_worker, num_workers):
                total.add(sums)
                bar.advance(sum(stretch.duration_s for stretch in part))
        found, num_failed = total.moments(), total.num_failed
        if not found.num_frames:
            raise NoDataError(
                "none of the speech can be read for a full pass; see: cslm-data audit, mend the "
                "audio, and ingest it again: cslm-data ingest FOLDER"
            )
        begun_KE = centroids_KE.astype(np.float64)
        inertia.append(found.inertia(begun_KE))
        moved_KE, num_empty = next_centroids(
            found,
            begun_KE,
            spherical=spherical,
            rng=keyed_rng(seed, "full pass", str(number)),
        )
        centroids_KE = moved_KE.astype(np.float32)
        log.info(
            "full pass %d: %d frames, mean squared distance %.6g, %d units without frames, "
            "%d pieces unreadable",
            number + 1,
            found.num_frames,
            inertia[-1],
            num_empty,
            num_failed,
        )
    return FullPasses(centroids_KE, tuple(inertia), found.num_frames, num_failed)


def make_summer(
    load: Callable[[], FeatureExtractor], normalisation: Normalisation, centroids_KE: Floats
) -> Worker:
    """A worker: stretches → PartSums of their frames."""
    features = load()
    nearest = NearestCentroid(centroids_KE)
    scale, grid = _grid(centroids_KE)

    def work(part: tuple[Stretch, ...]) -> PartSums:
        moments = Moments.nothing(*centroids_KE.shape)

        def consume(_stretch: Stretch, _first_frame: int, block: Block) -> None:
            frames_ND = block if isinstance(block, np.ndarray) else block.cpu().numpy()
            points_NE = normalisation.apply(frames_ND)
            moments.add(nearest(points_NE), points_NE)

        results = list(map_features(features, part, consume))
        units_P = np.flatnonzero(moments.counts_K)
        return PartSums(
            units_P,
            moments.counts_K[units_P],
            np.rint(moments.sums_KE[units_P] / grid).astype(np.int64),
            np.rint(moments.squares_K[units_P] / (grid * scale)).astype(np.int64),
            sum(isinstance(result, AudioError) for result in results),
        )

    return work


class _Total:
    """Exact sums of what the parts found."""

    def __init__(self, centroids_KE: Floats) -> None:
        self._scale, self._grid = _grid(centroids_KE)
        self._counts_K = np.zeros(len(centroids_KE), np.int64)
        self._sums_KE = np.zeros(centroids_KE.shape, np.int64)
        self._squares_K = np.zeros(len(centroids_KE), np.int64)
        self.num_failed = 0

    def add(self, part: PartSums) -> None:
        """Take in a part; the order does not matter."""
        self._counts_K[part.units_P] += part.counts_P
        self._sums_KE[part.units_P] += part.sums_PE
        self._squares_K[part.units_P] += part.squares_P
        self.num_failed += part.num_failed

    def moments(self) -> Moments:
        """Counts, sums and squares of all parts together."""
        return Moments(
            counts_K=self._counts_K,
            sums_KE=self._sums_KE * np.float64(self._grid),
            squares_K=self._squares_K * np.float64(self._grid * self._scale),
        )


def _grid(centroids_KE: Floats) -> tuple[float, float]:
    """The power of two above the largest number of the centroids, and the step of the sums."""
    largest = float(np.abs(centroids_KE).max()) or 1.0
    scale = 2.0 ** math.ceil(math.log2(largest))
    return scale, scale * 2.0**-_GRID_BITS
