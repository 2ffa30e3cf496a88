"""Frames in clouds whose middles are known, for the tests of k-means."""

from __future__ import annotations

import numpy as np


def blobs(num_frames=6_000, dim=8, num_blobs=10, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-10, 10, (num_blobs, dim))
    places = rng.integers(0, num_blobs, num_frames)
    return (centres[places] + rng.normal(0, 0.2, (num_frames, dim))).astype(np.float32), centres


def nearest_by_definition(frames, centroids):
    """By the squared distances themselves, in float64."""
    distances = ((frames[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return distances.argmin(axis=1)


def inertia_by_definition(frames, centroids):
    distances = ((frames[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return distances.min(axis=1).mean()
