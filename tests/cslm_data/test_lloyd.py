from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from clouds import blobs

from cslm_data.clustering.assignment import assign_units
from cslm_data.clustering.lloyd import fast_arithmetic, lloyd
from cslm_data.clustering.moments import Moments, next_centroids


def spread_out(num_frames=20_000, dim=40, seed=0):
    """Frames without clusters, far from the origin, on different scales."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.2, 5, dim)
    return (rng.standard_normal((num_frames, dim)) * scales + 30).astype(np.float32)


def one_step(frames, centroids):
    """Lloyd's step by its definition."""
    units = assign_units(frames, centroids)
    means = np.array([frames[units == unit].mean(axis=0) for unit in range(len(centroids))])
    inertia = ((frames - centroids[units].astype(np.float64)) ** 2).sum(axis=1).mean()
    return means, inertia


# 8192 frames are a block: one block, several, and a last one of a single frame.
@pytest.mark.parametrize("num_frames", [3_000, 20_000, 8_193])
@pytest.mark.parametrize(("arithmetic", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.15)])
def test_a_step_is_the_mean_of_the_nearest(num_frames, arithmetic, tolerance):
    frames = spread_out(num_frames)
    starts = frames[:100].copy()
    centroids, inertia = lloyd(
        frames,
        starts,
        num_iterations=1,
        rng=np.random.default_rng(0),
        arithmetic=arithmetic,
    )
    means, expected = one_step(frames, starts)
    assert inertia == pytest.approx((expected,), rel=1e-3)
    assert np.abs(centroids - means).mean() < tolerance


@pytest.mark.parametrize("num_units", [2, 500, 5_000])
def test_bfloat16_reaches_the_inertia_of_float32(num_units):
    frames = spread_out()
    curves = [
        lloyd(
            frames,
            frames[:num_units],
            num_iterations=4,
            rng=np.random.default_rng(0),
            arithmetic=arithmetic,
        )[1]
        for arithmetic in ("bfloat16", "float32")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_where_clusters_are_fine_float32_takes_over(caplog):
    rng = np.random.default_rng(0)
    far = rng.standard_normal((10, 64)) * 100
    frames = (far[rng.integers(0, 10, 4_000)] + rng.standard_normal((4_000, 64)) * 0.1).astype(
        np.float32
    )
    with caplog.at_level(logging.INFO):
        ours, inertia = lloyd(frames, frames[:60], num_iterations=5, rng=np.random.default_rng(0))
    assert "too coarse" in caplog.text
    theirs, expected = lloyd(
        frames,
        frames[:60],
        num_iterations=5,
        rng=np.random.default_rng(0),
        arithmetic="float32",
    )
    np.testing.assert_array_equal(ours, theirs)
    assert inertia == expected


def test_the_result_does_not_depend_on_the_number_of_threads():
    frames = spread_out(60_000, dim=12)
    results = [
        lloyd(
            frames,
            frames[:30],
            num_iterations=3,
            rng=np.random.default_rng(0),
            num_threads=threads,
        )
        for threads in (1, 4)
    ]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_it_ends_when_nothing_moves():
    frames, _ = blobs(num_frames=2_000, num_blobs=4)
    steps: list[int] = []
    _, inertia = lloyd(
        frames,
        frames[:4],
        num_iterations=100,
        rng=np.random.default_rng(0),
        advance=steps.append,
    )
    assert len(inertia) == len(steps) < 50


def test_arithmetic_follows_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert fast_arithmetic("cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert fast_arithmetic("cpu") == "bfloat16"
    assert fast_arithmetic("cuda:1") == "bfloat16"


def moments_of(frames, units, num_units):
    found = Moments.nothing(num_units, frames.shape[1])
    found.add(np.asarray(units, np.uint16), np.asarray(frames, np.float32))
    return found


def test_moments_by_hand():
    frames = np.array([[1, 2], [3, 4], [0, 1]])
    found = moments_of(frames, [2, 0, 2], 4)
    found.add(np.array([0], np.uint16), np.array([[1, 1]], np.float32))
    assert found.counts_K.tolist() == [2, 0, 2, 0]
    assert found.sums_KE.tolist() == [[4, 5], [0, 0], [1, 3], [0, 0]]
    assert found.squares_K.tolist() == [27, 0, 6, 0]
    centroids = np.array([[2, 2.5], [9, 9], [0.5, 1.5], [7, 7]])
    # (1, 1.5) away twice, and (0.5, 0.5) twice: 3.25 + 3.25 + 0.5 + 0.5 over four frames.
    assert found.inertia(centroids) == pytest.approx(7.5 / 4)
    assert Moments.nothing(4, 2).inertia(centroids) == 0


def test_an_empty_unit_takes_half_of_the_widest_cluster_not_of_the_largest():
    # A hundred equal frames, four wide apart, and nothing for units 2 and 3.
    frames = np.concatenate([np.full((100, 2), 5.0), [[-9, 0], [9, 0], [0, 8], [0, -8]]])
    found = moments_of(frames, [0] * 100 + [1] * 4, 4)
    before = np.arange(8.0).reshape(4, 2)
    after, num_empty = next_centroids(found, before, spherical=False, rng=np.random.default_rng(0))
    assert num_empty == 2
    assert after[0].tolist() == [5, 5]
    assert len(np.unique(after, axis=0)) == 4
    assert np.abs(after[1:]).max() < 2.5, "parts of the wide cluster begin near its middle"


def test_with_nothing_to_split_an_empty_unit_stays():
    found = moments_of(np.full((10, 2), 5.0), [0] * 10, 3)
    before = np.array([[4.0, 4], [1, 1], [2, 2]])
    after, num_empty = next_centroids(found, before, spherical=False, rng=np.random.default_rng(0))
    assert num_empty == 2
    assert after.tolist() == [[5, 5], [1, 1], [2, 2]]


@pytest.mark.gpu
def test_a_gpu_reaches_the_same_inertia():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    frames = spread_out()
    curves = [
        lloyd(frames, frames[:200], num_iterations=5, rng=np.random.default_rng(0), device=device)[
            1
        ]
        for device in ("cpu", "cuda")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
