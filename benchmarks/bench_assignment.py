"""Frames → units at D=768, K=500: ours in bfloat16 against scikit-learn's predict, one thread.

And what share of the peak of plain float32 products the exact path reaches, to which the second
bar belongs. Frames and centroids as in bench_kmeans.py; the units of both sides are compared before
anything is timed.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
from bench_kmeans import load_mfcc, split, widen
from paired import median_ratio, report
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from cslm_data.clustering.assignment import NearestCentroid
from cslm_data.clustering.kmeans import fit_kmeans

NUM_FRAMES = 20_000
ROWS = 1024


def load_estimator(centroids: np.ndarray) -> KMeans:
    """What predicts by these centroids, as fairseq and textless-lib have it."""
    estimator = KMeans(n_clusters=len(centroids), n_init=1, max_iter=1, init=centroids)
    estimator.fit(centroids)
    estimator.cluster_centers_ = centroids
    return estimator


def multiply(frames: np.ndarray, centroids_DK: np.ndarray) -> None:
    """The products alone, in pieces that stay in the cache."""
    for start in range(0, len(frames), ROWS):
        frames[start : start + ROWS] @ centroids_DK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, help=".npy of shape (N, 768) instead of made ones")
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        if options.features:
            wide = np.load(options.features)
        else:
            wide = widen(load_mfcc(Path(os.environ.get("CSLM_SHARED_DATA", "../shared/data"))))
        fitted, held_out = split(wide, 60_000)
        centroids = fit_kmeans(fitted, num_units=options.units, seed=0, num_iterations=5)
        centroids_KD = centroids.centroids_KE
        centroids_DK = np.ascontiguousarray(centroids_KD.T)
        frames = np.ascontiguousarray(held_out[:NUM_FRAMES])
        estimator = load_estimator(centroids_KD)
        fast = NearestCentroid(centroids_KD, bfloat16=True)
        exact = NearestCentroid(centroids_KD)
        theirs = estimator.predict(frames)
        for name, units in (("bfloat16", fast(frames)), ("float32", exact(frames))):
            same = float((units == theirs).mean())
            print(f"{name}: {same:.4%} of {len(frames)} units equal to scikit-learn's")
            assert same >= 0.9999, f"{name} gives other units"
        against_predict = median_ratio(
            lambda: fast(frames), lambda: estimator.predict(frames), rounds=options.rounds
        )
        of_peak = median_ratio(
            lambda: exact(frames), lambda: multiply(frames, centroids_DK), rounds=options.rounds
        )
    report(
        f"assignment D=768 K={options.units}, against scikit-learn predict", against_predict, 1.8
    )
    report("exact float32 assignment, share of the peak of its products", of_peak, 0.8)


if __name__ == "__main__":
    main()
