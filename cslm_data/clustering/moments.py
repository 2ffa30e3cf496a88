"""What one pass of k-means learns of the frames, and the centroids that follow from it.

Counts, sums and sums of squares per unit are all that Lloyd's step needs, and they add up: over
blocks of a sample in memory, over parts of a corpus that is not.
"""

# N frames, E dimensions, K units

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cslm_data.clustering.normalisation import to_sphere
from cslm_data.records import Units

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SPLIT = 0.1
"""How far the halves of a cluster begin from its middle, in standard deviations of its frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Sums over the frames of each unit."""

    counts_K: NDArray[np.int64]
    sums_KE: Doubles
    squares_K: Doubles
    """Σ |x|² of the frames of each unit."""

    @classmethod
    def nothing(cls, num_units: int, dim: int) -> Moments:
        """Those of no frames yet."""
        return cls(
            counts_K=np.zeros(num_units, np.int64),
            sums_KE=np.zeros((num_units, dim)),
            squares_K=np.zeros(num_units),
        )

    def add(self, units_N: Units, frames_NE: Floats) -> None:
        """Take in frames with their units, in place."""
        order_N = np.argsort(units_N, kind="stable")
        units_P, starts_P = np.unique(units_N[order_N], return_index=True)
        values_NE = frames_NE[order_N].astype(np.float64)
        self.counts_K[units_P] += np.diff(starts_P, append=len(order_N))
        self.sums_KE[units_P] += np.add.reduceat(values_NE, starts_P, axis=0)
        squares_N = np.einsum("ne,ne->n", values_NE, values_NE)
        self.squares_K[units_P] += np.add.reduceat(squares_N, starts_P)

    @property
    def num_frames(self) -> int:
        """How many frames there were."""
        return int(self.counts_K.sum())

    def inertia(self, centroids_KE: Doubles) -> float:
        """Mean squared distance of the frames to the centroid of their unit."""
        norms_K = np.einsum("ke,ke->k", centroids_KE, centroids_KE)
        products_K = np.einsum("ke,ke->k", self.sums_KE, centroids_KE)
        total = (self.squares_K - 2 * products_K + self.counts_K * norms_K).sum()
        return max(0.0, float(total) / max(self.num_frames, 1))


def next_centroids(
    moments: Moments, centroids_KE: Doubles, *, spherical: bool, rng: np.random.Generator
) -> tuple[Doubles, int]:
    """Lloyd's step: the mean of each unit's frames; and how many units had none.

    A unit without frames takes half of the unit with the largest sum of squared distances (not the
    most frames: silence may be thousands of equal ones, which nothing can split). Where all frames
    lie on centroids there is nothing to split, and it stays where it was. `spherical` scales the
    means to length 1.
    """
    counts_K = moments.counts_K.astype(np.float64)
    used_K = counts_K > 0
    means_KE = moments.sums_KE / np.maximum(counts_K, 1)[:, None]
    next_KE = np.where(used_K[:, None], means_KE, centroids_KE)
    spread_K = moments.squares_K - counts_K * np.einsum("ke,ke->k", means_KE, means_KE)
    # What is left of a subtraction of equal numbers is rounding, not spread.
    spread_K[spread_K <= 1e-6 * moments.squares_K] = 0
    empty = np.flatnonzero(~used_K)
    for unit in empty.tolist():
        donor = int(spread_K.argmax())
        if spread_K[donor] <= 0 or counts_K[donor] < 2:
            break
        deviation = np.sqrt(spread_K[donor] / counts_K[donor] / next_KE.shape[1])
        step_E = _SPLIT * deviation * rng.choice((-1.0, 1.0), next_KE.shape[1])
        next_KE[unit], next_KE[donor] = next_KE[donor] + step_E, next_KE[donor] - step_E
        spread_K[unit] = spread_K[donor] = spread_K[donor] / 2
        counts_K[unit] = counts_K[donor] = counts_K[donor] / 2
    if spherical:
        next_KE = to_sphere(next_KE.astype(np.float32)).astype(np.float64)
    return next_KE, len(empty)
